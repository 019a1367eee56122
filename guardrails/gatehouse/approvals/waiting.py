"""How held calls wait: one connection listens for all that this gateway holds, and one of the shared ones looks.

Promises: a vote through any gateway wakes its call at once, and so does an approval's expiry; while the database is
away nothing is lost, only later, for whoever waits is looked up again. A waiter that leaves leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

import psycopg

from gatehouse.approvals import queries, store
from gatehouse.approvals.model import Approval, State
from gatehouse.core.errors import GovernanceUnavailable, NotFound
from gatehouse.storage.connection import Connection, Pool
from gatehouse.storage.reconnecting import RETRY_S, Reconnecting

log = logging.getLogger("gatehouse.approvals")

# While nobody listens; and while somebody does, for the half minute in which a dead connection looks alive.
LOOK_EVERY_S: Final = 2.0
LOOK_ANYWAY_S: Final = 15.0
_ANSWER_S: Final = 5.0
_AWAY: Final = (psycopg.Error, OSError, TimeoutError)


@dataclass(slots=True)
class _Held:
    """Everybody here who waits for one approval."""

    waiters: set[asyncio.Future[Approval]] = field(default_factory=set)
    seen: Approval | None = None
    expiry: asyncio.TimerHandle | None = None


class Waiting:
    """What one gateway process waits for."""

    def __init__(self, database_url: str, pool: Pool) -> None:
        self._pool = pool
        self._held: dict[UUID, _Held] = {}
        self._wanted: set[UUID] = set()
        self._look_now = asyncio.Event()
        self._listener = Reconnecting(database_url, self._listen, self._deaf, what="news of votes", log=log)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to listen; while the database is away it is tried again and again."""
        self._tasks = [
            asyncio.create_task(self._listener.run(), name="gatehouse-approvals-listen"),
            asyncio.create_task(self._look(), name="gatehouse-approvals-look"),
        ]

    async def stop(self) -> None:
        """Stop; whoever still waits is told to come back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for held in self._held.values():
            for waiter in held.waiters:
                if not waiter.done():
                    waiter.set_exception(GovernanceUnavailable("The gateway is stopping. Ask again."))

    async def decided(self, approval_id: UUID, timeout_s: float) -> Approval:
        """Wait until an approval is decided or over; as it then is, without its summary.

        Args:
            timeout_s: seconds after which it is returned as it stood last, which is still requested.

        Raises:
            NotFound: there is no such approval.
            GovernanceUnavailable: it could not be read in all that time, or the gateway stops.
        """
        held = self._held.setdefault(approval_id, _Held())
        waiter: asyncio.Future[Approval] = asyncio.get_running_loop().create_future()
        held.waiters.add(waiter)
        self._want((approval_id,))
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter
        except TimeoutError:
            if held.seen is None:
                raise GovernanceUnavailable("The approval could not be looked up. Ask again soon.") from None
            return held.seen
        finally:
            held.waiters.discard(waiter)
            if not held.waiters:
                if held.expiry is not None:
                    held.expiry.cancel()
                if self._held.get(approval_id) is held:
                    del self._held[approval_id]

    def _want(self, approval_ids: Iterable[UUID]) -> None:
        self._wanted.update(approval_ids)
        self._look_now.set()

    async def _listen(self, connection: Connection) -> None:
        await connection.execute(f"listen {store.CHANNEL}")
        self._listener.working()
        self._want(self._held)  # what was decided before is not told again
        async for notice in connection.notifies():
            self._hear(notice.payload)

    async def _deaf(self, error: Exception) -> None:
        self._want(self._held)

    def _hear(self, payload: str) -> None:
        with suppress(ValueError):
            if (approval_id := UUID(payload)) in self._held:
                self._want((approval_id,))

    async def _look(self) -> None:
        while True:
            await self._due()
            try:
                await self._look_at_wanted()
                continue
            except _AWAY:
                pass  # those who listen say so
            except Exception:
                log.exception("approvals: looking failed, and is tried again")
            await asyncio.sleep(RETRY_S)

    async def _due(self) -> None:
        """Until there is something to look at."""
        try:
            async with asyncio.timeout(LOOK_ANYWAY_S if self._listener.up else LOOK_EVERY_S):
                await self._look_now.wait()
        except TimeoutError:
            self._wanted.update(self._held)
        self._look_now.clear()

    async def _look_at_wanted(self) -> None:
        asked, self._wanted = self._wanted & self._held.keys(), set()
        if not asked:
            return
        try:
            async with asyncio.timeout(_ANSWER_S), self._pool.connection() as connection:
                found = await queries.get_many(connection, list(asked), summaries=False)
        except BaseException:
            self._want(asked)
            raise
        for approval, now in found:
            self._saw(approval, now)
        for approval_id in asked - {approval.id for approval, _ in found}:
            for waiter in self._waiters(approval_id):
                waiter.set_exception(NotFound("There is no approval by that id. Ask again without one."))

    def _saw(self, approval: Approval, now: datetime) -> None:
        held = self._held.get(approval.id)
        if held is None:
            return
        held.seen = approval
        if held.expiry is not None:
            held.expiry.cancel()
        if approval.state is State.REQUESTED:
            # By the database's clock, whatever this machine's says.
            left = (approval.expires_at - now).total_seconds()
            held.expiry = asyncio.get_running_loop().call_later(max(left, 0.0) + 0.005, self._want, (approval.id,))
            return
        for waiter in self._waiters(approval.id):
            waiter.set_result(approval)

    def _waiters(self, approval_id: UUID) -> list[asyncio.Future[Approval]]:
        held = self._held.get(approval_id)
        return [waiter for waiter in held.waiters if not waiter.done()] if held else []
