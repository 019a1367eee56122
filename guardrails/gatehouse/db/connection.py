"""One way to open a connection to the gateway's database."""

from __future__ import annotations

import psycopg

from gatehouse.db.calls import Connection

# A dead peer is noticed by keep-alives within half a minute, a paused one by the statement's own time-out.
_OPTIONS = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "application_name": "gatehouse",
}


async def connect(database_url: str) -> Connection:
    """An autocommit connection: every statement is its own transaction.

    Raises:
        psycopg.OperationalError: the database is not there.
    """
    return await psycopg.AsyncConnection.connect(database_url, autocommit=True, **_OPTIONS)  # type: ignore[arg-type]
