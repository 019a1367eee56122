"""Writes how calls ended: the row and the sealed capsule in one transaction, then the line in the audit log.

Promises: each settlement handed in once ends as one settled row, one capsule and one line, in that order, whatever the
database does in between. On the way it keeps this gateway's heartbeat, drains spools, and takes over from the dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import psycopg

from gatehouse.capsule.canonical import NotCanonical
from gatehouse.capsule.keys import KeyFolder
from gatehouse.core import metrics
from gatehouse.core.call import AuditLine
from gatehouse.core.clock import monotonic, now
from gatehouse.ledger import audit_line, recovery, spool
from gatehouse.ledger.appender import Place, append
from gatehouse.ledger.audit_log import AuditLog
from gatehouse.ledger.bills import charges
from gatehouse.ledger.delivery_notes import DeliveryNotes
from gatehouse.ledger.recovery import Recovery
from gatehouse.ledger.rows import IntentRow
from gatehouse.ledger.settlement import Settlement
from gatehouse.ledger.spool import Spool
from gatehouse.ledger.store import budgets, calls
from gatehouse.storage.connection import Connection
from gatehouse.storage.reconnecting import Reconnecting

log = logging.getLogger("gatehouse.audit")

HEARTBEAT_S = 5.0
# Sealing holds the event loop for some 60 microseconds a capsule: enough of them to be worth a transaction, few enough
# for the calls that wait meanwhile.
_BATCH = 100
# Calls that end within this time share a transaction, which costs as much as sealing ten capsules. Nobody waits for
# it; should the gateway be killed meanwhile, another seals them, as partial.
_LINGER_S = 0.25


class SettlementWriter:
    """The queue of settlements and the task that writes them.

    Args:
        spooling: whether settlements go to the spool while the database is away, instead of staying in memory.
    """

    def __init__(
        self,
        gateway_id: UUID,
        database_url: str,
        *,
        keys: KeyFolder,
        audit_log: AuditLog,
        files: Spool,
        spooling: bool,
        watch: Recovery,
        notes: DeliveryNotes,
    ) -> None:
        self.task = Reconnecting(
            database_url, self._work, self._lost, what="settlements of the ledger", log=log, stage="ledger"
        )
        self.stopping = False
        self._me = gateway_id
        self._keys = keys
        self._audit_log = audit_log
        self._spool = files
        self._spooling = spooling
        self._watch = watch
        self._notes = notes
        self._queue: list[Settlement] = []
        self._unlogged: dict[str, tuple[int, AuditLine]] = {}
        self._logged_through = 0
        self._lives_until = 0.0
        self._due = False
        self._waiting = asyncio.Event()
        self._enough = asyncio.Event()

    @property
    def backlog(self) -> int:
        """Endings that are not yet in the ledger and the file."""
        return len(self._queue) + len(self._unlogged)

    def add(self, settlement: Settlement) -> None:
        """Write this down, soon."""
        self._queue.append(settlement)
        metrics.unsettled.set(self.backlog)
        self._waiting.set()
        if len(self._queue) >= _BATCH:
            self._enough.set()

    def look(self) -> None:
        """Look soon for calls of library mode that are due, for one was reported."""
        self._due = True
        self._waiting.set()

    def stop(self) -> None:
        """Write what there is at once, say goodbye, and end."""
        self.stopping = True
        self._waiting.set()
        self._enough.set()

    async def abandon(self) -> None:
        """Leave what could not be written to the next gateway."""
        await self._to_spool()

    async def _lost(self, error: Exception) -> None:
        await self._to_spool()

    async def _to_spool(self) -> None:
        while self._spooling and self._queue:
            batch = self._queue[:_BATCH]
            try:
                await asyncio.gather(*(self._spool.add(settlement) for settlement in batch))
            except OSError as trouble:
                log.error("the spool cannot be written: %s; endings are kept in memory", trouble.strerror)
                return
            del self._queue[: len(batch)]

    async def _work(self, connection: Connection) -> None:
        next_beat = 0.0
        while True:
            if monotonic() >= next_beat:
                await self._beat(connection)
                next_beat = monotonic() + HEARTBEAT_S
            if not self.stopping and not self._queue and not self._due:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, next_beat - monotonic())):
                        await self._waiting.wait()
                        async with asyncio.timeout(_LINGER_S):
                            await self._enough.wait()
            self._waiting.clear()
            self._enough.clear()
            if self._due and not self.stopping:
                await self._take_due(connection)
            await self._flush(connection, next_beat)
            if self.stopping and not self.backlog:
                await calls.end_gateway(connection, self._me)
                return

    async def _beat(self, connection: Connection) -> None:
        await self._show_life(connection)
        # Spools first: what a dead gateway wrote there is better than what can be said about its calls from outside.
        await self._drain_own(connection)
        await self._drain_orphans(connection)
        for settlement in await self._watch.orphans(connection):
            self.add(settlement)
        await self._take_due(connection)
        self._unlogged.update(await self._watch.unlogged(connection))
        await self._flush(connection, monotonic() + HEARTBEAT_S)
        self.task.working()

    async def _take_due(self, connection: Connection) -> None:
        self._due = False
        taken = await self._watch.due(connection, {settlement.call_id for settlement in self._queue})
        for settlement in taken:
            self.add(settlement)
        self._due = bool(taken)  # there may be more

    async def _show_life(self, connection: Connection) -> None:
        """Move the heartbeat. Where it stood still for long, give up the lines that another gateway now writes."""
        begun, doubtful = monotonic(), monotonic() >= self._lives_until
        await calls.beat(connection, self._me, self._audit_log.log_id, self._logged_through)
        if doubtful and self._unlogged:
            mine = await calls.owned(connection, self._me, list(self._unlogged))
            for call_id in self._unlogged.keys() - mine:
                log.warning("call %s is logged by another gateway, which took this one for dead", call_id)
                del self._unlogged[call_id]
        # Nobody declares this gateway dead sooner than twice that; what it writes until then, the others find written.
        self._lives_until = begun + recovery.DEAD_AFTER_S / 2

    async def _flush(self, connection: Connection, until: float) -> None:
        """Write what there is; no longer than until the next heartbeat, however fast more comes in."""
        while self._queue and monotonic() < until:
            batch = self._queue[:_BATCH]
            await self._settle(connection, self._me, batch)
            del self._queue[: len(batch)]
            await self._write_lines(connection)
        await self._write_lines(connection)
        metrics.unsettled.set(self.backlog)

    async def _settle(self, connection: Connection, owner: UUID, batch: Sequence[Settlement]) -> None:
        """Settle and seal; what the database or the protocol does not take is kept without its details."""
        try:
            await self._commit(connection, owner, batch)
        except (psycopg.DataError, NotCanonical):
            if len(batch) > 1:  # one that is not taken must not hold up the others
                for single in batch:
                    await self._settle(connection, owner, [single])
                return
            log.exception("a call's record was refused; it is kept without its details")
            await self._commit(connection, owner, [batch[0].bare()])

    async def _commit(self, connection: Connection, owner: UUID, batch: Sequence[Settlement]) -> None:
        async with connection.transaction():
            ended = await calls.settle(connection, owner, [settlement.row() for settlement in batch])
            settled = [settlement for settlement in batch if settlement.call_id in ended]
            places = await append(connection, self._keys, [settlement.capsule for settlement in settled], now())
            bill = charges((ended[settlement.call_id], settlement.usd) for settlement in settled)
            await budgets.charge(connection, bill)
        self._notes.settled(ended)
        sequences = {call_id: row.settle_seq for call_id, row in ended.items()}
        missing = [settlement.call_id for settlement in batch if settlement.call_id not in sequences]
        if missing:
            for call_id, found in (await calls.settled_before(connection, owner, missing)).items():
                sequences[call_id] = found.settle_seq
                places[call_id] = Place(found.chain, found.sequence, found.hash, found.signed_by)
        if owner != self._me:
            return  # the lines of the dead are found by `Recovery.unlogged`
        for settlement in batch:
            call_id = settlement.call_id
            if call_id in places:
                place = places[call_id]
                line = audit_line.with_capsule(
                    settlement.record, self._me, place.chain, place.sequence, place.hash, place.signed_by
                )
                self._unlogged[call_id] = sequences[call_id], line
            else:
                log.warning("call %s was settled by another gateway, which took this one for dead", call_id)

    async def _write_lines(self, connection: Connection) -> None:
        if self._unlogged and monotonic() >= self._lives_until:
            await self._show_life(connection)
        if not self._unlogged:
            return
        rows = sorted(self._unlogged.values(), key=lambda row: row[0])
        try:
            self._audit_log.append(line for _, line in rows)
        except OSError as error:
            log.error(
                "%s: %s; its lines are kept in memory and in the database until it can be written",
                self._audit_log.path,
                error.strerror,
            )
            metrics.plugin_errors.labels(stage="audit_log").inc()
            return
        self._unlogged.clear()
        self._logged_through = rows[-1][0]

    async def _drain_own(self, connection: Connection) -> None:
        """Everything that was spooled while the database was away, also what is added meanwhile."""
        while files := await self._spool.cut():
            intents = await self._drain(connection, self._me, files)
            if intents:  # of calls that are not over yet
                await budgets.open_intents(connection, self._me, list(intents.values()), anyhow=True)
            _remove(files)
            await self._write_lines(connection)

    async def _drain_orphans(self, connection: Connection) -> None:
        for owner, files in self._spool.orphans():
            if not files:
                continue
            log.warning("draining the spool of gateway %s, which died", owner)
            intents = await self._drain(connection, owner, files)
            if intents:
                await budgets.open_intents(connection, owner, list(intents.values()), anyhow=True)
            await calls.reopen_log(connection, owner)
            _remove(files)

    async def _drain(self, connection: Connection, owner: UUID, files: Sequence[Path]) -> dict[str, IntentRow]:
        """Settle what these files hold, in order; returns the intents of calls that are not settled in them."""
        intents: dict[str, IntentRow] = {}
        batch: list[Settlement] = []
        for path in files:
            for entry in spool.read(path):
                if not isinstance(entry, Settlement):
                    intents[entry["call_id"]] = entry
                    continue
                intents.pop(entry.call_id, None)
                batch.append(entry)
                if len(batch) == _BATCH:
                    await self._settle(connection, owner, batch)
                    batch = []
        if batch:
            await self._settle(connection, owner, batch)
        return intents


def _remove(files: Sequence[Path]) -> None:
    for path in files:
        path.unlink()
