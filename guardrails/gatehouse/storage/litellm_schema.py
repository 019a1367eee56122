"""Applies LiteLLM's migrations without Prisma's schema engine, and leaves the same records as `prisma migrate deploy`.

It applies each migration once, also when gateways start together. One transaction commits a script and its record, so a
gateway killed meanwhile leaves nothing half done. A failed script is recorded with its reason and blocks later ones.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import ExecStatus

from gatehouse.core.errors import SetupError
from gatehouse.storage.schema import lock

Connection = psycopg.Connection[tuple[Any, ...]]
Progress = Callable[[int, int], None]

PRISMA_LOCK = 72707369  # the advisory lock key of prisma-engines' sql-schema-connector for Postgres
LOCK_SECONDS = 300.0
CONNECT_SECONDS = 10

# Prisma's query parameters that libpq would refuse.
PRISMA_PARAMETERS = frozenset(
    "schema connection_limit pool_timeout pgbouncer socket_timeout statement_cache_size sslaccept sslidentity".split()
)

# The table as prisma-engines creates it.
MIGRATIONS_TABLE = """create table if not exists _prisma_migrations (
    id varchar(36) primary key not null, checksum varchar(64) not null, finished_at timestamptz,
    migration_name varchar(255) not null, logs text, rolled_back_at timestamptz,
    started_at timestamptz not null default now(), applied_steps_count integer not null default 0)"""

# The same indexes as in litellm_proxy_extras.request_log_indexes; a test compares them.
REQUEST_LOG_INDEXES = {
    "LiteLLM_SpendLogs_api_key_startTime_idx": ("api_key", "startTime"),
    "LiteLLM_SpendLogs_litellm_call_id_idx": ("litellm_call_id",),
}

# Errors that a script does not cause: lock not available, deadlock, serialization, and a Postgres that shuts down.
TRANSIENT = ("55P03", "40P01", "40001", "57P01", "57P02", "57P03")


@dataclass(frozen=True, slots=True)
class Migration:
    """Hold one script that litellm_proxy_extras ships."""

    name: str
    script: bytes

    @property
    def checksum(self) -> str:
        """Return the SHA-256 of the file's bytes in lower-case hex, as Prisma computes it."""
        return hashlib.sha256(self.script).hexdigest()

    @property
    def transactional(self) -> bool:
        """Return False for a script that Postgres refuses to run inside a transaction."""
        return re.search(rb"\bconcurrently\b", re.sub(rb"--[^\n]*", b"", self.script), re.IGNORECASE) is None


def shipped_migrations() -> tuple[Migration, ...]:
    """Return the migrations of the installed litellm_proxy_extras, in the order in which they apply.

    Raises:
        SetupError: the package is not installed, or has none.
    """
    spec = importlib.util.find_spec("litellm_proxy_extras")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    scripts = sorted(script for folder in folders for script in Path(folder, "migrations").glob("*/migration.sql"))
    if not scripts:
        raise SetupError("LiteLLM's migrations: litellm-proxy-extras has none or is not installed. Run `uv sync`.")
    return tuple(Migration(script.parent.name, script.read_bytes()) for script in scripts)


def apply_litellm_migrations(
    database_url: str, progress: Progress | None = None, migrations: Sequence[Migration] | None = None
) -> int:
    """Bring LiteLLM's tables to the installed version.

    Args:
        database_url: postgresql:// address; it may carry parameters meant for Prisma.
        progress: called after each script with the number of scripts applied and the total.
        migrations: the migrations to apply; by default those of the installed LiteLLM.

    Returns:
        The number of migrations that this run applied.

    Raises:
        SetupError: the database is unreachable, an earlier migration failed, or one fails now.
    """
    everything = shipped_migrations() if migrations is None else migrations
    try:
        with _connect(database_url) as connection, _prisma_lock(connection):
            _ensure_table(connection)
            _refuse_failed(connection)
            recorded = connection.execute("select migration_name from _prisma_migrations where rolled_back_at is null")
            known = {name for (name,) in recorded}
            pending = [migration for migration in everything if migration.name not in known]
            for done, migration in enumerate(pending, start=1):
                _apply(connection, migration)
                if progress is not None:
                    progress(done, len(pending))
            return len(pending)
    except psycopg.Error as error:
        raise SetupError(f"LiteLLM's database: {_first_line(error)}. Check DATABASE_URL and Postgres.") from error


