"""`verify_ledger` finds and names every change that hypothesis makes behind the ledger's back.

The database's owner can switch the triggers off, so the changes are made as such. Columns come from the catalogue: one
that is added later is covered, or this fails.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from gatehouse.capsule import keys
from gatehouse.capsule.keyring import read_keyring
from gatehouse.capsule.keys import Signer
from gatehouse.capsule.merkle import Frontier
from gatehouse.capsule.seal import Fault, SealedCapsule, seal
from gatehouse.capsule.verification import ChainReport, LedgerFinding, LedgerProblem
from gatehouse.core.clock import now
from gatehouse.ledger.inspection import verify_ledger
from gatehouse.ledger.store import capsules as db
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from tests.support.gateway import REPOSITORY, Gateway
from tests.support.ledger import WrittenLedger
from tests.support.postgres import Postgres
from tests.support.redis_server import Redis

SIZE = 48
ROTATED_AT = 20
CHECKPOINTS = (13, 32, 44)
TABLES = ("capsules", "chains", "checkpoints")
LAST = CHECKPOINTS[-1]

sequences = st.integers(0, SIZE - 1)
thorough = settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
quick = settings(thorough, max_examples=20)


@pytest.fixture(scope="module")
def ledger(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> WrittenLedger:
    """Write a ledger with two keys, three checkpoints, and some records after the last of them."""
    made = WrittenLedger(postgres.create_database(), tmp_path_factory.mktemp("ledger"))
    old_key = (made.key_dir / "epoch-0.key").read_text()
    at = 0
    for stop in sorted({*CHECKPOINTS, ROTATED_AT, SIZE}):
        made.write(stop - at)
        at = stop
        if stop in CHECKPOINTS:
            made.checkpoint()
        if stop == ROTATED_AT:
            made.rotate()
    (made.folder / "retired.key").write_text(old_key)
    for table in TABLES:
        made.tamper(f"create table gatehouse.{table}_kept as table gatehouse.{table}")
    return made


@contextmanager
def restored(ledger: WrittenLedger) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection that may change everything; afterwards restore the ledger."""
    connection = psycopg.connect(ledger.url, autocommit=True)
    try:
        connection.execute("set session_replication_role = replica")
        connection.execute("alter table gatehouse.capsules drop constraint if exists capsules_id_key")
        yield connection
    finally:
        for table in TABLES:
            connection.execute(f"truncate gatehouse.{table}".encode())
            connection.execute(f"insert into gatehouse.{table} table gatehouse.{table}_kept".encode())
        connection.close()


def found(ledger: WrittenLedger, *, folder: bool = True) -> LedgerFinding | None:
    """Return the first finding of the verification, without the comparison of calls and capsules."""
    directory = ledger.folder / ("checkpoints" if folder else "none")
    for report in verify_ledger(ledger.url, directory, read_keyring(ledger.keyring)):
        if isinstance(report, ChainReport) and report.finding is not None:
            return report.finding
    return None


def columns(postgres_url: str) -> list[tuple[str, str, str]]:
    with psycopg.connect(postgres_url) as connection:
        query = """select table_name, column_name, data_type from information_schema.columns
                    where table_schema = 'gatehouse' and table_name = any(%s) order by 1, ordinal_position"""
        return connection.execute(query, (list(TABLES),)).fetchall()


def changed_text(draw: st.DrawFn, value: str) -> str:
    place = draw(st.integers(0, len(value) - 1))
    return value[:place] + draw(st.sampled_from("0123456789abcdefAZ/ \u00e9")) + value[place + 1 :]


def changed_bytes(draw: st.DrawFn, value: bytes) -> bytes:
    assume(value)
    place = draw(st.integers(0, len(value) - 1))
    return value[:place] + bytes([value[place] ^ draw(st.integers(1, 255))]) + value[place + 1 :]


def changed_uuid(draw: st.DrawFn, value: str) -> str:
    place = draw(st.integers(0, len(value) - 1))
    assume(value[place] != "-")
    return value[:place] + draw(st.sampled_from("0123456789abcdef")) + value[place + 1 :]


