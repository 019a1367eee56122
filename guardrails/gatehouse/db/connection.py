"""One way to open a connection to the gateway's database."""

from __future__ import annotations

from typing import Any, Final

import psycopg

from gatehouse.db.calls import Connection

# A dead peer is noticed by keep-alives within half a minute, a paused one by the statement's own time-out.
OPTIONS: Final[dict[str, Any]] = {
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
    return await psycopg.AsyncConnection.connect(database_url, autocommit=True, **OPTIONS)
