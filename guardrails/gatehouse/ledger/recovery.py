"""Finds what dead gateways left behind, intents without an ending and endings without a line, and what is nobody's:
calls of library mode whose ending was reported, or will not be any more.

A gateway is dead when its heartbeat did not move while this process watched it, connected, for `DEAD_AFTER_S`. No
clocks are compared, and a database that was away makes nobody look dead. Taking a call over is one UPDATE, so
each goes to one gateway.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from uuid import UUID

from gatehouse.core import metrics
from gatehouse.core.call import AuditLine, CostSource, Outcome, Status
from gatehouse.core.clock import monotonic, now
from gatehouse.core.reasons import Reason
from gatehouse.ledger import audit_line, library_report
from gatehouse.ledger.audit_log import AuditLog
from gatehouse.ledger.delivery_notes import Delivery, DeliveryNotes
from gatehouse.ledger.settlement import Settlement, approvals_of, decision_of, settlement
from gatehouse.ledger.store import calls, library_calls
from gatehouse.storage.connection import Connection

log = logging.getLogger("gatehouse.audit")

DEAD_AFTER_S = 15.0


class Recovery:
    """One gateway's watch over the others. Used by one task on one connection at a time.

    Args:
        notes: says which answers of dead gateways were delivered.
        died: is told that another gateway has died.
    """

    def __init__(
        self,
        gateway_id: UUID,
        audit_log: AuditLog,
        *,
        by_team: bool,
        notes: DeliveryNotes,
        died: Callable[[], None] = lambda: None,
    ) -> None:
        self._notes = notes
        self._died = died
        self._me = gateway_id
        self._by_team = by_team
        self._audit_log = audit_log
        self._seen: dict[UUID, tuple[int, float]] = {}
        self._connection: Connection | None = None

    async def orphans(self, connection: Connection) -> list[Settlement]:
        """Settlements for the calls of gateways found dead; they belong to this gateway from now on.

        They are partial, but for those whose answer was noted as delivered.
        """
        if connection is not self._connection:
            self._seen.clear()
            self._connection = connection
        await self._bury(connection)
        found = await calls.adopt_open_calls(connection, self._me)
        if found:
            log.warning("%d calls of a gateway that died are sealed from what it left", len(found))
        delivered = await asyncio.to_thread(self._notes.of_others) if found else {}
        return [
            settlement(
                call_id=call.call_id,
                started_at=call.started_at,
                request=call.request,
                decision=decision_of(call.decision),
                approvals=approvals_of(call.decision),
                outcome=_died(call.may_cost_usd, delivered.get(str(call.call_id))),
                ended_at=now(),
                duration_ms=None,
                by_team=self._by_team,
            )
            for call in found
        ]

    async def due(self, connection: Connection, known: Collection[str]) -> list[Settlement]:
        """Settlements of calls in library mode whose time it is; but not of those that are `known` to be under way."""
        found = [call for call in await library_calls.take_due(connection, self._me) if str(call.call_id) not in known]
        silent = [call for call in found if call.reported is None]
        if silent:
            log.warning("%d calls of library mode were not reported in time; they are sealed as partial", len(silent))
        endings = [self._ending(call) for call in found]
        for call, ending in zip(found, endings, strict=True):
            call_type = str(call.request.get("call_type"))
            metrics.calls_total.labels(outcome=ending.record["data"]["status"], call_type=call_type).inc()
        return endings

    def _ending(self, call: library_calls.LibraryCall) -> Settlement:
        try:
            return library_report.ending(call, now(), by_team=self._by_team)
        except (ValueError, TypeError, LookupError):  # another version's: no such call may hold up the others
            log.exception("what was reported of call %s cannot be read; it is sealed without", call.call_id)
            bare = replace(call, request={}, decision=None, prompt=None, reported=None)
            return library_report.ending(bare, now(), by_team=self._by_team)

    async def unlogged(self, connection: Connection) -> dict[str, tuple[int, AuditLine]]:
        """Take over lines of settled calls that a dead gateway on the same log folder did not write.

        Returns:
            call id to settle sequence and line.
        """
        found = await calls.adopt_unlogged(connection, self._me, self._audit_log.log_id)
        missing = await asyncio.to_thread(self._audit_log.missing, set(found)) if found else set()
        return {
            call_id: (call.settle_seq, audit_line.with_capsule(record, self._me, *call.place))
            for call_id, (call, record) in found.items()
            if call_id in missing
        }

    async def _bury(self, connection: Connection) -> None:
        beating = await calls.live_gateways(connection, self._me)
        time = monotonic()
        self._seen = {
            gateway: seen if (seen := self._seen.get(gateway)) and seen[0] == heartbeat else (heartbeat, time)
            for gateway, heartbeat in beating.items()
        }
        for gateway, (heartbeat, since) in self._seen.items():
            if time - since >= DEAD_AFTER_S:
                await calls.declare_dead(connection, gateway, heartbeat)
                self._died()


def _died(may_cost_usd: float | None, delivered: Delivery | None) -> Outcome:
    """Return how a call ended whose gateway died: its provider may have been asked, and may charge for an answer."""
    usd = may_cost_usd if delivered is None or delivered.usd is None else delivered.usd
    source = CostSource.NO_PRICE if usd is None else CostSource.ESTIMATED
    if delivered is not None:
        return Outcome(Status.SUCCESS, http_status=delivered.http_status, cost_usd=usd, cost_source=source)
    return Outcome(Status.PARTIAL, error=Reason.GATEWAY_DIED, cost_usd=usd, cost_source=source)