# For each type a changed value; a type that is not here makes the test fail, not pass.
CHANGES: dict[str, Callable[[st.DrawFn, Any], Any]] = {
    "text": changed_text,
    "bytea": changed_bytes,
    "uuid": lambda draw, value: changed_uuid(draw, str(value)),
    "bigint": lambda draw, value: value ^ (1 << draw(st.integers(0, 61))),
    "timestamp with time zone": lambda draw, value: value + timedelta(microseconds=draw(st.integers(1, 10**12))),
}


def test_nothing_changed_is_nothing_found(ledger: WrittenLedger) -> None:
    with restored(ledger):
        assert found(ledger) is None


def test_every_column_is_of_a_type_that_is_changed_here(ledger: WrittenLedger) -> None:
    found_columns = columns(ledger.url)
    assert {table for table, _, _ in found_columns} == set(TABLES)
    assert {kind for _, _, kind in found_columns} <= set(CHANGES)


@thorough
@given(data=st.data())
@pytest.mark.timeout(600)
def test_a_single_changed_byte_in_any_column_is_found(ledger: WrittenLedger, data: st.DataObject) -> None:
    table, column, kind = data.draw(st.sampled_from(columns(ledger.url)), label="column")
    with restored(ledger) as connection:
        rows = connection.execute(
            f"select ctid, {column} from gatehouse.{table} where {column} is not null order by 1".encode()
        ).fetchall()
        place, value = data.draw(st.sampled_from(rows), label="row")
        new = data.draw(st.composite(lambda draw: CHANGES[kind](draw, value))(), label="value")
        assume(new != (str(value) if kind == "uuid" else value))
        try:
            connection.execute(
                f"update gatehouse.{table} set {column} = %s where ctid = %s::text::tid".encode(), (new, place)
            )
        except psycopg.IntegrityError:
            return  # not even the owner can store that beside the others
        finding = found(ledger)
        assert finding is not None
        assert str(finding)
        if table == "capsules" and column not in ("chain", "sequence"):
            sequence = connection.execute(
                "select sequence from gatehouse.capsules where ctid not in (select k.ctid from gatehouse.capsules k"
                " join gatehouse.capsules_kept o using (chain, sequence) where k = o)"
            ).fetchone()
            assert sequence is None or finding.sequence == sequence[0]


@quick
@given(column=st.sampled_from(["previous_hash", "head_hash", "signed_by"]), sequence=st.integers(1, SIZE - 1))
def test_a_value_taken_away_is_found(ledger: WrittenLedger, column: str, sequence: int) -> None:
    with restored(ledger) as connection:
        if column == "previous_hash":
            connection.execute("update gatehouse.capsules set previous_hash = null where sequence = %s", (sequence,))
        else:
            connection.execute(f"update gatehouse.chains set {column} = null".encode())
        finding = found(ledger)
    assert finding is not None
    assert finding.problem == (Fault.COLUMN_MISMATCH if column == "previous_hash" else LedgerProblem.WRONG_HEAD)


@quick
@given(sequence=sequences)
def test_a_removed_record_is_found_and_named(ledger: WrittenLedger, sequence: int) -> None:
    with restored(ledger) as connection:
        connection.execute("delete from gatehouse.capsules where sequence = %s", (sequence,))
        finding = found(ledger)
    assert finding is not None
    assert finding.sequence == sequence
    assert finding.problem == (LedgerProblem.TAIL_CUT_OFF if sequence == SIZE - 1 else Fault.GAP)


@quick
@given(first=sequences, second=sequences)
def test_swapped_records_are_found_and_named(ledger: WrittenLedger, first: int, second: int) -> None:
    assume(first < second)
    with restored(ledger) as connection:
        swap = "update gatehouse.capsules set sequence = %s where sequence = %s"
        for step in ((-1, first), (first, second), (second, -1)):
            connection.execute(swap.encode(), step)
        finding = found(ledger)
    assert finding is not None
    assert (finding.problem, finding.sequence) == (Fault.COLUMN_MISMATCH, first)


