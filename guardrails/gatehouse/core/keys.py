"""The installation secret, and one key for each purpose that is derived from it (HKDF with SHA-256, RFC 5869).

Promises: keys of two purposes have nothing in common; the newest secret writes, and every secret that is still
configured reads. The ledger's signing keys are others, and stay apart.
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
_KEY_BYTES: Final = 32  # of SHA-256, and of AES-256


class Purpose(StrEnum):
    """What a derived key is for."""

    MASKING = "masking"
    RECORDS = "records"
    REVIEW = "review"
    APPROVALS = "approvals"
    EPOCH = "epoch"


@dataclass(frozen=True, slots=True)
class DerivedKey:
    """The key of one purpose.

    Attributes:
        epoch: which secret it comes from, 8 lower-case hex characters; it says nothing about the secret.
        key: 32 bytes.
    """

    epoch: str
    key: bytes = field(repr=False)

    def mac(self, *parts: str | bytes) -> bytes:
        """The keyed hash of some parts (HMAC with SHA-256, 32 bytes); where each part ends counts too."""
        hashed = hmac.new(self.key, digestmod=hashlib.sha256)
        for part in parts:
            data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            hashed.update(len(data).to_bytes(8, "big"))
            hashed.update(data)
        return hashed.digest()


class InstallationKeys:
    """The keys of one installation: the same on each of its gateways, and after each restart.

    Args:
        secrets: the newest first; at least one, each of `MIN_SECRET_CHARS` characters or more.

    Raises:
        SetupError: there is none, or one is too short to be a secret.
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
        """Read them as they stand in `.env`: with commas between, the newest first.

        Raises:
            SetupError: as above.
        """
        return cls(*(secret for each in text.split(",") if (secret := each.strip())))

    def __repr__(self) -> str:
        return f"InstallationKeys(epoch={self.epoch})"

    @property
    def epochs(self) -> tuple[str, ...]:
        """The epochs that can be read, the newest first."""
        return tuple(reversed(self._secrets))

    def key(self, purpose: Purpose) -> DerivedKey:
        """The key that writes."""
        return DerivedKey(self.epoch, _derived(self._secrets[self.epoch], purpose))

    def key_of(self, purpose: Purpose, epoch: str) -> DerivedKey | None:
        """The key of an epoch; None where its secret is gone."""
        secret = self._secrets.get(epoch)
        return None if secret is None else DerivedKey(epoch, _derived(secret, purpose))

    def keys(self, purpose: Purpose) -> Iterator[DerivedKey]:
        """The key of each epoch, the newest first."""
        return (DerivedKey(epoch, _derived(self._secrets[epoch], purpose)) for epoch in self.epochs)


def _epoch(secret: str) -> str:
    return _derived(secret.encode(), Purpose.EPOCH)[:4].hex()


def _derived(secret: bytes, purpose: Purpose) -> bytes:
    """HKDF of one block: extract with a salt of our own, then expand for the purpose."""
    extracted = hmac.digest(b"gatehouse installation secret", secret, "sha256")
    return hmac.digest(extracted, b"gatehouse/" + purpose.encode() + b"\x01", "sha256")[:_KEY_BYTES]
