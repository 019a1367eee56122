"""Checkpoints on a real Postgres: one for each size, followed by a witness, and none over a rewritten ledger."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from gatehouse.capsule.checkpoint import Checkpoint, Verifier, open_checkpoint, origin_of
from gatehouse.capsule.keys import KeyFolder
from gatehouse.capsule.merkle import consistency_nodes, consistency_proof, verify_consistency
from gatehouse.core import metrics
from gatehouse.core.errors import SetupError
from gatehouse.ledger import checkpointer as checkpoints
from gatehouse.ledger.checkpointer import Checkpointer, Inconsistent, sign_now
from gatehouse.ledger.store import capsules as db
from gatehouse.ledger.witness_folder import WitnessFolder

from tests.support.ledger import WrittenLedger
from tests.support.postgres import Postgres


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """Start a Postgres of this module's own, because the tests stop it."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def ledger(postgres: Postgres, tmp_path: Path) -> WrittenLedger:
    return WrittenLedger(postgres.create_database(), tmp_path)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


@pytest.fixture
def checkpointer(ledger: WrittenLedger, directory: Path) -> Checkpointer:
    return Checkpointer(ledger.url, KeyFolder(ledger.key_dir), directory)


@pytest.fixture(autouse=True)
def at_every_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.0)


def now_for(ledger: WrittenLedger, directory: Path, chain: str = "calls") -> bytes:
    with checkpoints.connect(ledger.url) as connection:
        return sign_now(connection, KeyFolder(ledger.key_dir), directory, chain)


def stored(ledger: WrittenLedger) -> list[tuple[str, int, bytes]]:
    with psycopg.connect(ledger.url) as connection:
        query = "select chain, size, note from gatehouse.checkpoints order by chain, size"
        return connection.execute(query).fetchall()


def opened(note: bytes, directory: Path, chain: str = "calls") -> Checkpoint:
    """Open a checkpoint as a witness does, with the folder alone."""
    (folder,) = (path.parent for path in directory.glob("*/verifier-keys") if origin_of(chain) in path.read_text())
    verifiers = [Verifier.parse(line) for line in (folder / "verifier-keys").read_text().splitlines()]
    return open_checkpoint(note, verifiers)


def damage(ledger: WrittenLedger, *statements: str) -> None:
    with psycopg.connect(ledger.url) as connection:
        connection.execute("alter table gatehouse.capsules disable trigger all")
        connection.execute("alter table gatehouse.checkpoints disable trigger all")
        for statement in statements:
            connection.execute(statement.encode())


def test_a_chain_that_grew_is_signed_and_laid_out(
    ledger: WrittenLedger, checkpointer: Checkpointer, directory: Path
) -> None:
    ledger.write(5)
    checkpointer.tick()
    checkpointer.tick()
    ledger.write(3)
    checkpointer.tick()
    assert [(chain, size) for chain, size, _ in stored(ledger)] == [("calls", 5), ("calls", 8)]
    folder = directory / "calls"
    notes = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert notes[f"{5:020}.checkpoint"] == stored(ledger)[0][2]
    assert notes[f"{8:020}.checkpoint"] == notes["latest"] == stored(ledger)[1][2]
    assert opened(notes["latest"], directory).size == 8
    assert (directory / "keyring.json").read_text() == ledger.keyring.read_text()
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_a_checkpoint_waits_for_a_thousand_capsules_or_a_minute(
    ledger: WrittenLedger, checkpointer: Checkpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "EVERY_S", 60.0)
    time = 1000.0
    monkeypatch.setattr(checkpoints, "monotonic", lambda: time)
    ledger.write(999)
    checkpointer.tick()
    assert not stored(ledger)
    ledger.write(1)
    checkpointer.tick()
    assert [size for _, size, _ in stored(ledger)] == [1000]
    ledger.write(1)
    checkpointer.tick()
    time += 59.9
    checkpointer.tick()
    assert [size for _, size, _ in stored(ledger)] == [1000]
    time += 0.2
    checkpointer.tick()
    assert [size for _, size, _ in stored(ledger)] == [1000, 1001]


