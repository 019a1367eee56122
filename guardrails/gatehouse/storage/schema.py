"""Applies the numbered SQL files of schema `gatehouse`, each once and in order, also when gateways start together."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import psycopg

from gatehouse.core.errors import SetupError

Connection = psycopg.Connection[tuple[Any, ...]]

# Any number that no other program on this database uses; in ASCII it spells "gate".
_LOCK = 0x67617465


def lock(connection: Connection) -> None:
    """Let one transaction at a time change schemas and privileges; the lock ends with the transaction."""
    connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))


def pending_migrations(connection: Connection) -> Mapping[str, bytes]:
    """Return the scripts that are not applied yet, by name and in order.

    Raises:
        SetupError: the database is newer than this gateway.
        psycopg.errors.InsufficientPrivilege: this role may not read the history.
    """
    scripts = {
        entry.name: entry.read_bytes()
        for entry in sorted(files("gatehouse.storage.migrations").iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".sql")
    }
    row = connection.execute("select to_regclass('gatehouse.migrations') is not null").fetchone()
    if row is None or not row[0]:
        return scripts
    done = {row[0] for row in connection.execute("select name from gatehouse.migrations")}
    unknown = done - scripts.keys()
    if unknown:
        raise SetupError(
            f"database: it has migration {max(unknown)}, which this gateway does not know. Start the newer gateway."
        )
    return {name: script for name, script in scripts.items() if name not in done}


def apply_pending(connection: Connection) -> int:
    """Bring schema `gatehouse` up to date in the caller's transaction, and take `lock` for it.

    Returns:
        How many migrations were applied.

    Raises:
        SetupError: a migration failed, or the database is newer than this gateway; the caller must roll back.
    """
    lock(connection)
    pending = pending_migrations(connection)
    if pending:
        connection.execute("create schema if not exists gatehouse")
        connection.execute(
            "create table if not exists gatehouse.migrations"
            " (name text primary key, applied_at timestamptz not null default now())"
        )
    for name, script in pending.items():
        try:
            connection.execute(script)
        except psycopg.Error as error:
            raise SetupError(
                f"database: migration {name} failed: {error.diag.message_primary or error}. Nothing was changed."
            ) from error
        connection.execute("insert into gatehouse.migrations (name) values (%s)", (name,))
    return len(pending)
