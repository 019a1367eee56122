"""The recorder and the recovery on a real Postgres make one row and one line a call, whenever a gateway dies."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from gatehouse.capsule import keys
from gatehouse.capsule.keys import KeyFolder
from gatehouse.capsule.seal import SealedCapsule
from gatehouse.core.call import Outcome, Status
from gatehouse.core.clock import new_call_id, now
from gatehouse.core.errors import GovernanceUnavailable
from gatehouse.ledger import recovery, settlement_writer
from gatehouse.ledger.audit_log import FILE_NAME, AuditLog
from gatehouse.ledger.recorder import Recorder
from gatehouse.ledger.settlement import Settlement, settlement
from gatehouse.ledger.settlement_writer import SettlementWriter

from tests.support.capsules import verify_chain
from tests.support.lines import audit_lines
from tests.support.postgres import Postgres, apply_migrations
from tests.support.process import PATIENCE_S

# Longer than a busy machine lets a process of a test stand still.
DEAD_AFTER_S = 2.5


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """Start a Postgres of this module's own, because the tests stop it."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def database(postgres: Postgres) -> str:
    url = postgres.create_database()
    apply_migrations(url)
    return url


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the intervals; the behaviour stays."""
    monkeypatch.setattr(settlement_writer, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(recovery, "DEAD_AFTER_S", DEAD_AFTER_S)


@pytest.fixture
def key_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ledger") / "keys"
    keys.create(folder, now())
    return folder


@pytest.fixture
async def start(database: str, key_dir: Path) -> AsyncIterator[Callable[..., Any]]:
    started: list[Recorder] = []

    async def one(folder: Path, **options: Any) -> Recorder:
        made = Recorder(database, AuditLog(folder), KeyFolder(key_dir), key_dir.parent / "spool", **options)
        await made.start()
        started.append(made)
        return made

    yield one
    for made in started:
        await made.stop(patience_s=1)


@pytest.fixture(autouse=True)
def every_settled_row_has_its_capsule(database: str, key_dir: Path) -> Iterator[None]:
    """Check after each test that the chain verifies, and holds each settled call once."""
    yield
    keyring = keys.load(key_dir).keyring
    chain = capsules(database)
    for name in {json.loads(capsule.canonical)["domain"] for capsule in chain}:
        verify_chain((row for row in chain if json.loads(row.canonical)["domain"] == name), keyring, chain=name)
    with psycopg.connect(database) as connection:
        settled = connection.execute("select call_id::text from gatehouse.calls where settled_at is not null")
        assert sorted(row[0] for row in settled) == sorted(capsule.id for capsule in chain)


def intent(**request: Any) -> dict[str, Any]:
    return {
        "call_id": str(new_call_id()),
        "started_at": now().isoformat(),
        "request": {"route": "/v1/chat/completions", **request},
        "decision": None,
    }


def ended(row: dict[str, Any], status: Status = Status.SUCCESS) -> Settlement:
    return settlement(
        call_id=UUID(row["call_id"]),
        started_at=datetime.fromisoformat(row["started_at"]),
        request=row["request"],
        decision=None,
        outcome=Outcome(status),
        ended_at=now(),
        duration_ms=1.0,
        by_team=False,
    )


def capsules(database: str) -> list[SealedCapsule]:
    with psycopg.connect(database) as connection:
        query = """select id::text, sequence, previous_hash, canonical, hash, signature, signed_by, signed_at
                     from gatehouse.capsules order by chain, sequence"""
        return [SealedCapsule(*row) for row in connection.execute(query)]


def rows(database: str) -> dict[str, str | None]:
    """Return each call's status by its id; None while it is open."""
    with psycopg.connect(database) as connection:
        query = "select call_id::text, record->'data'->>'status' from gatehouse.calls"
        return dict(connection.execute(query).fetchall())


def lines(folder: Path) -> Counter[str]:
    return Counter(line["data"]["call_id"] for line in audit_lines(folder / FILE_NAME))