def test_a_witness_follows_from_each_checkpoint_to_the_next(
    ledger: WrittenLedger, checkpointer: Checkpointer, directory: Path
) -> None:
    for count in (1, 6, 9, 16, 1, 30):
        ledger.write(count)
        checkpointer.tick()
    seen = [opened(note, directory) for _, _, note in stored(ledger)]
    assert [checkpoint.size for checkpoint in seen] == [1, 7, 16, 32, 33, 63]
    with db.reading(ledger.url) as connection:
        for first, second in itertools.pairwise(seen):
            nodes = db.tree_nodes(connection, "calls", consistency_nodes(first.size, second.size))
            proof = consistency_proof(first.size, second.size, nodes)
            verify_consistency(first.size, second.size, proof, first.root, second.root)


def test_several_gateways_sign_each_size_once(ledger: WrittenLedger, directory: Path) -> None:
    several = [Checkpointer(ledger.url, KeyFolder(ledger.key_dir), directory) for _ in range(4)]
    for _ in range(5):
        ledger.write(3)
        threads = [threading.Thread(target=one.tick) for one in several]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [size for _, size, _ in stored(ledger)] == [3, 6, 9, 12, 15]
    assert len(list((directory / "calls").glob("*.checkpoint"))) == 5


def test_the_folder_catches_up_with_the_table(
    ledger: WrittenLedger, checkpointer: Checkpointer, directory: Path, tmp_path: Path
) -> None:
    elsewhere = Checkpointer(ledger.url, KeyFolder(ledger.key_dir), tmp_path / "elsewhere")
    for _ in range(3):
        ledger.write(2)
        elsewhere.tick()
    checkpointer.tick()
    assert sorted(path.name for path in (directory / "calls").glob("*.checkpoint")) == [
        f"{size:020}.checkpoint" for size in (2, 4, 6)
    ]
    assert opened((directory / "calls" / "latest").read_bytes(), directory).size == 6


def test_after_a_rotation_the_new_key_signs_and_both_keys_are_laid_out(
    ledger: WrittenLedger, checkpointer: Checkpointer, directory: Path
) -> None:
    ledger.write(2)
    checkpointer.tick()
    ledger.rotate()
    ledger.write(2)
    checkpointer.tick()
    keys = (directory / "calls" / "verifier-keys").read_text().splitlines()
    assert len(keys) == 2
    assert [opened(note, directory).size for _, _, note in stored(ledger)] == [2, 4]
    with pytest.raises(ValueError, match="no signature of a trusted key"):
        open_checkpoint(stored(ledger)[1][2], [Verifier.parse(keys[0])])


CUT = (
    "delete from gatehouse.capsules where sequence >= 8",
    "update gatehouse.chains set size = 8, head_hash = (select hash from gatehouse.capsules where sequence = 7)",
)
ROLLED_BACK = [
    pytest.param(CUT, "rolled back or cut", id="tail-cut"),
    pytest.param(
        (*CUT, "delete from gatehouse.checkpoints"), "the folder's last checkpoint is over 12", id="table-cut-too"
    ),
    pytest.param(
        ("update gatehouse.capsules set hash = repeat('a', 64) where sequence = 12",), "not what its", id="leaf-changed"
    ),
    pytest.param(
        ("update gatehouse.capsules set subtrees = decode(repeat('ab', length(subtrees)), 'hex')",),
        "not what its",
        id="tree-changed",
    ),
    pytest.param(
        ("update gatehouse.chains set frontier = decode('000000000000000d' || repeat('ab', 96), 'hex')",),
        "not what its",
        id="head-changed",
    ),
    pytest.param(
        ("update gatehouse.checkpoints set note = decode('00', 'hex')",), "the table's last checkpoint", id="note-gone"
    ),
]


@pytest.mark.parametrize(("statements", "reason"), ROLLED_BACK)
def test_a_ledger_that_was_rolled_back_or_rewritten_is_not_signed_for(
    ledger: WrittenLedger,
    checkpointer: Checkpointer,
    directory: Path,
    caplog: pytest.LogCaptureFixture,
    statements: tuple[str, ...],
    reason: str,
) -> None:
    ledger.write(12)
    checkpointer.tick()
    if not statements[0].startswith("delete"):
        ledger.write(1)
    before, errors = stored(ledger), metrics.checkpoint_errors._value.get()
    damage(ledger, *statements)
    with caplog.at_level(logging.ERROR, logger="gatehouse.audit"):
        for _ in range(3):
            checkpointer.tick()
        with pytest.raises(Inconsistent, match=reason):
            now_for(ledger, directory)
    assert len(stored(ledger)) <= len(before)
    assert metrics.checkpoint_errors._value.get() == errors + 3
    said = [record.getMessage() for record in caplog.records if reason in record.getMessage()]
    assert len(said) == 1, caplog.text  # once, not each second
    assert "gatehouse audit verify" in said[0]
    assert opened((directory / "calls" / "latest").read_bytes(), directory).size == 12


