"""One way to open a connection to the gateway's database, and one to share it within a part that asks seldom."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import psycopg
from psycopg import AsyncConnection

_T = TypeVar("_T")

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


class OneConnection:
    """A part's one connection, opened when it is first needed; whoever comes while it is in use waits."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._connection: Connection | None = None
        self._one_at_a_time = asyncio.Lock()

    async def use(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Do this on it; a broken one is replaced and the work tried again, once.

        Raises:
            psycopg.OperationalError, OSError: the database is not there.
        """
        async with self._one_at_a_time:
            try:
                return await self._once(work)
            except (psycopg.OperationalError, OSError):
                return await self._once(work)

    async def close(self) -> None:
        """Let go of it; another `use` opens it again."""
        if self._connection is not None:
            await self._connection.close()

    async def _once(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        if self._connection is None or self._connection.closed:
            self._connection = await connect(self._url)
        try:
            return await work(self._connection)
        except BaseException:  # also a time-out: what the connection would say next belongs to nobody
            await self._connection.close()
            raise


Connection = AsyncConnection[tuple[Any, ...]]
