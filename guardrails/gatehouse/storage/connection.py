"""Opens connections to the gateway's database: one for a single part, or a pool of a few that parts share."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

Connection = AsyncConnection[tuple[Any, ...]]
Pool = AsyncConnectionPool[Connection]

# Keep-alives find a dead peer within 30 seconds. The statement's own time-out finds one that is paused.
OPTIONS: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "application_name": "gatehouse",
}

# One gateway also has connections for its writers and listeners, and ten of LiteLLM's. Several share a Postgres of 60.
POOL_CONNECTIONS: Final = 4
# Seconds to wait for a free connection, and for Postgres to prove that one works. While Postgres is away the pool tries
# for as long, and again at the next request.
_PATIENCE_S: Final = 5.0
_CHECK_S: Final = 2.0


async def connect(database_url: str) -> Connection:
    """Open an autocommit connection: every statement is its own transaction.

    Raises:
        psycopg.OperationalError: the database is not there.
    """
    return await psycopg.AsyncConnection.connect(database_url, autocommit=True, **OPTIONS)


def shared(database_url: str) -> Pool:
    """Make the pool of a gateway. Its `open` begins to fill it, and its `close` ends it.

    Its connections are like those of `connect`. The pool replaces a broken one before it hands it out. A caller waits
    while all are in use, and gets psycopg.OperationalError when none becomes free in time.
    """
    return AsyncConnectionPool(
        database_url,
        kwargs={"autocommit": True, **OPTIONS},
        min_size=1,
        max_size=POOL_CONNECTIONS,
        open=False,
        check=_check,
        timeout=_PATIENCE_S,
        reconnect_timeout=_PATIENCE_S,
        name="gatehouse",
    )


async def _check(connection: Connection) -> None:
    async with asyncio.timeout(_CHECK_S):
        await connection.execute("")
