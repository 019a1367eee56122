"""The public keys of a ledger and the time of each: what an auditor is given, as keyring.json.

The file is a keyring of qp-capsule (Capsule Protocol Specification 1.0, section 8) with `starts` as our one addition,
so the protocol's own command reads it too. It holds nothing secret.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha3_256
from pathlib import Path
from typing import Any

from gatehouse.capsule.checkpoint import is_signature
from gatehouse.core.errors import SetupError

_VERSION = 1


def fingerprint(public_key: bytes) -> str:
    """SHA3-256 of the 32 bytes of a public key, as 64 lower-case hex characters.

    qp-capsule names a key by four of its hex characters, which two keys can share and an attacker can aim for.
    """
    return sha3_256(public_key).hexdigest()


@dataclass(frozen=True, slots=True)
class Epoch:
    """The time of one key.

    Attributes:
        number: counts up from 0.
        name: what `signed_by` says: our `fingerprint`, or qp-capsule's `qp_key_` and four characters.
        starts: chain -> the first sequence this key may sign there; a chain that is not named begins at 0. None when
            nobody wrote it down (qp-capsule does not): then only the order of epochs along the chain is known.
    """

    number: int
    public_key: bytes
    name: str
    created_at: datetime
    retired_at: datetime | None = None
    starts: Mapping[str, int] | None = None

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether this key made the signature."""
        return is_signature(signature, message, self.public_key)


@dataclass(frozen=True, slots=True)
class Keyring:
    """The public keys of a ledger, oldest first; the last one is active."""

    epochs: tuple[Epoch, ...]

    @property
    def active(self) -> Epoch:
        return self.epochs[-1]

    def find(self, signed_by: str) -> Epoch | None:
        """The epoch that a capsule's `signed_by` names: by name, or by the 16 hex characters of old qp-capsules."""
        for epoch in self.epochs:
            if signed_by == epoch.name or (epoch.starts is None and signed_by == epoch.public_key.hex()[:16]):
                return epoch
        return None

    def allows(self, epoch: Epoch, chain: str, sequence: int) -> bool:
        """Whether that epoch's key was the one to sign this sequence of this chain."""
        if epoch.starts is not None and sequence < epoch.starts.get(chain, 0):
            return False
        return not self.has_retired(epoch, chain, sequence)

    def has_retired(self, epoch: Epoch, chain: str, sequence: int) -> bool:
        """Whether a later key than that epoch's was the one to sign this sequence of this chain."""
        later = (other.starts for other in self.epochs if other.number > epoch.number)
        return any(starts is not None and sequence >= starts.get(chain, 0) for starts in later)

    def to_json(self) -> str:
        """The text of keyring.json."""
        epochs = [_epoch_to_json(epoch) for epoch in self.epochs]
        return json.dumps({"version": _VERSION, "active_epoch": self.active.number, "epochs": epochs}, indent=2) + "\n"


def read_keyring(path: Path) -> Keyring:
    """Read keyring.json, ours or qp-capsule's.

    Raises:
        SetupError: it is not there, or not a keyring.
    """
    try:
        data = json.loads(path.read_bytes())
        if data["version"] != _VERSION or not data["epochs"]:
            raise ValueError("its version is not 1, or it names no key")
        epochs = tuple(sorted((_epoch_from_json(epoch) for epoch in data["epochs"]), key=lambda epoch: epoch.number))
        # Section 8.5: unique within a keyring. qp-capsule's short names are not always.
        for what in ({epoch.name for epoch in epochs}, {epoch.number for epoch in epochs}):
            if len(what) != len(epochs):
                raise ValueError("two of its keys go by one name or number")
        if any(epoch.retired_at is None for epoch in epochs[:-1]) or data["active_epoch"] != epochs[-1].number:
            raise ValueError("its last key is not the only active one")
    except FileNotFoundError:
        raise SetupError(f"{path}: there is no keyring. Run `gatehouse prepare`, or name the one you have.") from None
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}. Let this user read it.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SetupError(f"{path}: it is not a keyring ({error}). Restore it from a backup.") from None
    return Keyring(epochs)


def _epoch_to_json(epoch: Epoch) -> dict[str, Any]:
    data: dict[str, Any] = {
        "epoch": epoch.number,
        "algorithm": "ed25519",
        "public_key_hex": epoch.public_key.hex(),
        "fingerprint": epoch.name,
        "created_at": epoch.created_at.isoformat(),
        "rotated_at": epoch.retired_at and epoch.retired_at.isoformat(),
        "status": "retired" if epoch.retired_at else "active",
    }
    return data if epoch.starts is None else data | {"starts": dict(epoch.starts)}


def _epoch_from_json(data: dict[str, Any]) -> Epoch:
    public_key = bytes.fromhex(data["public_key_hex"])
    name, starts, retired_at = data["fingerprint"], data.get("starts"), data.get("rotated_at")
    if data["algorithm"] != "ed25519" or len(public_key) != 32 or type(data["epoch"]) is not int:
        raise ValueError(f"epoch {data['epoch']} is not an Ed25519 key")
    if name not in (fingerprint(public_key), f"qp_key_{public_key.hex()[:4]}"):
        raise ValueError(f"epoch {data['epoch']} does not go by the fingerprint of its key")
    if starts is not None and not all(type(first) is int and first >= 0 for first in starts.values()):
        raise ValueError(f"epoch {data['epoch']} starts nowhere")
    created_at = datetime.fromisoformat(data["created_at"])
    return Epoch(data["epoch"], public_key, name, created_at, retired_at and datetime.fromisoformat(retired_at), starts)