@quick
@given(source=sequences, target=sequences, new_id=st.uuids(version=4), fresh=st.booleans())
def test_an_inserted_or_duplicated_record_is_found(
    ledger: WrittenLedger, source: int, target: int, new_id: Any, fresh: bool
) -> None:
    """The record stands between the others, which move up; it has another id, or is a plain copy."""
    with restored(ledger) as connection:
        connection.execute("update gatehouse.capsules set sequence = sequence + 1000 where sequence >= %s", (target,))
        connection.execute(
            "insert into gatehouse.capsules select chain, %s, case when %s then %s::uuid else id end, previous_hash,"
            " canonical, hash, signature, signed_by, signed_at, subtrees from gatehouse.capsules"
            " where sequence %% 1000 = %s",
            (target, fresh, new_id, source),
        )
        connection.execute("update gatehouse.capsules set sequence = sequence - 999 where sequence >= 1000")
        connection.execute("update gatehouse.chains set size = size + 1")
        finding = found(ledger)
    assert finding is not None
    assert finding.sequence is not None
    # A copy that stands where its original stood is right as far as it goes; what moved up behind it is not.
    assert finding.sequence in (target, target + 1)


def cut(connection: psycopg.Connection[Any], size: int) -> None:
    """Delete the tail, and make the head fit."""
    connection.execute("delete from gatehouse.capsules where sequence >= %s", (size,))
    move_head(connection)


def move_head(connection: psycopg.Connection[Any]) -> None:
    rows = connection.execute("select hash, signed_by from gatehouse.capsules order by sequence").fetchall()
    frontier, _ = Frontier().append(bytes.fromhex(digest) for digest, _ in rows)
    last = rows[-1] if rows else (None, None)
    connection.execute(
        "update gatehouse.chains set size = %s, head_hash = %s, signed_by = %s, frontier = %s",
        (len(rows), *last, frontier.to_bytes()),
    )


@quick
@given(size=st.integers(0, LAST - 1), table=st.booleans())
def test_a_cut_tail_is_found_against_the_last_checkpoint(ledger: WrittenLedger, size: int, table: bool) -> None:
    """The checkpoint is in the table, or, when that was cut too, in a witness's collection."""
    with restored(ledger) as connection:
        cut(connection, size)
        if not table:
            connection.execute("delete from gatehouse.checkpoints where size > %s", (size,))
            if not size:
                connection.execute("delete from gatehouse.chains")
        finding = found(ledger, folder=not table)
    assert finding is not None
    assert (finding.problem, finding.sequence) == (LedgerProblem.TAIL_CUT_OFF, size)


def reseal(connection: psycopg.Connection[Any], start: int, signer: Signer) -> None:
    """Rewrite history from `start` on with another signer; chain, tree and head fit."""
    frontier, previous = Frontier(), None
    rows = list(db.capsules(connection, "calls"))
    connection.execute("delete from gatehouse.capsules where sequence >= %s", (start,))
    for number, row in enumerate(rows):
        capsule: SealedCapsule = row.sealed
        if number >= start:
            document = json.loads(capsule.canonical)
            document["outcome"]["summary"] = "nothing happened"
            capsule = seal(document, sequence=number, previous_hash=previous, signer=signer, at=now())
        frontier, nodes = frontier.append([bytes.fromhex(capsule.hash)])
        previous = capsule.hash
        if number >= start:
            subtrees = b"".join(value for node, value in sorted(nodes.items()) if node.level)
            connection.execute(
                "insert into gatehouse.capsules values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                (
                    *("calls", number, capsule.id, capsule.previous_hash, capsule.canonical, capsule.hash),
                    *(capsule.signature, capsule.signed_by, capsule.signed_at, subtrees),
                ),
            )
    move_head(connection)


@quick
@given(start=sequences)
def test_a_suffix_sealed_again_with_another_key_is_found(ledger: WrittenLedger, start: int) -> None:
    with restored(ledger) as connection:
        reseal(connection, start, Signer(SigningKey.generate()))
        finding = found(ledger)
    assert finding is not None
    assert (finding.problem, finding.sequence) == (Fault.UNKNOWN_KEY, start)


