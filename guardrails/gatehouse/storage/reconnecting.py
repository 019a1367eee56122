"""Runs a task on a database connection of its own, and replaces the connection when it is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import psycopg

from gatehouse.core import metrics
from gatehouse.core.errors import SetupError
from gatehouse.storage.connection import Connection, connect

RETRY_S = 0.5


class Reconnecting:
    """Run `work` until it returns, also when the database restarts meanwhile.

    Args:
        work: does its work on the connection that it is given, and calls `working()` each time the database answered.
        lost: is awaited after a failure that a second connection, tried at once, did not repair.
        what: names the work in the log, in the plural ("{what} wait", "{what} go on").
        stage: the label under which a metric counts failures that are not the database's.

    Attributes:
        up: tells whether the newest attempt worked.
    """

    def __init__(
        self,
        database_url: str,
        work: Callable[[Connection], Awaitable[None]],
        lost: Callable[[Exception], Awaitable[None]] | None = None,
        *,
        what: str,
        log: logging.Logger,
        stage: str | None = None,
    ) -> None:
        self.up = False
        self._url = database_url
        self._work = work
        self._lost = lost
        self._what = what
        self._log = log
        self._stage = stage
        self._said = ""

    async def run(self) -> None:
        """Run the work, and begin again after `RETRY_S` when it fails."""
        while True:
            try:
                async with await connect(self._url) as connection:
                    await self._work(connection)
                    return
            except Exception as error:
                was_up, self.up = self.up, False
                self._say(error)
                if was_up and isinstance(error, psycopg.OperationalError):
                    continue  # a restart breaks connections and may be over already: `lost` is not called for it
                if self._lost is not None:
                    await self._lost(error)
            await asyncio.sleep(RETRY_S)

    def working(self) -> None:
        """Note that the database answered."""
        self.up = True
        if self._said:
            self._log.info("%s go on", self._what)
            self._said = ""

    def _say(self, error: Exception) -> None:
        """Log a failure once for each kind, not twice a second."""
        expected = isinstance(error, SetupError | psycopg.OperationalError | OSError)
        if isinstance(error, SetupError):
            said = str(error)
        elif expected:
            said = f"the database is gone ({type(error).__name__})"
        else:
            said = f"{type(error).__name__} in the gateway"
            if self._stage is not None:
                metrics.plugin_errors.labels(stage=self._stage).inc()
        if said != self._said:
            self._log.error("%s wait: %s", self._what, said, exc_info=None if expected else error)
            self._said = said
