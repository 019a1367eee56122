"""`CapsuleLogger` works with Postgres: several writers share a chain, sessions end, and a changed record is found."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import psycopg
import pytest
from gatehouse.capsule.keyring import read_keyring
from gatehouse.capsule.keys import KEYRING_NAME
from gatehouse.core.clock import now
from gatehouse.core.errors import SetupError
from gatehouse.loggers.capsules.opening import keys_beside, open_store
from gatehouse.loggers.capsules.postgres import PostgresStore
from gatehouse.loggers.capsules.verify import sign_verified, verify_store
from gatehouse.loggers.capsules.writer import Writer

from tests.support.capsule_files import capsule, reference_verifies_rows, stored, written_before
from tests.support.capsules import verify_chain
from tests.support.postgres import Postgres


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.create_database()


def writer(url: str, keys: Path) -> Writer:
    nothing = list  # as good as any
    return Writer(open_store(url, keys), before_exit=nothing, before_fork=nothing, in_child=nothing)


def test_writers_of_one_chain_lose_nothing_and_qp_capsule_verifies_it(url: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    writers = [writer(url, keys) for _ in range(4)]

    def write(number: int) -> None:
        for each in range(50):
            writers[number].take(partial(capsule, each)).result(60)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in writers:
        each.stop()
    rows = stored(PostgresStore(url, keys))
    assert verify_chain(iter(rows), read_keyring(keys / KEYRING_NAME), chain="chat").sequence == 199
    assert reference_verifies_rows(rows, keys, tmp_path / "theirs") == 200


def test_a_session_that_is_ended_loses_nothing_and_writes_nothing_twice(url: str, tmp_path: Path) -> None:
    ours = writer(url, tmp_path / "keys")
    ours.take(partial(capsule, 1)).result(60)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'gatehouse capsules'"
            " and datname = current_database()"
        )
    ours.take(partial(capsule, 2)).result(60)
    ours.stop()
    assert len(stored(PostgresStore(url, tmp_path / "keys"))) == 2
    assert (ours.written, ours.lost) == (2, 0)


def test_whoever_changes_a_record_is_refused_or_found(url: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    ours = writer(url, keys)
    for number in range(5):
        ours.take(partial(capsule, number))
    ours.stop()
    keyring = read_keyring(keys / KEYRING_NAME)
    (report,) = verify_store(PostgresStore(url, keys), keyring)
    assert (report.records, report.finding) == (5, None)
    with psycopg.connect(url) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"), connection.transaction():
            connection.execute("delete from gatehouse_capsules.capsules")
        connection.execute("alter table gatehouse_capsules.capsules disable trigger all")
        connection.execute("update gatehouse_capsules.capsules set signed_by = 'x' where sequence = 3")
    (report,) = verify_store(PostgresStore(url, keys), keyring)
    assert str(report.finding).startswith("record 3 (")
    from gatehouse.capsule import keys as folder_of_keys

    with pytest.raises(SetupError, match="is not signed for"):
        sign_verified(PostgresStore(url, keys), folder_of_keys.load(keys), "chat")


def test_an_empty_database_has_no_chain_to_verify(url: str, tmp_path: Path) -> None:
    ours = writer(url, tmp_path / "keys")
    ours.take(partial(capsule, 1)).result(60)
    ours.stop()
    with psycopg.connect(url) as connection:
        connection.execute("drop schema gatehouse_capsules cascade")
    with pytest.raises(SetupError, match="this database has none"):
        list(verify_store(PostgresStore(url, tmp_path / "keys"), read_keyring(tmp_path / "keys" / KEYRING_NAME)))


# As CapsuleLogger made it in November 2026.
SCHEMA_OF_BEFORE = """
create schema gatehouse_capsules;
create table gatehouse_capsules.chains (
    chain     text primary key,
    size      bigint not null default 0,
    hash      text,
    signed_by text
);
create table gatehouse_capsules.capsules (
    chain         text not null,
    sequence      bigint not null,
    id            uuid not null unique,
    previous_hash text,
    canonical     bytea not null,
    hash          text not null,
    signature     text not null,
    signed_by     text not null,
    signed_at     timestamptz not null,
    primary key (chain, sequence)
);
"""


def test_tables_of_before_are_verified_and_appended_to(url: str, tmp_path: Path) -> None:
    file = written_before(tmp_path)
    keys = keys_beside(file)
    with closing(sqlite3.connect(file)) as before, psycopg.connect(url) as connection:
        connection.execute(SCHEMA_OF_BEFORE)
        for table, marks in (("chains", "%s, %s, %s, %s"), ("capsules", "%s, %s, %s, %s, %s, %s, %s, %s, %s")):
            rows = before.execute(f"select * from {table}").fetchall()
            connection.cursor().executemany(f"insert into gatehouse_capsules.{table} values ({marks})", rows)
    store = open_store(url, keys)
    store.append([capsule(4), capsule(5, "other"), capsule(6)], now())
    store.close()
    reports = list(verify_store(PostgresStore(url, keys), read_keyring(keys / KEYRING_NAME)))
    assert [(report.chain, report.records, report.finding) for report in reports] == [
        ("chat", 5, None),
        ("other", 2, None),
    ]


def test_a_time_that_python_cannot_hold_is_found(url: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    ours = writer(url, keys)
    ours.take(partial(capsule, 1))
    ours.stop()
    for time in ("infinity", "20000-01-01", "0044-03-15 BC", "2026-01-01"):
        with psycopg.connect(url) as connection:
            connection.execute("alter table gatehouse_capsules.capsules disable trigger all")
            connection.execute("update gatehouse_capsules.capsules set signed_at = %s", (time,))
        (report,) = verify_store(PostgresStore(url, keys), read_keyring(keys / KEYRING_NAME))
        assert "signed_at is stored as" in str(report.finding)
