"""Files of `CapsuleLogger`: read, verified by us, and verified by the Capsule Protocol's own implementation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import qp_capsule
from gatehouse.capsule.export import export_json
from gatehouse.capsule.keyring import read_keyring
from gatehouse.capsule.keys import KEYRING_NAME
from gatehouse.capsule.seal import SealedCapsule, verify_chain
from gatehouse.loggers.capsules.opening import keys_beside
from gatehouse.loggers.capsules.record import asked, document, failed
from gatehouse.loggers.capsules.sqlite import SqliteStore
from gatehouse.loggers.capsules.store import ReadableStore
from qp_capsule.cli import verify_chain as qp_verify_chain


def capsules_of(file: Path) -> list[SealedCapsule]:
    """Every record of the file's only chain."""
    return stored(SqliteStore(file, keys_beside(file)))


def stored(store: ReadableStore) -> list[SealedCapsule]:
    ends = store.ends()
    try:
        assert len(ends) <= 1
        return [capsule for end in ends for capsule in store.capsules(end.chain)]
    finally:
        store.close()


def verified(file: Path) -> int:
    """How many records verify; raises where one does not."""
    return verify_chain(iter(capsules_of(file)), read_keyring(keys_beside(file) / KEYRING_NAME)).sequence + 1


def reference_verifies(file: Path, scratch: Path) -> int:
    """How many records qp-capsule verifies with the public key alone; raises where one does not."""
    return reference_verifies_rows(capsules_of(file), keys_beside(file), scratch)


def reference_verifies_rows(rows: list[SealedCapsule], keys: Path, scratch: Path) -> int:
    theirs = [qp_capsule.Capsule.from_sealed_dict(record) for record in json.loads(b"".join(export_json(rows)))]
    public_key = read_keyring(keys / KEYRING_NAME).active.public_key.hex()
    result = qp_verify_chain(theirs, level="signatures", seal=qp_capsule.Seal(scratch), public_key=public_key)
    assert result.valid, result.errors
    return int(result.capsules_verified)


def capsule(number: int) -> dict[str, Any]:
    """One that can be given to a store."""
    call = asked({"litellm_call_id": f"call {number}", "model": "m", "call_type": "completion"}, "a" * 64)
    return document(call, failed(call, {}, None), agent_id="a", domain="chat", capsule_type="chat")
