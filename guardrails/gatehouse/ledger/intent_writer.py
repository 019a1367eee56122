"""Commits intents before anything goes upstream: one statement for all that wait (group commit)."""

from __future__ import annotations

import asyncio
import logging
from uuid import UUID

import psycopg

from gatehouse.ledger.rows import IntentRow
from gatehouse.ledger.store import calls
from gatehouse.storage.connection import Connection
from gatehouse.storage.reconnecting import Reconnecting

log = logging.getLogger("gatehouse.audit")

# Postgres answers a batch of this size in a few milliseconds; more would only make the next batch wait.
_BATCH = 500

Waiting = tuple[IntentRow, asyncio.Future[None]]


class IntentWriter:
    """The queue of intents and the task that commits them."""

    def __init__(self, gateway_id: UUID, database_url: str) -> None:
        self.task = Reconnecting(
            database_url, self._work, self._lost, what="intents of the ledger", log=log, stage="ledger"
        )
        self._me = gateway_id
        self._queue: list[Waiting] = []
        self._waiting = asyncio.Event()

    async def commit(self, intent: IntentRow) -> None:
        """Return when the intent is committed.

        Raises:
            psycopg.Error, OSError: it may or may not be there.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((intent, done))
        self._waiting.set()
        await done

    async def _lost(self, error: Exception) -> None:
        waiting, self._queue = self._queue, []
        for _, done in waiting:
            if not done.done():
                done.set_exception(error)

    async def _work(self, connection: Connection) -> None:
        await calls.count_open(connection)  # a database without our schema is not up
        self.task.working()
        self._waiting.set()  # for those who waited while there was no connection
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            while self._queue:
                # A call whose client is gone does not wait any more; it is settled with its whole row.
                batch = [(row, done) for row, done in self._queue[:_BATCH] if not done.done()]
                del self._queue[:_BATCH]
                if not batch:
                    continue
                try:
                    await self._commit(connection, batch)
                except BaseException:
                    self._queue[:0] = batch
                    raise

    async def _commit(self, connection: Connection, batch: list[Waiting]) -> None:
        try:
            await calls.insert_intents(connection, self._me, [row for row, _ in batch])
        except psycopg.DataError as error:
            if len(batch) > 1:  # one intent that Postgres does not take must not refuse the others
                for single in batch:
                    await self._commit(connection, [single])
                return
            batch[0][1].set_exception(error)
        for _, done in batch:
            if not done.done():
                done.set_result(None)