async def until(true: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  # what is awaited happens in Postgres and on disk
            await asyncio.sleep(0.05)


async def die(victim: Recorder) -> None:
    """End as SIGKILL does: without a last write."""
    for task in victim._tasks:
        task.cancel()
    await asyncio.gather(*victim._tasks, return_exceptions=True)
    victim._tasks = []
    if victim._spool._lock is not None:  # as the kernel does
        os.close(victim._spool._lock)
        victim._spool._lock = None


async def test_an_intent_is_committed_when_open_returns(start: Any, database: str, tmp_path: Path) -> None:
    writer = await start(tmp_path)
    batch = [intent() for _ in range(300)]
    await asyncio.gather(*(writer.open(row) for row in batch))
    assert rows(database) == {row["call_id"]: None for row in batch}


async def test_every_ending_is_one_row_and_one_line(start: Any, database: str, tmp_path: Path) -> None:
    writer = await start(tmp_path)
    batch = [intent() for _ in range(700)]
    await asyncio.gather(*(writer.open(row) for row in batch[:500]))
    for row in batch:  # the last 200 were refused before they had an intent
        writer.settle(ended(row))
    await until(lambda: writer.backlog == 0)
    assert set(rows(database).values()) == {"success"}
    assert lines(tmp_path) == Counter(row["call_id"] for row in batch)


async def test_calls_of_a_dead_gateway_are_sealed_once_by_one_of_the_others(
    start: Any, database: str, tmp_path: Path
) -> None:
    victim = await start(tmp_path / "victim")
    batch = [intent() for _ in range(50)]
    await asyncio.gather(*(victim.open(row) for row in batch))
    await die(victim)
    for name in ("b", "c", "d"):
        await start(tmp_path / name)
    await until(lambda: set(rows(database).values()) == {"partial"})
    await asyncio.sleep(0.5)
    written = lines(tmp_path / "b") + lines(tmp_path / "c") + lines(tmp_path / "d")
    assert written == Counter(row["call_id"] for row in batch)


async def test_a_living_gateways_calls_are_left_alone(start: Any, database: str, tmp_path: Path) -> None:
    living = await start(tmp_path / "a")
    row = intent()
    await living.open(row)
    await start(tmp_path / "b")
    await asyncio.sleep(1.5 * DEAD_AFTER_S)
    assert rows(database) == {row["call_id"]: None}


async def test_a_gateway_taken_for_dead_by_mistake_writes_no_second_line(
    start: Any, database: str, tmp_path: Path
) -> None:
    paused = await start(tmp_path / "a")
    row = intent()
    await paused.open(row)
    await die(paused)
    await start(tmp_path / "b")
    await until(lambda: rows(database) == {row["call_id"]: "partial"})
    await until(lambda: lines(tmp_path / "b")[row["call_id"]] == 1)

    paused._tasks = [asyncio.create_task(paused._settlements.task.run())]
    paused.settle(ended(row))
    fresh = intent()
    paused.settle(ended(fresh))
    await until(lambda: paused.backlog == 0)
    assert lines(tmp_path / "a") == Counter([fresh["call_id"]])
    assert rows(database)[row["call_id"]] == "partial"
    paused._tasks.insert(0, asyncio.create_task(asyncio.sleep(0)))


async def test_a_gateway_that_is_stuck_between_row_and_line_until_it_is_taken_for_dead_writes_no_second_line(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = await start(tmp_path)
    row = intent()
    await stuck.open(row)
    commit, go_on = SettlementWriter._commit, asyncio.Event()

    async def commit_and_hang(writer: SettlementWriter, *arguments: Any) -> None:
        await commit(writer, *arguments)
        if writer is stuck._settlements:
            await go_on.wait()

    monkeypatch.setattr(SettlementWriter, "_commit", commit_and_hang)
    stuck.settle(ended(row))
    await start(tmp_path)
    await until(lambda: lines(tmp_path)[row["call_id"]] == 1)
    go_on.set()
    fresh = intent()
    stuck.settle(ended(fresh))
    await until(lambda: stuck.backlog == 0)
    assert lines(tmp_path) == Counter([row["call_id"], fresh["call_id"]])


@pytest.mark.parametrize("written", [False, True], ids=["line-missing", "line-there"])
async def test_a_line_is_written_once_when_the_gateway_dies_around_writing_it(
    start: Any, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """It dies between row and line, or between line and note: the next gateway on the folder repairs it."""
    victim = await start(tmp_path)
    row = intent()
    await victim.open(row)
    real = AuditLog.append

    def broken(log: AuditLog, records: Any) -> None:
        if written:
            real(log, records)
        raise asyncio.CancelledError

    monkeypatch.setattr(AuditLog, "append", broken)
    victim.settle(ended(row))
    await until(victim._tasks[1].done)
    assert rows(database) == {row["call_id"]: "success"}
    await die(victim)
    monkeypatch.setattr(AuditLog, "append", real)
    assert lines(tmp_path)[row["call_id"]] == (1 if written else 0)

    next_one = await start(tmp_path)
    await until(lambda: lines(tmp_path)[row["call_id"]] >= 1)
    await asyncio.sleep(1.5)
    assert next_one.backlog == 0
    assert lines(tmp_path)[row["call_id"]] == 1


async def test_a_database_that_goes_away_refuses_calls_and_loses_none(
    start: Any, database: str, postgres: Postgres, tmp_path: Path
) -> None:
    writer = await start(tmp_path)
    batch = [intent() for _ in range(100)]
    await asyncio.gather(*(writer.open(row) for row in batch))
    await asyncio.to_thread(postgres.stop)
    try:
        for row in batch:
            writer.settle(ended(row))
        await until(lambda: not writer.writable)
        with pytest.raises(GovernanceUnavailable):
            await writer.open(intent())
        assert writer.backlog == 100
    finally:
        await asyncio.to_thread(postgres.start)
    await until(lambda: writer.backlog == 0)
    assert set(rows(database).values()) == {"success"}
    assert lines(tmp_path) == Counter(row["call_id"] for row in batch)


async def test_a_full_disk_keeps_lines_until_there_is_room(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await start(tmp_path)
    row = intent()
    real = AuditLog.append

    def full(log: AuditLog, records: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(AuditLog, "append", full)
    writer.settle(ended(row))
    await asyncio.sleep(0.5)
    assert writer.backlog == 1
    monkeypatch.setattr(AuditLog, "append", real)
    await until(lambda: writer.backlog == 0)
    assert lines(tmp_path) == Counter([row["call_id"]])


async def test_a_record_that_postgres_refuses_does_not_hold_up_the_others(
    start: Any, database: str, tmp_path: Path
) -> None:
    """The edge cleans names; this test covers a name that it missed."""
    writer = await start(tmp_path)
    good, bad = intent(), intent()
    hopeless = intent() | {"request": {"model": "NUL \0"}}
    opened = await asyncio.gather(*(writer.open(row) for row in (good, hopeless, bad)), return_exceptions=True)
    assert [type(result) for result in opened] == [type(None), GovernanceUnavailable, type(None)]
    poisoned = ended(bad)
    poisoned.record["data"]["model"] = "NUL \0 in a name"
    writer.settle(poisoned)
    writer.settle(ended(good))
    await until(lambda: writer.backlog == 0)
    assert rows(database) == {good["call_id"]: "success", bad["call_id"]: "success"}
    assert lines(tmp_path) == Counter([good["call_id"], bad["call_id"]])


async def test_stopping_writes_what_is_left(start: Any, database: str, tmp_path: Path) -> None:
    writer = await start(tmp_path)
    batch = [intent() for _ in range(20)]
    for row in batch:
        writer.settle(ended(row))
    await writer.stop()
    assert lines(tmp_path) == Counter(row["call_id"] for row in batch)
    with psycopg.connect(database) as connection:
        ended_at = connection.execute("select ended_at from gatehouse.gateways").fetchone()
    assert ended_at is not None
    assert ended_at[0] is not None


def test_migrations_apply_once_when_gateways_start_together(postgres: Postgres) -> None:
    from concurrent.futures import ThreadPoolExecutor

    url = postgres.create_database()
    with ThreadPoolExecutor(8) as pool:
        applied = list(pool.map(lambda _: apply_migrations(url), range(8)))
    assert sum(applied) == max(applied) > 0


async def test_a_batch_whose_answer_was_lost_is_sealed_once(
    start: Any, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch was committed, but the connection broke before the writer knew: it sends the batch again."""
    writer = await start(tmp_path)
    batch = [intent() for _ in range(5)]
    real, calls = settlement_writer.calls.settled_before, []

    async def broken(*args: Any) -> Any:
        calls.append(args)
        return await real(*args)

    commit = SettlementWriter._commit

    async def twice(self: SettlementWriter, *args: Any) -> None:
        await commit(self, *args)
        if not calls:
            monkeypatch.setattr(settlement_writer.calls, "settled_before", broken)
            self._unlogged.clear()  # what it would have noted
            calls.append(())
            raise psycopg.OperationalError("the answer was lost")

    monkeypatch.setattr(SettlementWriter, "_commit", twice)
    for row in batch:
        writer.settle(ended(row))
    await until(lambda: lines(tmp_path).total() == 5 and writer.backlog == 0)
    assert len(calls) == 2
    assert lines(tmp_path) == Counter(row["call_id"] for row in batch)


async def test_a_line_says_where_its_capsule_is(start: Any, database: str, tmp_path: Path) -> None:
    writer = await start(tmp_path)
    for _ in range(3):
        writer.settle(ended(intent()))
    await until(lambda: writer.backlog == 0)
    said = {
        line["data"]["call_id"]: (line["data"]["capsule"]["sequence"], line["data"]["capsule"]["hash"])
        for line in audit_lines(tmp_path / FILE_NAME)
    }
    assert said == {capsule.id: (capsule.sequence, capsule.hash) for capsule in capsules(database)}


async def test_each_team_has_a_chain_of_its_own_when_asked_for(
    start: Any, database: str, key_dir: Path, tmp_path: Path
) -> None:
    by_team = await start(tmp_path / "a", by_team=True)
    rows_of = {team: [intent(caller={"team": team}) for _ in range(4)] for team in ("red", "../blue", None)}
    for row in itertools.chain(*zip(*rows_of.values(), strict=True)):
        by_team.settle(
            settlement(
                call_id=UUID(row["call_id"]),
                started_at=now(),
                request=row["request"],
                decision=None,
                outcome=Outcome(Status.SUCCESS),
                ended_at=now(),
                duration_ms=1.0,
                by_team=True,
            )
        )
    await until(lambda: by_team.backlog == 0)
    keyring = keys.load(key_dir).keyring
    for team, chain in (("red", "calls/red"), ("../blue", "calls/../blue"), (None, "calls")):
        with psycopg.connect(database) as connection:
            query = """select id::text, sequence, previous_hash, canonical, hash, signature, signed_by, signed_at
                         from gatehouse.capsules where chain = %s order by sequence"""
            found = [SealedCapsule(*row) for row in connection.execute(query, (chain,))]
        assert {capsule.id for capsule in found} == {row["call_id"] for row in rows_of[team]}
        verify_chain(iter(found), keyring, chain=chain)


async def test_without_a_usable_key_calls_are_refused_and_nothing_is_lost(
    start: Any, database: str, key_dir: Path, tmp_path: Path
) -> None:
    writer = await start(tmp_path)
    moved = key_dir.rename(key_dir.with_name("moved"))
    row = intent()
    writer.settle(ended(row))
    await until(lambda: not writer.writable)
    with pytest.raises(GovernanceUnavailable):
        await writer.open(intent())
    moved.rename(key_dir)
    await until(lambda: writer.writable and writer.backlog == 0)
    assert lines(tmp_path) == Counter([row["call_id"]])


async def test_a_gateway_with_the_keys_of_before_a_rotation_does_not_sign(
    start: Any, database: str, key_dir: Path, tmp_path: Path
) -> None:
    stale = tmp_path / "stale"
    shutil.copytree(key_dir, stale)
    first = await start(tmp_path / "a")
    first.settle(ended(intent()))
    await until(lambda: first.backlog == 0)
    with psycopg.connect(database, autocommit=True) as connection:
        fresh = keys.rotate(key_dir, {"calls": 1}, now())
        connection.execute("update gatehouse.chains set signed_by = %s", (fresh.signer.signed_by,))
    row = intent()
    late = Recorder(database, AuditLog(tmp_path / "b"), KeyFolder(stale), tmp_path / "spool")
    await late.start()
    late.settle(ended(row))
    await until(lambda: not late.writable)
    assert row["call_id"] not in {capsule.id for capsule in capsules(database)}
    first.settle(ended(intent()))
    await until(lambda: first.backlog == 0)
    assert [capsule.signed_by for capsule in capsules(database)][-1] == fresh.signer.signed_by
    await late.stop(patience_s=0.1)


async def test_a_restart_of_the_database_costs_no_call(start: Any, postgres: Postgres, tmp_path: Path) -> None:
    """Idle connections broke: the next intent finds another."""
    writer = await start(tmp_path)
    await writer.open(intent())
    await asyncio.to_thread(postgres.stop)
    await asyncio.to_thread(postgres.start)
    await until(lambda: writer.writable)
    batch = [intent() for _ in range(20)]
    await asyncio.gather(*(writer.open(row) for row in batch))
    for row in batch:
        writer.settle(ended(row))
    await until(lambda: writer.backlog == 0)


async def test_a_gateway_under_more_load_than_it_can_write_still_shows_life(
    start: Any, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Endings come faster than they are written: the heartbeat continues, and dead gateways are still found."""
    victim = await start(tmp_path / "victim")
    row = intent()
    await victim.open(row)
    await die(victim)
    writer = await start(tmp_path / "a")
    commit = SettlementWriter._commit

    async def slow(self: SettlementWriter, *args: Any) -> None:
        await commit(self, *args)
        await asyncio.sleep(0.05)
        for _ in range(settlement_writer._BATCH):
            writer.settle(ended(intent()))

    monkeypatch.setattr(SettlementWriter, "_commit", slow)
    writer.settle(ended(intent()))
    await until(lambda: rows(database).get(row["call_id"]) == "partial", 30)
    assert writer.backlog > 0
    monkeypatch.setattr(SettlementWriter, "_commit", commit)
    await until(lambda: writer.backlog == 0, 30)
