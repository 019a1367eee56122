"""With `audit.on_error: spool` a gateway records calls on disk while the database is away, and seals each once."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from gatehouse.core.errors import GovernanceUnavailable

from tests.stack.test_recorder import (  # the same fixtures: a recorder on a real Postgres
    database,
    die,
    ended,
    every_settled_row_has_its_capsule,
    intent,
    key_dir,
    lines,
    postgres,
    quick,
    rows,
    start,
    until,
)
from tests.support.postgres import Postgres

__all__ = ["database", "every_settled_row_has_its_capsule", "key_dir", "postgres", "quick", "start"]


def spooled(key_dir: Path) -> list[Path]:
    return list((key_dir.parent / "spool").glob("*.jsonl"))


async def test_calls_go_on_without_a_database_and_are_sealed_once_in_order_when_it_is_back(
    start: Any, database: str, key_dir: Path, postgres: Postgres, tmp_path: Path
) -> None:
    writer = await start(tmp_path, spooling=True)
    before, during, open_still = intent(), [intent() for _ in range(150)], intent()
    await writer.open(before)
    await asyncio.to_thread(postgres.stop)
    try:
        await until(lambda: not writer.writable)
        await asyncio.gather(*(writer.open(row) for row in [*during, open_still]))
        for row in [before, *during]:
            writer.settle(ended(row))
        await until(lambda: writer.backlog == 0)
        assert spooled(key_dir)
    finally:
        await asyncio.to_thread(postgres.start)
    await until(lambda: writer.writable)
    assert not spooled(key_dir)
    assert rows(database) == {row["call_id"]: "success" for row in [before, *during]} | {open_still["call_id"]: None}
    assert lines(tmp_path) == Counter(row["call_id"] for row in [before, *during])
    writer.settle(ended(open_still))
    await until(lambda: writer.backlog == 0)
    assert rows(database)[open_still["call_id"]] == "success"


async def test_what_a_dead_gateway_spooled_is_sealed_by_the_next_as_it_ended(
    start: Any, database: str, key_dir: Path, postgres: Postgres, tmp_path: Path
) -> None:
    victim = await start(tmp_path / "log", spooling=True)
    committed, done, unfinished = intent(), intent(), intent()
    await victim.open(committed)
    await asyncio.to_thread(postgres.stop)
    try:
        await until(lambda: not victim.writable)
        await victim.open(done)
        await victim.open(unfinished)
        victim.settle(ended(committed))
        victim.settle(ended(done))
        await until(lambda: victim.backlog == 0)
        await die(victim)
    finally:
        await asyncio.to_thread(postgres.start)
    with (spooled(key_dir)[0]).open("ab") as file:
        file.write(b'{"kind":"intent","row":{"call_id":"torn')
    # The next one spools nothing itself, and still takes over what it finds.
    await start(tmp_path / "log", spooling=False)
    expected = {committed["call_id"]: "success", done["call_id"]: "success", unfinished["call_id"]: "partial"}
    await until(lambda: rows(database) == expected)
    await until(lambda: lines(tmp_path / "log") == Counter(list(expected)))
    assert not spooled(key_dir)


async def test_a_spool_that_cannot_be_written_refuses_calls(
    start: Any, key_dir: Path, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await start(tmp_path, spooling=True)

    def full(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer._spool, "_append", full)
    await asyncio.to_thread(postgres.stop)
    try:
        await until(lambda: not writer.writable)
        refused = await asyncio.gather(*(writer.open(intent()) for _ in range(3)), return_exceptions=True)
        assert [type(result) for result in refused] == [GovernanceUnavailable] * 3
        row = intent()
        writer.settle(ended(row))
        await asyncio.sleep(1)
        assert writer.backlog == 1
    finally:
        await asyncio.to_thread(postgres.start)
    await until(lambda: writer.backlog == 0)
    assert lines(tmp_path) == Counter([row["call_id"]])
