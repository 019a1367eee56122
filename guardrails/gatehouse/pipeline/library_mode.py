"""Calls whose caller has the gateway decide, calls the model themselves, and reports how that ended: library mode.

Promises: the stages are those of a call through the gateway, and the intent is committed before the caller may send.
Whatever happens to this process, and whoever hears the report, each such call is sealed once: as reported, or, when
nobody reports it in time, as partial.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import psycopg

from gatehouse.core.call import Caller, GovernedCall
from gatehouse.core.clock import now
from gatehouse.core.errors import Gone, GovernanceUnavailable, NotFound
from gatehouse.ledger import library_report
from gatehouse.ledger.library_report import Report
from gatehouse.ledger.recorder import Recorder
from gatehouse.ledger.rows import BlockedRow
from gatehouse.ledger.store import library_calls
from gatehouse.ledger.store.library_calls import LibraryCall
from gatehouse.pipeline.pipeline import Pipeline
from gatehouse.pipeline.scope import CallScope
from gatehouse.storage.connection import Connection, Pool

_T = TypeVar("_T")

# How long a report waits for the database, its turn included.
_PATIENCE_S = 10.0

_UNKNOWN = "You have no call by that id that was let through in library mode. Take the id from the answer of decide."
_OVER = "The time to report this call is over; it is recorded as partial. Report each call as soon as it has ended."


@dataclass(frozen=True, slots=True)
class AdmittedCall:
    """A call that its caller may make.

    Attributes:
        policies: ids of the rules that matched.
        originals: what each placeholder in the body stands for.
        expires_at: until when it can be reported.
    """

    policies: tuple[str, ...]
    expires_at: datetime
    originals: Mapping[str, str] = field(repr=False)


def _turns(call: LibraryCall) -> str:
    caller = call.request.get("caller") or {}
    return Caller(caller.get("key_hash"), user=caller.get("user"), team=caller.get("team")).turns


@dataclass(frozen=True, slots=True)
class AcceptedReport:
    """A report that is kept.

    Attributes:
        blocked: where the gateway would not have passed the answer on.
        first: false where the same call was reported before, which counts.
    """

    call: LibraryCall
    blocked: BlockedRow | None
    first: bool


class Library:
    """One gateway process's."""

    def __init__(self, pipeline: Pipeline, recorder: Recorder, pool: Pool) -> None:
        self._pipeline = pipeline
        self._recorder = recorder
        self._pool = pool

    async def decide(self, scope: CallScope, call: GovernedCall, body: MutableMapping[str, Any]) -> AdmittedCall:
        """Let a call through, with `body` as it may be sent, or raise.

        Raises:
            GovernanceError: the call is refused.
        """
        await self._pipeline.admit(scope, call, body)
        decision, expires_at = scope.considered.decision, now() + timedelta(seconds=self._pipeline.report_within_s)
        assert decision is not None
        return AdmittedCall(decision.policies, expires_at, scope.mask.originals if scope.mask is not None else {})

    def refused(self, scope: CallScope) -> None:
        """Write down that a call was refused; `scope` says why."""
        self._pipeline.conclude(scope)

    async def report(self, call_id: UUID, is_theirs: Callable[[LibraryCall], bool], report: Report) -> AcceptedReport:
        """Keep what a caller says of their call; the first report counts. The call is sealed soon after.

        Raises:
            NotFound: there is no such call, or it is somebody else's.
            Gone: nobody reported it in time.
            GovernanceUnavailable: the database is away.
        """
        call = await self._find(call_id, is_theirs)
        if call.open:
            answer, blocked = await self._pipeline.heard(report.answer, call.masking_scope, _turns(call))
            row = library_report.report_row(report, call, answer, blocked)
            if await self._database(lambda connection: library_calls.report(connection, call_id, row)):
                self._recorder.seal_reported()
                return AcceptedReport(call, row["blocked"], first=True)
            call = await self._find(call_id, is_theirs)  # another report came first, or the time ran out
        if call.reported is None:
            raise Gone(_OVER)
        return AcceptedReport(call, call.reported.get("blocked"), first=False)

    async def _find(self, call_id: UUID, is_theirs: Callable[[LibraryCall], bool]) -> LibraryCall:
        call = await self._database(lambda connection: library_calls.find(connection, call_id))
        if call is None or not is_theirs(call):
            raise NotFound(_UNKNOWN)
        return call

    async def _database(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        try:
            async with asyncio.timeout(_PATIENCE_S), self._pool.connection() as connection:
                return await work(connection)
        except (psycopg.OperationalError, OSError):
            raise GovernanceUnavailable("The ledger cannot be reached now. Try again soon.") from None
