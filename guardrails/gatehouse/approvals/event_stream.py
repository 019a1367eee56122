"""The stream of what happens to approvals, for all subscribers: one connection of its own in a gateway.

Promises: a subscriber misses nothing that happens after they came, or their stream ends and they know. Without
subscribers there is no connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import psycopg
from cachetools import LRUCache

from gatehouse.approvals import queries, store
from gatehouse.approvals.lifecycle import may_see
from gatehouse.approvals.model import Approval, State, Voter
from gatehouse.core.errors import GovernanceUnavailable
from gatehouse.storage import people
from gatehouse.storage.connection import Pool, connect

log = logging.getLogger("gatehouse.approvals")

# Events that a subscriber has not read yet; who is further behind asks again.
_BEHIND: Final = 1_000
_START_S: Final = 10.0
_REMEMBERED: Final = 10_000
_COMMIT: Final = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class ApprovalEvent:
    """One thing that happened: the approval is in `state` since `at`. `approval` is as it stood a moment later."""

    approval: Approval
    state: State
    at: datetime


@dataclass(slots=True, eq=False)
class Subscriber:
    """A person who follows what happens; None in the queue is the end."""

    by: Voter
    queue: asyncio.Queue[ApprovalEvent | None] = field(default_factory=lambda: asyncio.Queue(_BEHIND))
    lost: bool = False
    told: set[tuple[UUID, State]] = field(default_factory=set)

    def is_told(self, event: ApprovalEvent) -> bool:
        """Say whether they are told of this: once, where they may see the approval, and not that it was used."""
        key = (event.approval.id, event.state)
        if event.state is State.CONSUMED or key in self.told or not may_see(event.approval, self.by):
            return False
        self.told.add(key)
        return True


class EventStream:
    """One gateway process's."""

    def __init__(self, database_url: str, pool: Pool) -> None:
        self._url = database_url
        self._pool = pool
        self._subscribers: set[Subscriber] = set()
        self._task: asyncio.Task[None] | None = None
        self._listening: asyncio.Future[None] | None = None

    @asynccontextmanager
    async def subscribe(self, by: Voter) -> AsyncIterator[Subscriber]:
        """Tell this person of everything that they may see from now on.

        Raises:
            GovernanceUnavailable: the database is away.
        """
        subscriber = Subscriber(by)
        self._subscribers.add(subscriber)
        try:
            if self._task is None or self._task.done():
                self._listening = asyncio.get_running_loop().create_future()
                self._task = asyncio.create_task(self._run(self._listening), name="gatehouse-approvals-events")
            assert self._listening is not None
            try:
                async with asyncio.timeout(_START_S):
                    await asyncio.shield(self._listening)
            except (TimeoutError, psycopg.Error, OSError):
                raise GovernanceUnavailable("Approvals cannot be followed now. Try again soon.") from None
            yield subscriber
        finally:
            self._subscribers.discard(subscriber)
            if not self._subscribers and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _run(self, listening: asyncio.Future[None]) -> None:
        try:
            async with await connect(self._url) as connection:
                await connection.execute(f"listen {store.CHANNEL}")
                async with self._pool.connection() as asks:
                    started = await people.now(asks)
                listening.set_result(None)
                told = LRUCache[UUID, int](_REMEMBERED)
                async for notice in connection.notifies():
                    await self._tell(UUID(notice.payload), started, told)
        except (psycopg.Error, OSError) as error:
            if not listening.done():
                listening.set_exception(error)
                listening.exception()  # retrieved, also where nobody waits for it any more
            log.warning("approvals: subscribers are sent away to ask again (%s)", type(error).__name__)
        finally:
            if not listening.done():
                listening.cancel()
            if asyncio.current_task() is self._task:
                self._task = None
                for subscriber in self._subscribers:
                    _end(subscriber)

    async def _tell(self, approval_id: UUID, started: datetime, told: LRUCache[UUID, int]) -> None:
        """Tell what is new of this approval: several notices may come for what one look shows."""
        async with self._pool.connection() as connection:
            approval = await queries.get(connection, approval_id)
            if approval is None:
                return
            happened = await queries.history(connection, approval_id)
        known = told.get(approval_id)
        told[approval_id] = len(happened)
        # Of one that is new here, what was written since; a row is, a moment before its transaction is seen.
        since = started - _COMMIT
        for each in happened[known:] if known is not None else [each for each in happened if each.at > since]:
            for subscriber in tuple(self._subscribers):
                if subscriber.queue.qsize() >= _BEHIND - 1:
                    _end(subscriber)
                elif not subscriber.lost and subscriber.is_told(event := ApprovalEvent(approval, each.state, each.at)):
                    subscriber.queue.put_nowait(event)


def _end(subscriber: Subscriber) -> None:
    if not subscriber.lost:
        subscriber.lost = True
        subscriber.queue.put_nowait(None)
