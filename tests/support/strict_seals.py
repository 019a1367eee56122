"""Signs and encrypts what a model thinks, for the imitation of strict providers, and verifies what comes back.

The bytes follow from the content alone, so that any imitation of any test run verifies what another one issued.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

_KEY = b"a provider's own key"
_SEED_BYTES = 16
# As long as the providers' own: a signature has some hundred characters, an encrypted state more.
_SEAL_BYTES = 400


def signature(text: str) -> str:
    """Return the signature of a thought."""
    return base64.b64encode(_sealed("thinking", text.encode("utf-8", "surrogatepass"))).decode()


def encrypted(kind: str, content: str, *, prefix: str = "") -> str:
    """Return a content as only the provider can read it; `kind` is where it belongs."""
    seed = hashlib.sha256(f"{kind} {content}".encode("utf-8", "surrogatepass")).digest()[:_SEED_BYTES]
    return prefix + base64.urlsafe_b64encode(seed + _sealed(kind, seed)).decode()


def is_encrypted(kind: str, value: object, *, prefix: str = "") -> bool:
    """Tell whether `encrypted` issued this value, byte for byte."""
    if not isinstance(value, str) or not value.startswith(prefix) or not value.isascii():
        return False
    try:
        seed = base64.urlsafe_b64decode(value[len(prefix) :])[:_SEED_BYTES]
    except ValueError:
        return False
    return value == prefix + base64.urlsafe_b64encode(seed + _sealed(kind, seed)).decode()


def _sealed(kind: str, content: bytes) -> bytes:
    start = hmac.digest(_KEY, kind.encode() + b"\0" + content, "sha256")
    return hashlib.shake_256(start).digest(_SEAL_BYTES)