@pytest.fixture
def head_of_eight(ledger: WrittenLedger, checkpointer: Checkpointer) -> tuple[str, ...]:
    """Sign checkpoints of 8 and 12 records; return the statements that take the database back to the first."""
    ledger.write(8)
    checkpointer.tick()
    ((head, signer, frontier),) = ledger.query("select head_hash, signed_by, frontier from gatehouse.chains")
    ledger.write(4)
    checkpointer.tick()
    return (
        "delete from gatehouse.capsules where sequence >= 8",
        "delete from gatehouse.checkpoints where size > 8",
        f"update gatehouse.chains set size = 8, head_hash = '{head}', signed_by = '{signer}',"
        f" frontier = decode('{frontier.hex()}', 'hex')",
    )


@pytest.fixture
def errors() -> Callable[[], float]:
    """Return how many errors were counted since."""
    before = metrics.checkpoint_errors._value.get()
    return lambda: metrics.checkpoint_errors._value.get() - before


def test_a_backup_from_the_moment_of_a_checkpoint_is_noticed_at_once(
    ledger: WrittenLedger, checkpointer: Checkpointer, head_of_eight: tuple[str, ...], errors: Callable[[], float]
) -> None:
    checkpointer.tick()
    assert errors() == 0
    damage(ledger, *head_of_eight)
    checkpointer.tick()
    assert errors() == 1
    ledger.write(4)
    checkpointer.tick()
    assert errors() == 2
    assert [size for _, size, _ in stored(ledger)] == [8]


def test_what_only_the_folder_remembers_is_not_outvoted_by_the_table(
    ledger: WrittenLedger,
    checkpointer: Checkpointer,
    head_of_eight: tuple[str, ...],
    errors: Callable[[], float],
    tmp_path: Path,
) -> None:
    """A gateway that lost its folder signs another history; a gateway with its folder refuses that."""
    damage(ledger, *head_of_eight)
    ledger.write(5)
    Checkpointer(ledger.url, KeyFolder(ledger.key_dir), tmp_path / "elsewhere").tick()
    assert [size for _, size, _ in stored(ledger)] == [8, 13]
    ledger.write(1)
    assert errors() == 0
    checkpointer.tick()
    assert errors() == 1
    assert [size for _, size, _ in stored(ledger)] == [8, 13]


def test_checkpoints_that_the_table_lost_come_back_with_the_next(
    ledger: WrittenLedger, checkpointer: Checkpointer, errors: Callable[[], float]
) -> None:
    ledger.write(3)
    checkpointer.tick()
    before = stored(ledger)
    damage(ledger, "delete from gatehouse.checkpoints")
    checkpointer.tick()
    assert (stored(ledger), errors()) == (before, 0)


@pytest.mark.parametrize("rotated", [False, True])
def test_a_gateway_that_was_overtaken_raises_no_alarm(
    ledger: WrittenLedger,
    checkpointer: Checkpointer,
    directory: Path,
    errors: Callable[[], float],
    monkeypatch: pytest.MonkeyPatch,
    rotated: bool,
) -> None:
    """While it was about to sign, another gateway signed for more records, with a new key."""
    other = Checkpointer(ledger.url, KeyFolder(ledger.key_dir), directory)
    look = Checkpointer._look

    def overtaken(self: Checkpointer, *arguments: Any) -> None:
        if self is checkpointer:
            if rotated:
                ledger.rotate()
            ledger.write(2)
            other.tick()
        look(self, *arguments)

    monkeypatch.setattr(Checkpointer, "_look", overtaken)
    ledger.write(1)
    checkpointer.tick()
    other._disconnect()
    assert [size for _, size, _ in stored(ledger)] == [3]
    assert errors() == 0


def test_gateways_that_write_the_same_file_do_not_get_in_each_others_way(directory: Path) -> None:
    """Gateways in containers share the folder, and each is process 1."""
    sizes = range(1, 61)

    def write(_: int) -> None:
        folder = WitnessFolder(directory)
        for size in sizes:
            folder.write("calls", size, b"gatehouse/calls\n%d\n" % size + b"x" * size * 1000)

    with ThreadPoolExecutor(4) as gateways:
        list(gateways.map(write, range(4)))
    names = {f"{size:020}.checkpoint" for size in sizes}
    assert {path.name for path in (directory / "calls").iterdir()} == names | {"latest"}
    assert all((directory / "calls" / f"{size:020}.checkpoint").stat().st_size > size * 1000 for size in sizes)


