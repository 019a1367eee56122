"""Writes a ledger on a real Postgres as a gateway does, without a gateway, for tests of the code that reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from gatehouse.capsule import keys
from gatehouse.capsule.checkpoint import Checkpoint, origin_of, sign_checkpoint
from gatehouse.capsule.keys import KeyFolder, Keys
from gatehouse.capsule.merkle import Frontier
from gatehouse.core.clock import new_call_id, now
from gatehouse.ledger.appender import append
from gatehouse.ledger.store import calls, chains
from gatehouse.ledger.witness_folder import WitnessFolder
from gatehouse.storage.connection import connect

from tests.support.capsules import capsule
from tests.support.postgres import apply_migrations

GATEWAY = UUID(int=7)


class WrittenLedger:
    """Holds a ledger's schema, keys and folder, and its database's URL."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        apply_migrations(url)
        keys.create(self.key_dir, now())

    @property
    def key_dir(self) -> Path:
        return self.folder / "keys"

    @property
    def keyring(self) -> Path:
        return self.key_dir / "keyring.json"

    def keys(self) -> Keys:
        return keys.load(self.key_dir)

    def write(self, count: int, chain: str = "calls", **changes: Any) -> list[str]:
        """Write so many settled calls with their capsules; return their ids."""
        documents = [capsule(call_id=new_call_id(), chain=chain, started_at=now(), **changes) for _ in range(count)]
        asyncio.run(self._write(documents))
        return [document["id"] for document in documents]

    async def _write(self, documents: list[dict[str, Any]]) -> None:
        held = KeyFolder(self.key_dir)
        async with await connect(self.url) as connection:
            for first in range(0, len(documents), 500):
                batch = documents[first : first + 500]
                async with connection.transaction():
                    rows = [
                        {
                            "call_id": document["id"],
                            "started_at": now().isoformat(),
                            "request": {},
                            "decision": None,
                            "record": {},
                        }
                        for document in batch
                    ]
                    await calls.settle(connection, GATEWAY, rows)
                    await append(connection, held, batch, now())

    def rotate(self) -> Keys:
        async def rotate() -> Keys:
            async with await connect(self.url) as connection, connection.transaction():
                held = keys.rotate(self.key_dir, await chains.lock_all_heads(connection), now())
                await chains.rotate_heads(connection, held.keyring.active.name)
            return held

        return asyncio.run(rotate())

    def checkpoint(self, chain: str = "calls") -> bytes:
        """Sign a checkpoint over all records, for table and folder."""
        row = self.query("select size, frontier from gatehouse.chains where chain = %s", chain)[0]
        signed = Checkpoint(origin_of(chain), row[0], Frontier.from_bytes(row[1]).root())
        held = self.keys()
        note = sign_checkpoint(signed, held.keyring.active.public_key, held.signer.sign)
        self.tamper("insert into gatehouse.checkpoints (chain, size, note) values (%s, %s, %s)", chain, row[0], note)
        WitnessFolder(self.folder / "checkpoints").write(chain, row[0], note)
        return note

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def tamper(self, statement: str, *values: object) -> None:
        """Change rows that the table protects, as the database's owner can."""
        with psycopg.connect(self.url) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(statement.encode(), values)

    def tamper_all(self, statements: Iterable[str]) -> None:
        for statement in statements:
            self.tamper(statement)
