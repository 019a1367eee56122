"""Commits intents before anything goes upstream: one statement for all that wait (group commit), and one for all of
them that budgets must have room for, which reserves what they may cost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final
from uuid import UUID

import psycopg

from gatehouse.core.errors import BudgetExceeded, GovernanceError
from gatehouse.core.text import shown_usd
from gatehouse.ledger.bills import may_cost
from gatehouse.ledger.rows import IntentRow
from gatehouse.ledger.store import budgets, calls
from gatehouse.ledger.store.budgets import Full
from gatehouse.policy.limits import unpriced
from gatehouse.storage.connection import Connection
from gatehouse.storage.reconnecting import Reconnecting

log = logging.getLogger("gatehouse.audit")

# Postgres answers a batch of this size in a few milliseconds; more would only make the next batch wait.
_BATCH = 500

Waiting = tuple[IntentRow, asyncio.Future[None]]
Statement = Callable[[Connection, Sequence[IntentRow]], Awaitable[Mapping[str, Full]]]


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
            BudgetExceeded: a budget has no room for what the call may cost; it is not committed.
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
        costly = [each for each in batch if may_cost(each[0])]
        free = [each for each in batch if not may_cost(each[0])]
        for part, statement in ((free, self._insert), (costly, self._reserve)):
            if part:
                await self._committed(connection, part, statement)

    async def _committed(self, connection: Connection, batch: list[Waiting], statement: Statement) -> None:
        try:
            refused = await statement(connection, [row for row, _ in batch])
        except psycopg.DataError as error:
            if len(batch) > 1:  # one intent that Postgres does not take must not refuse the others
                for single in batch:
                    await self._committed(connection, [single], statement)
                return
            batch[0][1].set_exception(error)
            return
        for row, done in batch:
            if done.done():
                continue
            if (full := refused.get(row["call_id"])) is not None:
                done.set_exception(exceeded(full, row.get("reserve"), row["request"].get("model")))
            else:
                done.set_result(None)

    async def _insert(self, connection: Connection, intents: Sequence[IntentRow]) -> Mapping[str, Full]:
        await calls.insert_intents(connection, self._me, intents)
        return {}

    async def _reserve(self, connection: Connection, intents: Sequence[IntentRow]) -> Mapping[str, Full]:
        return await budgets.open_intents(connection, self._me, intents)


# The words in front are LiteLLM's own, by which some clients know this refusal.
_EXCEEDED: Final = (
    "Budget has been exceeded! This request may cost ${usd}. Of the budget of ${limit} of {whose}, ${spent} are spent"
    "{reserved}. Ask for a shorter answer, or ask an administrator to raise the budget."
)
_RESERVED: Final = " and ${} are reserved by calls under way"
_WHOSE: Final = {
    "key": "the key",
    "user": "the key's user",
    "team": "the key's team",
    "team_member": "the team's member",
    "organization": "the organization",
    "tag": "a tag of the request",
    "end_user": "the end user",
    "project": "the project",
}


def exceeded(full: Full, usd: float | None, model: str | None = None) -> GovernanceError:
    """Return the refusal of a call for which a budget has no room.

    Args:
        usd: what it may cost; None where its model has no price.
    """
    whose = _WHOSE.get(full.kind, "the caller")
    if usd is None:
        return unpriced(model or "", f"{whose} has a budget of ${shown_usd(full.limit)}")
    reserved = _RESERVED.format(shown_usd(full.reserved)) if full.reserved else ""
    return BudgetExceeded(
        _EXCEEDED.format(
            usd=shown_usd(usd),
            limit=shown_usd(full.limit),
            whose=whose,
            spent=shown_usd(full.spent),
            reserved=reserved,
        ),
        policies=("budget",),
    )
