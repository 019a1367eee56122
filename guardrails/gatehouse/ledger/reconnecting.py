"""A task that works on a database connection of its own, and gets another one when that is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import psycopg

from gatehouse.core import metrics
from gatehouse.core.errors import SetupError
from gatehouse.storage.connection import Connection, connect

log = logging.getLogger("gatehouse.audit")

RETRY_S = 0.5


class Connected:
    """Runs `work` until it returns, whatever the database does.

    Args:
        work: does everything on the connection it is given; says `up()` once it could write.
        lost: called, and awaited, after a failure that another connection, tried at once, did not mend.

    Attributes:
        up: whether the last thing known is that writing works.
    """

    def __init__(
        self,
        name: str,
        database_url: str,
        work: Callable[[Connection], Awaitable[None]],
        lost: Callable[[Exception], Awaitable[None]],
    ) -> None:
        self.up = False
        self._name = name
        self._url = database_url
        self._work = work
        self._lost = lost
        self._said = ""

    async def run(self) -> None:
        """Work, and begin again after `RETRY_S` when it failed."""
        while True:
            try:
                async with await connect(self._url) as connection:
                    await self._work(connection)
                    return
            except Exception as error:
                was_up, self.up = self.up, False
                self._say(error)
                if was_up and isinstance(error, psycopg.OperationalError):
                    continue  # a restart breaks connections, and may be over: who waits need not hear of it
                await self._lost(error)
            await asyncio.sleep(RETRY_S)

    def working(self) -> None:
        """Say that writing works."""
        self.up = True
        if self._said:
            log.info("the ledger can be written again (%s)", self._name)
            self._said = ""

    def _say(self, error: Exception) -> None:
        """Once for each kind of failure, not twice a second."""
        if isinstance(error, SetupError):
            said = str(error)
        elif isinstance(error, psycopg.OperationalError | OSError):
            said = f"the database is gone ({type(error).__name__})"
        else:
            said = f"{type(error).__name__} in the gateway"
            metrics.plugin_errors.labels(stage="ledger").inc()
        if said != self._said:
            trace = None if isinstance(error, SetupError | psycopg.OperationalError | OSError) else error
            log.error("the ledger cannot be written (%s): %s", self._name, said, exc_info=trace)
            self._said = said
