"""LiteLLM's migrations run on a real Postgres once, as Prisma would record them, and never half."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from gatehouse.core.errors import SetupError
from gatehouse.storage.litellm_schema import (
    PRISMA_LOCK,
    Migration,
    apply_litellm_migrations,
    build_request_log_indexes,
    shipped_migrations,
)

from tests.support.postgres import Postgres
from tests.support.process import wait_until

GOOD = Migration("1_good", b"create table good (id int)")
HALF = Migration("2_half", b"create table half (id int); select 1/0")
FIXED = Migration("2_half", b"create table half (id int)")
OUTSIDE = Migration("3_outside", b"-- one statement\ncreate index concurrently good_id on good (id)")
ROW = "checksum, finished_at is not null, logs, rolled_back_at is not null, applied_steps_count"


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()


def run(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def exists(url: str, relation: str) -> bool:
    return bool(query(url, f"select to_regclass('{relation}') is not null")[0][0])


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.create_database()


def test_every_migration_is_recorded_as_prisma_records_it(url: str) -> None:
    seen: list[tuple[int, int]] = []
    shipped = shipped_migrations()
    assert apply_litellm_migrations(url, lambda done, total: seen.append((done, total))) == len(shipped)
    assert seen == [(done, len(shipped)) for done in range(1, len(shipped) + 1)]
    rows = query(url, f"select migration_name, {ROW} from _prisma_migrations order by started_at")
    assert rows == [
        (migration.name, hashlib.sha256(migration.script).hexdigest(), True, None, False, 1) for migration in shipped
    ]
    assert [migration.name for migration in shipped] == sorted(migration.name for migration in shipped)
    columns = query(
        url,
        """select column_name, data_type, character_maximum_length, is_nullable, column_default
           from information_schema.columns where table_name = '_prisma_migrations' order by ordinal_position""",
    )
    assert columns == [  # prisma-engines, sql-schema-connector, flavour/postgres: create_migrations_table
        ("id", "character varying", 36, "NO", None),
        ("checksum", "character varying", 64, "NO", None),
        ("finished_at", "timestamp with time zone", None, "YES", None),
        ("migration_name", "character varying", 255, "NO", None),
        ("logs", "text", None, "YES", None),
        ("rolled_back_at", "timestamp with time zone", None, "YES", None),
        ("started_at", "timestamp with time zone", None, "NO", "now()"),
        ("applied_steps_count", "integer", None, "NO", "0"),
    ]


def test_a_second_start_applies_nothing(url: str) -> None:
    assert apply_litellm_migrations(url, migrations=[GOOD]) == 1
    assert apply_litellm_migrations(url, migrations=[GOOD]) == 0


def test_two_gateways_that_start_together_apply_each_migration_once(url: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        applied = list(pool.map(apply_litellm_migrations, [url, url]))
    assert sorted(applied) == [0, len(shipped_migrations())]
    assert query(url, "select count(*), count(distinct migration_name) from _prisma_migrations") == [
        (len(shipped_migrations()),) * 2
    ]


def test_a_gateway_waits_for_prisma_to_finish(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as prisma:
        prisma.execute("select pg_advisory_lock(%s)", (PRISMA_LOCK,))
        waiting = threading.Thread(target=apply_litellm_migrations, args=(url, None, [GOOD]))
        waiting.start()
        asking = """select from pg_stat_activity
                     where datname = current_database() and query = 'select pg_try_advisory_lock($1)'"""
        wait_until(lambda: query(url, asking) != [], "the gateway has asked for the lock")
        assert not exists(url, "good")
    waiting.join(10)
    assert exists(url, "good")


def test_a_database_that_prisma_began_is_continued(url: str) -> None:
    shipped = shipped_migrations()
    apply_litellm_migrations(url, migrations=shipped[:20])
    # `prisma migrate resolve --applied` leaves rows like this one.
    run(url, "update _prisma_migrations set applied_steps_count = 0, logs = '' where migration_name like '20250326%'")
    assert apply_litellm_migrations(url) == len(shipped) - 20
    assert query(url, "select count(*) from _prisma_migrations where logs = ''") == [(2,)]


def test_parameters_for_prisma_are_understood(url: str) -> None:
    assert apply_litellm_migrations(f"{url}?connection_limit=5&pool_timeout=9&schema=other", migrations=[GOOD]) == 1
    assert exists(url, "other.good")
    assert exists(url, "other._prisma_migrations")


def test_a_failed_script_leaves_nothing_but_its_record_and_blocks_the_next_start(url: str) -> None:
    with pytest.raises(SetupError, match="2_half: division by zero"):
        apply_litellm_migrations(url, migrations=[GOOD, HALF])
    assert exists(url, "good")
    assert not exists(url, "half")
    ((checksum, finished, logs, rolled_back, steps),) = query(
        url, f"select {ROW} from _prisma_migrations where migration_name = '2_half'"
    )
    assert (checksum, finished, rolled_back, steps) == (HALF.checksum, False, False, 0)
    assert "Migration name: 2_half" in logs
    assert "Database error code: 22012" in logs

    with pytest.raises(SetupError, match=r"2_half: it began .*division by zero.*set rolled_back_at = now\(\)"):
        apply_litellm_migrations(url, migrations=[GOOD, FIXED])

    run(url, "update _prisma_migrations set rolled_back_at = now() where migration_name = '2_half'")
    assert apply_litellm_migrations(url, migrations=[GOOD, FIXED]) == 1
    rows = query(url, f"select {ROW} from _prisma_migrations where migration_name = '2_half' order by started_at")
    assert [row[1:4:2] for row in rows] == [(False, True), (True, False)]


def test_an_index_is_built_concurrently_outside_a_transaction(url: str) -> None:
    assert apply_litellm_migrations(url, migrations=[GOOD, OUTSIDE]) == 2
    assert exists(url, "good_id")


def test_a_failure_outside_a_transaction_is_recorded_too(url: str) -> None:
    with pytest.raises(SetupError, match='3_outside: relation "good" does not exist'):
        apply_litellm_migrations(url, migrations=[OUTSIDE])
    assert query(url, "select count(*) from _prisma_migrations where logs like '%42P01%'") == [(1,)]


def test_a_gateway_killed_during_a_script_leaves_nothing(url: str) -> None:
    program = (
        "import sys; from gatehouse.storage.litellm_schema import *;"
        "apply_litellm_migrations(sys.argv[1], migrations=[Migration('1', b'create table t (); select pg_sleep(60)')])"
    )
    child = subprocess.Popen([sys.executable, "-c", program, url])
    running = "select count(*) > 0 from pg_stat_activity where query like '%pg_sleep(60)%' and pid <> pg_backend_pid()"
    wait_until(lambda: query(url, running)[0][0], "the script runs")
    child.kill()
    child.wait()
    # Postgres notices the closed connection when the statement ends; a real script ends by itself.
    run(
        url,
        "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(60)%' and state = 'active'"
        " and pid <> pg_backend_pid()",
    )
    assert apply_litellm_migrations(url, migrations=[Migration("1", b"create table t ()")]) == 1


def test_tables_without_a_history_are_left_alone(url: str) -> None:
    run(url, "create table customers (id int)")
    with pytest.raises(SetupError, match=r"already has tables \(customers\) but no migration history"):
        apply_litellm_migrations(url)
    assert not exists(url, "_prisma_migrations")


def test_no_error_shows_the_password(url: str) -> None:
    for address in (
        url.replace("postgres@", "nobody:sesame@").replace("/test_", "/none_"),
        "postgresql://u:ses%zzame@127.0.0.1/d",
        "postgresql://u:sesame@127.0.0.1:1/d",
    ):
        with pytest.raises(SetupError) as caught:
            apply_litellm_migrations(address)
        assert "ses" not in str(caught.value)


INDEXES = """select i.relname, pg_get_indexdef(i.oid) from pg_index x join pg_class i on i.oid = x.indexrelid
    where x.indisvalid and i.relname like 'LiteLLM_SpendLogs_%' order by 1"""


@pytest.mark.parametrize("rows", [0, 1])
def test_the_indexes_that_litellm_builds_after_its_migrations_are_built_as_it_builds_them(
    url: str, postgres: Postgres, rows: int
) -> None:
    from litellm_proxy_extras.request_log_indexes import ensure_request_log_indexes

    theirs = postgres.create_database()
    for database in (url, theirs):
        apply_litellm_migrations(database)
    assert ensure_request_log_indexes(theirs, "public")
    if rows:
        run(url, """insert into "LiteLLM_SpendLogs" (request_id, call_type, "startTime", "endTime")
                    values ('r', 'c', now(), now())""")  # fmt: skip
    missing = query(url, INDEXES)
    assert build_request_log_indexes(url) is True
    assert query(url, INDEXES) == query(theirs, INDEXES) != missing
    assert build_request_log_indexes(url) is False


def test_an_index_whose_building_was_broken_off_is_built_again(url: str) -> None:
    apply_litellm_migrations(url)
    build_request_log_indexes(url)
    run(url, """update pg_index set indisvalid = false
                 where indexrelid = '"LiteLLM_SpendLogs_litellm_call_id_idx"'::regclass""")  # fmt: skip
    assert build_request_log_indexes(url) is True
    assert build_request_log_indexes(url) is False
