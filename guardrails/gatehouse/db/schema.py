"""Applies the numbered SQL files of schema `gatehouse`: each once, in order, also when gateways start together."""

from __future__ import annotations

from importlib.resources import files

import psycopg

from gatehouse.errors import SetupError

# Any number that no other program on this database uses; it spells "gate".
_LOCK = 0x67617465


def apply_migrations(database_url: str) -> int:
    """Bring schema `gatehouse` up to date.

    Returns:
        How many migrations were applied.

    Raises:
        SetupError: a migration failed, or the database is newer than this gateway; nothing of that migration was kept.
        psycopg.OperationalError: the database is not there.
    """
    scripts = sorted(
        (entry.name, entry.read_text())
        for entry in files("gatehouse.db.migrations").iterdir()
        if entry.name.endswith(".sql")
    )
    applied = 0
    with psycopg.connect(database_url) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.execute("create schema if not exists gatehouse")
        connection.execute(
            "create table if not exists gatehouse.migrations"
            " (name text primary key, applied_at timestamptz not null default now())"
        )
        done = {row[0] for row in connection.execute("select name from gatehouse.migrations")}
        unknown = done - {name for name, _ in scripts}
        if unknown:
            raise SetupError(
                f"database: it has migration {max(unknown)}, which this gateway does not know. Start the newer gateway."
            )
        for name, script in scripts:
            if name in done:
                continue
            try:
                connection.execute(script.encode())
            except psycopg.Error as error:
                raise SetupError(
                    f"database: migration {name} failed: {error.diag.message_primary or error}. Nothing was changed."
                ) from error
            connection.execute("insert into gatehouse.migrations (name) values (%s)", (name,))
            applied += 1
    return applied
