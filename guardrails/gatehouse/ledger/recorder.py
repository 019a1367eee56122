"""The ledger as the pipeline sees it: `open` before anything goes upstream, `settle` once after.

Promises: `open` returns only when the intent is committed, or, where policy.yaml says `audit.on_error: spool`, on this
machine's disk. What this process takes to its grave another gateway finds. With `deny`, calls are refused while the
ledger cannot be written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import psycopg

from gatehouse.capsule.keys import KeyFolder
from gatehouse.core.call import AuditLine
from gatehouse.core.errors import GovernanceUnavailable
from gatehouse.ledger.audit_log import AuditLog
from gatehouse.ledger.delivery_notes import Delivery, DeliveryNotes
from gatehouse.ledger.intent_writer import IntentWriter
from gatehouse.ledger.recovery import Recovery
from gatehouse.ledger.rows import IntentRow
from gatehouse.ledger.settlement import Settlement
from gatehouse.ledger.settlement_writer import SettlementWriter
from gatehouse.ledger.spool import Spool
from gatehouse.ledger.store import calls
from gatehouse.storage.connection import connect

log = logging.getLogger("gatehouse.audit")

# How long a call may wait for its intent's commit. Longer than any healthy commit, shorter than a client's patience.
OPEN_TIMEOUT_S = 5.0


class Recorder:
    """The one writer of the ledger and of the audit log in this process.

    Args:
        spool_dir: where intents and endings go while the ledger cannot be written.
        spooling: whether calls are let through then.
        by_team: whether each team has a chain of its own.
        died: is told that another gateway has died.
    """

    def __init__(
        self,
        database_url: str,
        audit_log: AuditLog,
        keys: KeyFolder,
        spool_dir: Path,
        *,
        spooling: bool = False,
        by_team: bool = False,
        died: Callable[[], None] = lambda: None,
    ) -> None:
        self.gateway_id: UUID = uuid4()
        self._url = database_url
        self._audit_log = audit_log
        self._spooling = spooling
        self._spool = Spool(spool_dir, self.gateway_id)
        self._delivered = DeliveryNotes(spool_dir, self.gateway_id)
        self._intents = IntentWriter(self.gateway_id, database_url)
        self._settlements = SettlementWriter(
            self.gateway_id,
            database_url,
            keys=keys,
            audit_log=audit_log,
            files=self._spool,
            spooling=spooling,
            watch=Recovery(self.gateway_id, audit_log, by_team=by_team, notes=self._delivered, died=died),
            notes=self._delivered,
        )
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def writable(self) -> bool:
        """Whether intents and endings can be written to the ledger now."""
        return self._intents.task.up and self._settlements.task.up

    @property
    def accepting(self) -> bool:
        """Whether a call can be taken down at all, in the ledger or in the spool."""
        return self.writable or self._spooling

    @property
    def backlog(self) -> int:
        """Endings that are not yet in the ledger and the file."""
        return self._settlements.backlog

    async def start(self, patience_s: float = 30.0) -> None:
        """Register this gateway, take over what the dead left, and be ready to write.

        Raises:
            psycopg.OperationalError: the database is not there.
            TimeoutError: the ledger could not be written; the log says why.
        """
        async with await connect(self._url) as connection:
            await calls.beat(connection, self.gateway_id, self._audit_log.log_id, 0)
        self._tasks = [
            asyncio.create_task(self._intents.task.run(), name="gatehouse-intents"),
            asyncio.create_task(self._settlements.task.run(), name="gatehouse-settlements"),
        ]
        async with asyncio.timeout(patience_s):
            while not self.writable:  # noqa: ASYNC110  # what is awaited happens in Postgres
                await asyncio.sleep(0.01)

    async def open(self, intent: IntentRow) -> None:
        """Commit an intent.

        Raises:
            GovernanceUnavailable: the ledger cannot be written now. Whether the row is there is then unknown;
                the call must be settled all the same.
        """
        if self.writable:
            try:
                async with asyncio.timeout(OPEN_TIMEOUT_S):
                    await self._intents.commit(intent)
                    return
            except (TimeoutError, psycopg.Error, OSError) as error:
                log.warning("intent %s not committed: %s", intent["call_id"], type(error).__name__)
                if not self._spooling:
                    raise GovernanceUnavailable("The ledger did not take the call in time. Try again soon.") from None
        if not self._spooling:
            raise GovernanceUnavailable("The ledger cannot be written now. Try again soon.")
        try:
            await self._spool.add(intent)
        except OSError as error:
            log.error("intent %s not spooled: %s", intent["call_id"], error.strerror)
            raise GovernanceUnavailable("Neither the ledger nor its spool can be written. Try again soon.") from None

    def note_delivered(self, call_id: UUID, delivery: Delivery) -> None:
        """Note that a client is about to have the whole answer, in case this process does not live to settle it."""
        self._delivered.add(str(call_id), delivery)

    def settle(self, settlement: Settlement) -> None:
        """Write down how a call ended, soon. Call it once a call."""
        self._settlements.add(settlement)

    def seal_reported(self) -> None:
        """Seal soon what callers of library mode have reported, here or on another gateway."""
        self._settlements.look()

    def log_only(self, line: AuditLine) -> None:
        """Write a line that has no row: of a call that came while the ledger could not be written, of an approval."""
        try:
            self._audit_log.append([line])
        except OSError as error:
            log.error("audit line of %s not written: %s", line["data"].get("call_id", "an approval"), error.strerror)

    async def stop(self, patience_s: float = 5.0) -> None:
        """Write what is left and say goodbye; what cannot be written in time is left to the next gateway."""
        self._settlements.stop()
        if self._tasks:
            await asyncio.wait([self._tasks[1]], timeout=patience_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._settlements.abandon()
        self._spool.close()
        self._delivered.close()
        self._intents.task.up = False