def pending_migrations(connection: Connection, migrations: Sequence[Migration]) -> list[Migration]:
    """Return the migrations that were not applied yet; a failed one counts as pending.

    Raises:
        psycopg.errors.InsufficientPrivilege: this role may not read the history.
    """
    row = connection.execute("select to_regclass('public._prisma_migrations') is not null").fetchone()
    if row is None or not row[0]:
        return list(migrations)
    recorded = connection.execute(
        "select migration_name from public._prisma_migrations where rolled_back_at is null and finished_at is not null"
    )
    known = {name for (name,) in recorded}
    return [migration for migration in migrations if migration.name not in known]


def build_request_log_indexes(database_url: str) -> bool:
    """Build the indexes that LiteLLM keeps out of its migrations because they may take long on a table with rows.

    LiteLLM builds them only when it runs its own migrations. Idempotent: LiteLLM logs an index that it cannot build,
    and the next start tries again. Only a table with rows that lacks an index loads LiteLLM, which takes seconds.

    Returns:
        Whether any index was missing.

    Raises:
        SetupError: the database is unreachable.
    """
    try:
        with _connect(database_url) as connection:
            found = connection.execute(
                """select count(*) from pg_index x join pg_class i on i.oid = x.indexrelid
                    where x.indrelid = to_regclass('"LiteLLM_SpendLogs"') and x.indisvalid and i.relname = any(%s)""",
                (list(REQUEST_LOG_INDEXES),),
            ).fetchone()
            if found == (len(REQUEST_LOG_INDEXES),):
                return False
            if connection.execute('select exists (select from "LiteLLM_SpendLogs")').fetchone() == (False,):
                with connection.transaction():
                    lock(connection)
                    for name, columns in REQUEST_LOG_INDEXES.items():
                        index, listed = sql.Identifier(name), sql.SQL(", ").join(map(sql.Identifier, columns))
                        connection.execute(sql.SQL("drop index if exists {}").format(index))
                        connection.execute(sql.SQL('create index {} on "LiteLLM_SpendLogs" ({})').format(index, listed))
                return True
    except psycopg.Error as error:
        raise SetupError(f"LiteLLM's database: {_first_line(error)}. Check DATABASE_URL and Postgres.") from error
    from litellm_proxy_extras.request_log_indexes import ensure_request_log_indexes

    address, schema = _without_prisma_parameters(database_url)
    ensure_request_log_indexes(address, schema)
    return True


def _connect(database_url: str) -> Connection:
    address, schema = _without_prisma_parameters(database_url)
    try:
        conninfo_to_dict(address)
    except psycopg.ProgrammingError:
        # libpq quotes the part that it could not read, which may be the password.
        raise SetupError("DATABASE_URL: it is not a postgresql:// address. Percent-encode its password.") from None
    connection = psycopg.connect(address, autocommit=True, connect_timeout=CONNECT_SECONDS)
    if schema != "public":
        connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(schema)))
        connection.execute(sql.SQL("set search_path to {}").format(sql.Identifier(schema)))
    return connection


def _without_prisma_parameters(database_url: str) -> tuple[str, str]:
    parts = urlsplit(database_url)
    query = parse_qsl(parts.query)
    remaining = [(name, value) for name, value in query if name not in PRISMA_PARAMETERS]
    return urlunsplit(parts._replace(query=urlencode(remaining))), dict(query).get("schema", "public")


@contextmanager
def _prisma_lock(connection: Connection) -> Iterator[None]:
    # Poll for the lock instead of waiting for it: a waiting statement holds a snapshot, and the lock's holder may run
    # `create index concurrently`, which waits for that snapshot. Both would wait for ever.
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        row = connection.execute("select pg_try_advisory_lock(%s)", (PRISMA_LOCK,)).fetchone()
        if row is not None and row[0]:
            break
        if time.monotonic() > deadline:
            raise SetupError(
                f"LiteLLM's migrations: another process has held their lock for {LOCK_SECONDS:.0f} s. "
                "Wait for it to end, or end it, then start again."
            )
        time.sleep(0.2)
    try:
        yield
    finally:
        if not connection.broken:
            connection.execute("select pg_advisory_unlock(%s)", (PRISMA_LOCK,))