@quick
@given(start=sequences)
def test_a_suffix_sealed_again_with_the_retired_key_is_found(ledger: WrittenLedger, start: int) -> None:
    retired = Signer(SigningKey(bytes.fromhex((ledger.folder / "retired.key").read_text().strip())))
    with restored(ledger) as connection:
        reseal(connection, start, retired)
        finding = found(ledger)
    assert finding is not None
    # Before its retirement that key was the right one: there, the first checkpoint after tells, or the next epoch.
    problems = (
        {Fault.KEY_OUTSIDE_EPOCH} if start >= ROTATED_AT else {Fault.KEY_OUTSIDE_EPOCH, LedgerProblem.WRONG_CHECKPOINT}
    )
    assert finding.problem in problems


@quick
@given(start=st.integers(ROTATED_AT, LAST - 1))
def test_a_suffix_sealed_again_with_the_right_key_is_found_against_a_checkpoint(
    ledger: WrittenLedger, start: int
) -> None:
    """An attacker with the key can rewrite everything except what a witness has seen."""
    with restored(ledger) as connection:
        reseal(connection, start, keys.load(ledger.key_dir).signer)
        finding = found(ledger)
    assert finding is not None
    assert finding.problem == LedgerProblem.WRONG_CHECKPOINT
    covering = min(size for size in CHECKPOINTS if size > start)
    assert f"of {covering} has root" in finding.detail


def test_a_whole_chain_replaced_is_found(ledger: WrittenLedger, tmp_path: Path) -> None:
    other = keys.create(tmp_path / "keys", now())
    with restored(ledger) as connection:
        reseal(connection, 0, other.signer)
        connection.execute("delete from gatehouse.checkpoints")
        finding = found(ledger)
    assert finding is not None
    assert finding.problem == Fault.UNKNOWN_KEY


def verified(gateway: Gateway, *options: str) -> tuple[int, str]:
    """Return how `gatehouse audit verify` ends for that gateway's ledger, and its output."""
    environ = {
        **os.environ,
        "DATABASE_URL": gateway.database_url,
        "GATEHOUSE_HOME": str(REPOSITORY),
        "GATEHOUSE_LOG_DIR": str(gateway.folder / "logs"),
        "GATEHOUSE_LEDGER_DIR": str(gateway.folder / "ledger"),
    }
    command = [Path(sys.executable).parent / "gatehouse", "audit", "verify", *options]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100, check=False)
    return done.returncode, done.stdout + done.stderr


def call(gateway: Gateway) -> None:
    with gateway.client() as client:
        client.post("/v1/chat/completions", json={"model": "demo", "messages": [{"role": "user", "content": "Hello"}]})


def test_the_newest_calls_are_missed_in_the_audit_log_where_no_checkpoint_covers_them_yet(
    postgres: Postgres, redis_server: Redis
) -> None:
    """The database's owner deletes them from every table, and makes the chain's end fit."""
    gateway = Gateway(postgres.create_database(), redis_server.port).start()
    try:
        done = threading.Event()

        def call_on() -> None:
            while not done.is_set():
                call(gateway)

        with ThreadPoolExecutor(4) as callers:
            try:
                busy = [callers.submit(call_on) for _ in range(4)]
                said = [verified(gateway) for _ in range(3)]
            finally:
                done.set()
            for each in busy:
                each.result()
        assert [code for code, _ in said] == [0, 0, 0], said
        gateway.wait_settled()
        code, found = verified(gateway)
        assert code == 0, found
        assert f"audit log: {len(gateway.lines())} lines" in found.replace(",", "")

        gateway.server.stop()
        with psycopg.connect(gateway.database_url) as connection:
            size = len(connection.execute("select from gatehouse.capsules").fetchall())
            connection.execute("set session_replication_role = replica")
            connection.execute("delete from gatehouse.checkpoints")
            connection.execute(
                "delete from gatehouse.calls c using gatehouse.capsules s where s.id = c.call_id and s.sequence >= %s",
                (size - 2,),
            )
            cut(connection, size - 2)
        # As if the gateway had not come to sign one over these two.
        shutil.rmtree(gateway.folder / "ledger" / "checkpoints", ignore_errors=True)
        code, found = verified(gateway)
        assert code == 1, found
        assert f"chain calls: {size - 2:,} records" in found
        assert f"audit log: BROKEN: record {size - 2} " in found
        assert f"{size - 2}-{size - 1}" in found
    finally:
        gateway.close()