@pytest.mark.parametrize("forged", ["garbage", "another place"])
def test_what_no_gateway_signed_is_not_laid_out(
    ledger: WrittenLedger, checkpointer: Checkpointer, directory: Path, errors: Callable[[], float], forged: str
) -> None:
    ledger.write(2)
    checkpointer.tick()
    note = b"garbage" if forged == "garbage" else stored(ledger)[0][2]
    ledger.write(3)
    with psycopg.connect(ledger.url) as connection:
        connection.execute("insert into gatehouse.checkpoints values ('calls', 5, %s)", (note,))
    checkpointer.tick()
    assert errors() == 1
    assert [path.name for path in (directory / "calls").glob("*.checkpoint")] == [f"{2:020}.checkpoint"]
    assert opened((directory / "calls" / "latest").read_bytes(), directory).size == 2


@pytest.mark.parametrize("size", [-1, 2**63 - 1])
def test_a_head_of_impossible_size_is_refused(
    ledger: WrittenLedger, checkpointer: Checkpointer, errors: Callable[[], float], size: int
) -> None:
    ledger.write(2)
    damage(ledger, f"update gatehouse.chains set size = {size}")
    checkpointer.tick()
    assert errors() == 1
    assert not stored(ledger)


def test_one_chains_trouble_does_not_keep_the_others_from_being_signed(
    ledger: WrittenLedger,
    checkpointer: Checkpointer,
    directory: Path,
    errors: Callable[[], float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger.write(1)
    ledger.write(1, chain="calls/\U0001f980" + "\u00e9" * 250)
    directory.mkdir()
    (directory / "calls").write_text("in the way")
    for _ in range(2):
        checkpointer.tick()
    assert [chain for chain, _, _ in stored(ledger)] == ["calls/\U0001f980" + "\u00e9" * 250]
    assert len(list(directory.glob("*/*.checkpoint"))) == 1
    assert errors() == 2
    (said,) = [record.getMessage() for record in caplog.records]
    assert str(directory / "calls") in said


async def test_a_gateway_stops_while_the_database_stands_still(
    ledger: WrittenLedger, checkpointer: Checkpointer, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "TICK_S", 0.01)
    with ThreadPoolExecutor(1) as looking:
        asyncio.get_running_loop().set_default_executor(looking)
        running = asyncio.create_task(checkpointer.run())
        while checkpointer._connection is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        backend = checkpointer._connection.info.backend_pid
        os.kill(backend, signal.SIGSTOP)
        try:
            await asyncio.sleep(0.5)
            assert not running.done()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            # The interpreter waits for its threads when it ends.
            await asyncio.wait_for(asyncio.get_running_loop().shutdown_default_executor(), 10)
        finally:
            os.kill(backend, signal.SIGCONT)


def test_the_database_going_away_is_said_once_and_got_over(
    ledger: WrittenLedger, checkpointer: Checkpointer, postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.write(1)
    checkpointer.tick()
    postgres.stop()
    try:
        for _ in range(3):
            checkpointer.tick()
    finally:
        postgres.start()
    assert len(caplog.records) <= 2  # the connection that broke, and the one that was not to be had
    ledger.write(1)
    checkpointer.tick()
    assert [size for _, size, _ in stored(ledger)] == [1, 2]


def test_a_checkpoint_on_demand_is_the_one_that_is_there_or_a_new_one(ledger: WrittenLedger, directory: Path) -> None:
    with pytest.raises(SetupError, match="no capsule"):
        now_for(ledger, directory)
    ledger.write(4)
    first = now_for(ledger, directory)
    assert now_for(ledger, directory) == first
    ledger.write(1, chain="calls/../red")
    assert opened(now_for(ledger, directory, "calls/../red"), directory, "calls/../red").size == 1
    assert {path.name for path in directory.iterdir()} == {"keyring.json", "calls", "calls%2F..%2Fred"}


@pytest.fixture(autouse=True)
def closed(checkpointer: Checkpointer) -> Iterator[None]:
    yield
    checkpointer._disconnect()