def _ensure_table(connection: Connection) -> None:
    row = connection.execute("select to_regclass('_prisma_migrations') is not null").fetchone()
    if row is not None and row[0]:
        return
    # Prisma's P3005: the database has tables but no history. Tables of extensions do not count.
    stranger = connection.execute(
        """select c.relname from pg_class c
           where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p')
           and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e') order by 1 limit 1"""
    ).fetchone()
    if stranger is not None:
        raise SetupError(
            f"LiteLLM's database: it already has tables ({stranger[0]}) but no migration history. "
            "Use an empty database, or record with Prisma (`migrate resolve --applied`) what they come from."
        )
    connection.execute(MIGRATIONS_TABLE)


def _refuse_failed(connection: Connection) -> None:
    failed = connection.execute(
        """select migration_name, started_at, logs from _prisma_migrations
           where finished_at is null and rolled_back_at is null order by started_at limit 1"""
    ).fetchone()
    if failed is not None:
        name, started, logs = failed
        raise SetupError(
            f"LiteLLM migration {name}: it began at {started:%Y-%m-%d %H:%M:%S %Z} and did not finish "
            f"({_reason(logs or '')}). {_next_step(name)}"
        )


def _apply(connection: Connection, migration: Migration) -> None:
    identity = str(uuid.uuid4())
    try:
        if migration.transactional:
            with connection.transaction():
                _record_start(connection, identity, migration)
                _run_script(connection, migration.script)
                _record_end(connection, identity)
        else:
            _record_start(connection, identity, migration)
            _run_script(connection, migration.script)
            _record_end(connection, identity)
    except psycopg.Error as error:
        if connection.broken or (migration.transactional and error.sqlstate in TRANSIENT):
            raise SetupError(f"LiteLLM migration {migration.name}: {_first_line(error)}. Start again.") from error
        if migration.transactional:
            _record_start(connection, identity, migration)
        connection.execute("update _prisma_migrations set logs = %s where id = %s", (_log(migration, error), identity))
        raise SetupError(
            f"LiteLLM migration {migration.name}: {_first_line(error)}. {_next_step(migration.name)}"
        ) from error


def _record_start(connection: Connection, identity: str, migration: Migration) -> None:
    connection.execute(
        """insert into _prisma_migrations (id, checksum, migration_name, started_at)
           values (%s, %s, %s, clock_timestamp())""",
        (identity, migration.checksum, migration.name),
    )


def _record_end(connection: Connection, identity: str) -> None:
    connection.execute(
        """update _prisma_migrations set finished_at = clock_timestamp(), applied_steps_count = applied_steps_count + 1
           where id = %s""",
        (identity,),
    )


def _run_script(connection: Connection, script: bytes) -> None:
    """Run the whole script as one simple query, as the schema engine does."""
    result = connection.pgconn.exec_(script)
    if result.status == ExecStatus.FATAL_ERROR:
        raise psycopg.errors.error_from_result(result, encoding="utf-8")


def _log(migration: Migration, error: psycopg.Error) -> str:
    return (
        "A migration failed to apply. New migrations cannot be applied before the error is recovered from. Read more "
        "about how to resolve migration issues in a production database: https://pris.ly/d/migrate-resolve\n\n"
        f"Migration name: {migration.name}\n\n"
        f"Database error code: {error.sqlstate}\n\nDatabase error:\nERROR: {error}\n"
    )


def _reason(logs: str) -> str:
    found = re.search(r"Database error:\s*(?:ERROR:\s*)?([^\n]+)", logs)
    return found[1] if found else "its record gives no reason; the process may have been killed"


def _next_step(name: str) -> str:
    return (
        "Correct the cause, undo what the script left, then set rolled_back_at = now() in the unfinished row of "
        f"_prisma_migrations where migration_name = '{name}', and start again."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
