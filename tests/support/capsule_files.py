"""Reads files of `CapsuleLogger`, and verifies them with our code and with the Capsule Protocol's reference code."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import qp_capsule
from gatehouse.capsule.export import export_json
from gatehouse.capsule.keyring import read_keyring
from gatehouse.capsule.keys import KEYRING_NAME
from gatehouse.capsule.seal import SealedCapsule
from gatehouse.loggers.capsules.opening import keys_beside
from gatehouse.loggers.capsules.record import Asked, asked, document, failed
from gatehouse.loggers.capsules.sqlite import SqliteStore
from gatehouse.loggers.capsules.store import ChainStore
from qp_capsule.cli import verify_chain as qp_verify_chain

from tests.support.capsules import verify_chain


def capsules_of(file: Path) -> list[SealedCapsule]:
    """Return every record of the file's only chain."""
    return stored(SqliteStore(file, keys_beside(file)))


def stored(store: ChainStore) -> list[SealedCapsule]:
    ends = store.ends()
    try:
        assert len(ends) <= 1
        return [record.sealed for end in ends for record in store.capsules(end.chain)]
    finally:
        store.close()


def verified(file: Path) -> int:
    """Return how many records verify; raise where one does not."""
    return verify_chain(iter(capsules_of(file)), read_keyring(keys_beside(file) / KEYRING_NAME)).sequence + 1


def reference_verifies(file: Path, scratch: Path) -> int:
    """Return how many records qp-capsule verifies with the public key alone; raise where one does not."""
    return reference_verifies_rows(capsules_of(file), keys_beside(file), scratch)


def reference_verifies_rows(rows: list[SealedCapsule], keys: Path, scratch: Path) -> int:
    theirs = [qp_capsule.Capsule.from_sealed_dict(record) for record in json.loads(b"".join(export_json(rows)))]
    public_key = read_keyring(keys / KEYRING_NAME).active.public_key.hex()
    result = qp_verify_chain(theirs, level="signatures", seal=qp_capsule.Seal(scratch), public_key=public_key)
    assert result.valid, result.errors
    return int(result.capsules_verified)


def capsule(number: int, chain: str = "chat") -> dict[str, Any]:
    """Return a capsule that can be given to a store."""
    call = asked({"litellm_call_id": f"call {number}", "model": "m", "call_type": "completion"}, Asked("a" * 64))
    return document(call, failed(call, {}, None), agent_id="a", domain=chain, capsule_type="chat")


def written_before(folder: Path) -> Path:
    """Return a file and keys as CapsuleLogger wrote them in November 2026: three records of `chat`, one of `other`."""
    file = folder / "capsules.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(Path(__file__).with_name("capsules_written_before.sql").read_text())
        connection.execute("pragma journal_mode = wal")
    keys = keys_beside(file)
    keys.mkdir()
    (keys / "epoch-0.key").touch(mode=0o600)
    (keys / "epoch-0.key").write_text("d387f40ab78f65db42488ea838fe07448c9dc9a0ca640313e349b7f9c9e5675f\n")
    epoch = {
        "epoch": 0,
        "algorithm": "ed25519",
        "public_key_hex": "fbb91382ffc61393d71d252c05ec979720c889d1ebe19e25e788d5b9ba86b159",
        "fingerprint": "5bcd08b29a04a26b2a2fd66a5867cdd13c3247906c717f2f13e0b0178d59ad04",
        "created_at": "2026-11-01T12:00:00+00:00",
        "rotated_at": None,
        "status": "active",
        "starts": {},
    }
    (keys / KEYRING_NAME).write_text(json.dumps({"version": 1, "active_epoch": 0, "epochs": [epoch]}))
    return file
