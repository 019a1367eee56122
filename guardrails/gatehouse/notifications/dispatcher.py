"""Sends what is in the outbox: one task in each gateway process, any number of gateways on one database.

Promises: a committed event is sent, or given up after a day with a log line and a metric; two gateways never send one
row at the same time; a slow or unreachable address does not delay the others. A gateway that dies, or loses the
database, between sending and recording leaves a row that is sent again with the same id: at least once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Iterable
from typing import Final
from uuid import uuid4

from gatehouse.core import clock
from gatehouse.notifications import outbox
from gatehouse.notifications.messages import Notice
from gatehouse.notifications.metrics import notifications
from gatehouse.notifications.outbox import Claim
from gatehouse.notifications.senders import SEND_TIMEOUT_S, NotDelivered, Sender
from gatehouse.storage.connection import Connection
from gatehouse.storage.reconnecting import Reconnecting

log = logging.getLogger("gatehouse.notifications")

AT_ONCE: Final = 4
"""Parallel attempts of one gateway at one address."""

# Longer than an attempt and its recording, so a gateway takes a row over only from one that died.
LEASE_S: Final = SEND_TIMEOUT_S + 45
# NOTIFY wakes the dispatcher at once. Polling finds failed attempts, expired leases, and rows of a lost listener.
POLL_S: Final = 1.0
FIRST_RETRY_S: Final = 5.0
LAST_RETRY_S: Final = 3600.0
_SWEEP_S: Final = 600.0


def backoff(attempt: int, retry_after_s: float, luck: float) -> float:
    """Return the seconds until the next attempt: half to all of a delay that doubles, and at least `retry_after_s`.

    Args:
        attempt: the failed attempt, counted from 1.
        luck: between 0 and 1, so that attempts that failed together do not return together.
    """
    longest = min(FIRST_RETRY_S * 2.0 ** min(attempt - 1, 20), LAST_RETRY_S)
    return max(longest * (0.5 + luck / 2), retry_after_s)


class Dispatcher:
    """Send the outbox's rows in this process.

    Args:
        addresses: the senders to whom it sends.

    Attributes:
        names: the addresses' names, for `outbox.enqueue`.
    """

    def __init__(self, database_url: str, addresses: Iterable[Sender]) -> None:
        self._senders = {each.name: each for each in addresses}
        self.names: tuple[str, ...] = tuple(self._senders)
        self._attempts: dict[asyncio.Task[None], str] = {}
        self._ended: list[tuple[Claim, NotDelivered | None]] = []
        self._wake = asyncio.Event()
        self._stopping = False
        self._sweep_at = 0.0
        self._send = Reconnecting(database_url, self._work, what="notifications", log=log)
        self._hear = Reconnecting(database_url, self._listen, what="news of notifications", log=log)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to send. The database may become reachable later."""
        if self._senders:
            self._tasks = [
                asyncio.create_task(self._send.run(), name="gatehouse-notifications"),
                asyncio.create_task(self._hear.run(), name="gatehouse-notifications-listen"),
            ]

    async def stop(self, patience_s: float = 5.0) -> None:
        """Claim nothing more, let attempts end, and record their results; others repeat what has no result."""
        self._stopping = True
        self._wake.set()
        if not self._tasks:
            return
        work, listen = self._tasks
        listen.cancel()
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=patience_s / 2)
        for attempt in self._attempts:
            attempt.cancel()
        await asyncio.wait([work], timeout=patience_s / 2)
        work.cancel()
        await asyncio.gather(work, listen, *self._attempts, return_exceptions=True)

    async def _listen(self, connection: Connection) -> None:
        await connection.execute(f"listen {outbox.CHANNEL}")
        self._hear.working()
        self._wake.set()
        async for _ in connection.notifies():
            self._wake.set()

    async def _work(self, connection: Connection) -> None:
        while True:
            self._wake.clear()
            await self._record_results(connection)
            self._send.working()
            if not self._stopping:
                await self._begin(connection)
            elif not self._attempts and not self._ended:
                return
            try:
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _begin(self, connection: Connection) -> None:
        busy = Counter([*self._attempts.values(), *(claim.address for claim, _ in self._ended)])
        free = {name: AT_ONCE - busy[name] for name in self.names if busy[name] < AT_ONCE}
        for claim in await outbox.claim(connection, free, uuid4(), LEASE_S) if free else ():
            task = asyncio.create_task(self._attempt(claim), name=f"gatehouse-notification-{claim.event_id}")
            self._attempts[task] = claim.address
            task.add_done_callback(self._done)
        if clock.monotonic() >= self._sweep_at:
            self._sweep_at = clock.monotonic() + _SWEEP_S
            for event_id, address in await outbox.give_up_unknown(connection, self.names):
                notifications.labels(type="unknown", result="dead").inc()
                log.error("notification of %s given up: policy.yaml no longer has an address %s", event_id, address)

    async def _attempt(self, claim: Claim) -> None:
        """Send, and leave the result for `_record_results`."""
        try:
            await self._senders[claim.address].send(Notice.of_row(claim.event))
            self._ended.append((claim, None))
        except NotDelivered as error:
            self._ended.append((claim, error))
        except asyncio.CancelledError:
            self._ended.append((claim, NotDelivered("the gateway stopped")))
            raise
        except Exception as error:
            log.error("notification of %s to %s: %s", claim.event_id, claim.address, type(error).__name__)
            self._ended.append((claim, NotDelivered(type(error).__name__)))

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._attempts[task]
        self._wake.set()

    async def _record_results(self, connection: Connection) -> None:
        while self._ended:
            claim, error = self._ended[0]
            if error is None:
                await outbox.sent(connection, claim)
                result = "sent"
            else:
                wait = backoff(claim.attempt, error.retry_after_s, random.random())  # noqa: S311  # spreads load
                state = await outbox.failed(connection, claim, str(error), wait)
                result = "dead" if state == "dead" else "failed"
            self._ended.pop(0)
            notifications.labels(type=self._senders[claim.address].kind, result=result).inc()
            if result == "dead":
                log.error(
                    "notification of %s to %s given up after %d attempts: %s. Check that the address answers.",
                    claim.event_id,
                    claim.address,
                    claim.attempt,
                    error,
                )
