"""The installation secret, and one key for each purpose that is derived from it (HKDF with SHA-256, RFC 5869).

Promises: keys of two purposes have nothing in common; the newest secret writes, and every configured secret reads. The
ledger's signing keys do not come from this secret.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Self

from gatehouse.core.errors import SetupError

MIN_SECRET_CHARS: Final = 32
_KEY_BYTES: Final = 32  # the length of a SHA-256 hash, and of an AES-256 key


class Purpose(StrEnum):
    """Name what a derived key is for."""

    MASKING = "masking"
    RECORDS = "records"
    CONVERSATIONS = "stored conversations"
    REVIEW = "review"
    APPROVALS = "approvals"
    SIGN_IN = "sign-in"
    TAGS = "tags"
    EPOCH = "epoch"


@dataclass(frozen=True, slots=True)
class DerivedKey:
    """Hold the key of one purpose.

    Attributes:
        epoch: 8 lower-case hex characters that tell which secret the key comes from; they reveal nothing about it.
        key: 32 bytes.
    """

    epoch: str
    key: bytes = field(repr=False)

    def mac(self, *parts: str | bytes) -> bytes:
        """Return the keyed hash of some parts (HMAC with SHA-256, 32 bytes). It also covers where each part ends."""
        hashed = hmac.new(self.key, digestmod=hashlib.sha256)
        for part in parts:
            data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            hashed.update(len(data).to_bytes(8, "big"))
            hashed.update(data)
        return hashed.digest()


class InstallationKeys:
    """Derive the keys of one installation; they are the same on each of its gateways and after each restart.

    Args:
        secrets: the newest first; at least one, each of `MIN_SECRET_CHARS` characters or more.

    Raises:
        SetupError: there is no secret, or one is too short.
    """

    def __init__(self, *secrets: str) -> None:
        if not secrets:
            raise SetupError("GATEHOUSE_SECRET: not set. Run ./setup.sh, which adds one to .env.")
        if any(len(secret) < MIN_SECRET_CHARS for secret in secrets):
            raise SetupError(
                f"GATEHOUSE_SECRET: a secret has fewer than {MIN_SECRET_CHARS} characters. Take the line out of .env "
                "and run ./setup.sh, which makes a new one."
            )
        self._secrets = {_epoch(secret): secret.encode() for secret in reversed(secrets)}
        self.epoch = _epoch(secrets[0])

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the secrets as `.env` holds them: comma-separated, the newest first.

        Raises:
            SetupError: there is no secret, or one is too short.
        """
        return cls(*(secret for each in text.split(",") if (secret := each.strip())))

    def __repr__(self) -> str:
        return f"InstallationKeys(epoch={self.epoch})"

    @property
    def epochs(self) -> tuple[str, ...]:
        """Return the epochs that can be read, the newest first."""
        return tuple(reversed(self._secrets))

    def key(self, purpose: Purpose) -> DerivedKey:
        """Return the key that writes."""
        return DerivedKey(self.epoch, _derived(self._secrets[self.epoch], purpose))

    def key_of(self, purpose: Purpose, epoch: str) -> DerivedKey | None:
        """Return the key of an epoch; None where the epoch's secret is no longer configured."""
        secret = self._secrets.get(epoch)
        return None if secret is None else DerivedKey(epoch, _derived(secret, purpose))

    def keys(self, purpose: Purpose) -> Iterator[DerivedKey]:
        """Yield the key of each epoch, the newest first."""
        return (DerivedKey(epoch, _derived(self._secrets[epoch], purpose)) for epoch in self.epochs)


def _epoch(secret: str) -> str:
    return _derived(secret.encode(), Purpose.EPOCH)[:4].hex()


def _derived(secret: bytes, purpose: Purpose) -> bytes:
    """Derive one block with HKDF: extract with Gatehouse's own salt, then expand for the purpose."""
    extracted = hmac.digest(b"gatehouse installation secret", secret, "sha256")
    return hmac.digest(extracted, b"gatehouse/" + purpose.encode() + b"\x01", "sha256")[:_KEY_BYTES]
