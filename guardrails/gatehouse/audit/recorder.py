"""Commits intents before anything goes upstream, and how calls ended after: group commit on two connections.

Promises: `open` returns only when the intent is committed. Each call handed to `settle` once ends as one settled row
and one line in the audit log, in that order, whatever the database does in between; what this process takes to its
grave another gateway finds (`audit/recovery.py`). Without a database `open` refuses at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import psycopg

from gatehouse import metrics
from gatehouse.audit import record
from gatehouse.audit.jsonl import AuditLog
from gatehouse.audit.recovery import Recovery
from gatehouse.clock import monotonic
from gatehouse.db import calls
from gatehouse.db.connection import connect
from gatehouse.errors import GovernanceUnavailable

log = logging.getLogger("gatehouse.audit")

# How long a call may wait for its intent's commit. Longer than any healthy commit, shorter than a client's patience.
OPEN_TIMEOUT_S = 5.0
HEARTBEAT_S = 5.0
_RETRY_S = 0.5
# Postgres answers a batch of this size in a few milliseconds; more would only make the next batch wait.
_BATCH = 500

Row = dict[str, Any]
Waiting = tuple[Row, asyncio.Future[None]]


class Recorder:
    """The one writer of `gatehouse.calls` and of the audit log in this process."""

    def __init__(self, database_url: str, audit_log: AuditLog) -> None:
        self.gateway_id: UUID = uuid4()
        self.writable = False
        self._url = database_url
        self._audit_log = audit_log
        self._intents: list[Waiting] = []
        self._settlements: list[Row] = []
        self._unlogged: dict[str, Row] = {}
        self._logged_through = 0
        self._intent_waiting = asyncio.Event()
        self._settlement_waiting = asyncio.Event()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._recovery = Recovery(self.gateway_id, audit_log)

    @property
    def backlog(self) -> int:
        """Endings that are not yet in the database and the file."""
        return len(self._settlements) + len(self._unlogged)

    async def start(self) -> None:
        """Register this gateway and begin to write.

        Raises:
            psycopg.OperationalError: the database is not there.
        """
        async with await connect(self._url) as connection:
            await calls.beat(connection, self.gateway_id, self._audit_log.log_id, 0)
        self.writable = True
        self._tasks = [
            asyncio.create_task(self._keep_connected(self._write_intents), name="gatehouse-intents"),
            asyncio.create_task(self._keep_connected(self._write_settlements), name="gatehouse-settlements"),
        ]

    async def open(self, intent: Row) -> None:
        """Commit an intent: `{call_id, started_at, request}`.

        Raises:
            GovernanceUnavailable: the ledger cannot be written now. Whether the row is there is then unknown;
                the call must be settled all the same.
        """
        if not self.writable:
            raise GovernanceUnavailable("The ledger cannot be written: the database is not reachable. Try again soon.")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._intents.append((intent, done))
        self._intent_waiting.set()
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await done
        except (TimeoutError, psycopg.Error, OSError) as error:
            log.warning("intent %s not committed: %s", intent["call_id"], type(error).__name__)
            raise GovernanceUnavailable("The ledger did not take the call in time. Try again soon.") from None

    def settle(self, settlement: Row) -> None:
        """Write down how a call ended, soon: `{call_id, started_at, request, record}`. Call it once a call."""
        self._settlements.append(settlement)
        metrics.unsettled.set(self.backlog)
        self._settlement_waiting.set()

    def log_only(self, line: Row) -> None:
        """Write the line of a call that has no row, because the ledger could not be written when it came."""
        try:
            self._audit_log.append([line])
        except OSError as error:
            log.error("audit line of call %s not written: %s", line["data"]["call_id"], error.strerror)

    async def stop(self, patience_s: float = 5.0) -> None:
        """Write what is left and say goodbye; what cannot be written in time is left to the next gateway."""
        self._stopping = True
        self._settlement_waiting.set()
        if self._tasks:
            await asyncio.wait([self._tasks[1]], timeout=patience_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.writable = False

    async def _keep_connected(self, work: Callable[[calls.Connection], Awaitable[None]]) -> None:
        """Run `work` on a connection of its own; on a lost connection, get another and go on."""
        while True:
            try:
                async with await connect(self._url) as connection:
                    self.writable = True
                    await work(connection)
                    return
            except (psycopg.Error, OSError) as error:
                if self.writable:
                    log.error(
                        "the ledger's database is gone (%s); calls are refused until it is back", type(error).__name__
                    )
                self._lost(error)
            except Exception as error:
                log.exception("the ledger's writer failed; calls are refused until it works again")
                metrics.plugin_errors.labels(stage="ledger").inc()
                self._lost(error)
            await asyncio.sleep(_RETRY_S)

    def _lost(self, error: Exception) -> None:
        self.writable = False
        waiting, self._intents = self._intents, []
        for _, done in waiting:
            if not done.done():
                done.set_exception(error)

    async def _write_intents(self, connection: calls.Connection) -> None:
        while True:
            await self._intent_waiting.wait()
            self._intent_waiting.clear()
            while self._intents:
                # A call whose client is gone does not wait any more; it is settled with its whole row.
                batch = [(row, done) for row, done in self._intents[:_BATCH] if not done.done()]
                del self._intents[:_BATCH]
                if not batch:
                    continue
                try:
                    await self._commit_intents(connection, batch)
                except BaseException:
                    self._intents[:0] = batch
                    raise

    async def _commit_intents(self, connection: calls.Connection, batch: list[Waiting]) -> None:
        try:
            await calls.insert_intents(connection, self.gateway_id, [row for row, _ in batch])
        except psycopg.DataError as error:
            if len(batch) > 1:  # one intent that Postgres does not take must not refuse the others
                for single in batch:
                    await self._commit_intents(connection, [single])
                return
            batch[0][1].set_exception(error)
        for _, done in batch:
            if not done.done():
                done.set_result(None)

    async def _write_settlements(self, connection: calls.Connection) -> None:
        next_beat = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, next_beat - monotonic())):
                    await self._settlement_waiting.wait()
            self._settlement_waiting.clear()
            while self._settlements:
                await self._settle_batch(connection)
            self._write_lines()
            metrics.unsettled.set(self.backlog)
            if monotonic() >= next_beat:
                next_beat = monotonic() + HEARTBEAT_S
                await calls.beat(connection, self.gateway_id, self._audit_log.log_id, self._logged_through)
                await self._recover(connection)
            if self._stopping and not self.backlog:
                await calls.end_gateway(connection, self.gateway_id)
                return

    async def _settle_batch(self, connection: calls.Connection) -> None:
        batch = self._settlements[:_BATCH]
        try:
            sequences = await calls.settle(connection, self.gateway_id, batch)
        except psycopg.DataError:
            # One row that Postgres does not take must not hold up the others: find it, and keep of it what is sure.
            log.exception("a call's record was refused by the database; it is kept without its details")
            sequences = {}
            for number, settlement in enumerate(batch):
                batch[number] = await self._settle_doubtful(connection, settlement, sequences)
        del self._settlements[: len(batch)]
        for settlement in batch:
            call_id = settlement["call_id"]
            if call_id in sequences:
                self._unlogged[call_id] = {"seq": sequences[call_id], "record": settlement["record"]}
            else:
                log.warning("call %s was settled by another gateway, which took this one for dead", call_id)
        self._write_lines()

    async def _settle_doubtful(self, connection: calls.Connection, settlement: Row, sequences: dict[str, int]) -> Row:
        try:
            sequences |= await calls.settle(connection, self.gateway_id, [settlement])
        except psycopg.DataError:
            settlement = settlement | {"request": {}, "record": record.bare(settlement["record"])}
            sequences |= await calls.settle(connection, self.gateway_id, [settlement])
        return settlement

    def _write_lines(self) -> None:
        if not self._unlogged:
            return
        rows = sorted(self._unlogged.values(), key=lambda row: int(row["seq"]))
        try:
            self._audit_log.append(row["record"] for row in rows)
        except OSError as error:
            log.error(
                "%s: %s; its lines are kept in memory and in the database until it can be written",
                self._audit_log.path,
                error.strerror,
            )
            metrics.plugin_errors.labels(stage="audit_log").inc()
            return
        self._unlogged.clear()
        self._logged_through = rows[-1]["seq"]

    async def _recover(self, connection: calls.Connection) -> None:
        for settlement in await self._recovery.orphans(connection):
            self.settle(settlement)
        for row in await self._recovery.unlogged(connection):
            self._unlogged[row["call_id"]] = row
        self._write_lines()
