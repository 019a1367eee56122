"""The reviewer's copy of a request: all that its approval binds, and the values behind placeholders, both encrypted.

Promises: each approval has a key of its own, which is wrapped under the installation secret; without the wrapped key
nothing of a copy can be read any more, so erasing that ends it. What is opened is exactly what was bound. Pure but for
the randomness of keys and nonces.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gatehouse.approvals.binding import Bound
from gatehouse.approvals.model import ReviewCopy
from gatehouse.core.errors import Gone
from gatehouse.core.keys import InstallationKeys, Purpose
from gatehouse.core.text import storable

_KEY_BITS: Final = 256
_NONCE_BYTES: Final = 12  # what AES-GCM is made for (NIST SP 800-38D, 5.2.1.1)


def seal(keys: InstallationKeys, bound: Bound, values: Mapping[str, str]) -> ReviewCopy:
    """Make the copy of a request.

    Args:
        values: what each placeholder in it stands for.
    """
    wrapping, own = keys.key(Purpose.REVIEW), AESGCM.generate_key(_KEY_BITS)
    said = json.dumps(dict(values)).encode()
    return ReviewCopy(
        wrapping.epoch,
        _encrypted(wrapping.key, own, "key", bound.digest),
        _encrypted(own, zlib.compress(bound.canonical), "request", bound.digest),
        _encrypted(own, zlib.compress(said), "values", bound.digest),
    )


def open_request(keys: InstallationKeys, kept: ReviewCopy, digest: str) -> dict[str, Any]:
    """Open the request of a copy: caller, route, body and policy_version.

    Args:
        digest: what the request was bound to when it was asked.

    Raises:
        Gone: it cannot be opened any more.
    """
    canonical = _opened(keys, kept, kept.request, "request", digest)
    if hashlib.sha256(canonical).hexdigest() != digest:
        raise _lost("it is not what was asked")
    request: dict[str, Any] = json.loads(canonical)
    return request


def open_values(keys: InstallationKeys, kept: ReviewCopy, digest: str) -> dict[str, str]:
    """Open what the placeholders of a copy stand for.

    Raises:
        Gone: it cannot be opened any more.
    """
    values: dict[str, str] = json.loads(_opened(keys, kept, kept.values, "values", digest))
    return {placeholder: storable(value) for placeholder, value in values.items()}


def _opened(keys: InstallationKeys, kept: ReviewCopy, sealed: bytes, what: str, digest: str) -> bytes:
    wrapping = keys.key_of(Purpose.REVIEW, kept.epoch)
    if wrapping is None:
        raise _lost("the secret that it was encrypted under is no longer configured")
    try:
        return zlib.decompress(
            _decrypted(_decrypted(wrapping.key, kept.key, "key", digest), sealed, what, digest),
        )
    except (InvalidTag, ValueError, zlib.error):
        raise _lost("it was changed where it is kept") from None


def _lost(why: str) -> Gone:
    return Gone(f"The reviewer's copy of this request cannot be opened: {why}. Reject it, and have it asked for again.")


def _encrypted(key: bytes, data: bytes, what: str, digest: str) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, data, _place(what, digest))


def _decrypted(key: bytes, sealed: bytes, what: str, digest: str) -> bytes:
    return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _place(what, digest))


def _place(what: str, digest: str) -> bytes:
    """What ties a ciphertext to its place, so that none passes for another."""
    return f"gatehouse review copy 1 {what} {digest}".encode()
