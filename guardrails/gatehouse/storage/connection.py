"""Two ways to the gateway's database: a connection of a part's own, and the few connections that parts share."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

Connection = AsyncConnection[tuple[Any, ...]]
Pool = AsyncConnectionPool[Connection]

# A dead peer is noticed by keep-alives within half a minute, a paused one by the statement's own time-out.
OPTIONS: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "application_name": "gatehouse",
}

# Of one gateway, beside those of its writers and listeners and LiteLLM's ten: several share a Postgres that takes 60.
POOL_CONNECTIONS: Final = 4
# For a connection, and for Postgres to say that one still works. While it is away it is tried for so long, and again
# when somebody asks.
_PATIENCE_S: Final = 5.0
_CHECK_S: Final = 2.0


async def connect(database_url: str) -> Connection:
    """Open an autocommit connection: every statement is its own transaction.

    Raises:
        psycopg.OperationalError: the database is not there.
    """
    return await psycopg.AsyncConnection.connect(database_url, autocommit=True, **OPTIONS)


def shared(database_url: str) -> Pool:
    """Make the pool of a gateway, which its `open` begins to fill and its `close` ends.

    Its connections are like those of `connect`, and a broken one is replaced before anybody gets it. Whoever asks while
    all are in use waits; who gets none in time has psycopg.OperationalError raised.
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
