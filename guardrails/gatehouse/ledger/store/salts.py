"""The salts of sealed prompt hashes: with one, a text can be compared with what was asked; without it, none can."""

from __future__ import annotations

from uuid import UUID

import psycopg

from gatehouse.ledger.store.capsules import Connection, reachable


def salt_of(connection: Connection, call_id: UUID) -> bytes | None:
    """Return what a call's prompt hash is salted with, or None where there is none any more."""
    row = connection.execute("select prompt_salt from gatehouse.calls where call_id = %s", (call_id,)).fetchone()
    return None if row is None or row[0] is None else bytes(row[0])


def erase_salt(database_url: str, call_id: UUID) -> bool:
    """Erase a call's salt, and say whether there was one.

    Raises:
        SetupError: the database is not there, or this role may not do that.
    """
    with reachable(), psycopg.connect(database_url, connect_timeout=5, application_name="gatehouse audit") as writing:
        done = writing.execute(
            "update gatehouse.calls set prompt_salt = null where call_id = %s and prompt_salt is not null", (call_id,)
        )
        return done.rowcount == 1
