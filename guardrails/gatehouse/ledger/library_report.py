"""How a call of library mode ended, from its row: as its caller reported, or that nobody did. Pure.

`report_row` makes what the row keeps of a report, `ending` makes the settlement of it, on whichever gateway that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from gatehouse.capsule.document import NO_CONTENT, Content, ContentMode
from gatehouse.core.call import Outcome, Status, ToolCallRecord, Usage
from gatehouse.core.errors import GovernanceError
from gatehouse.core.reasons import Reason
from gatehouse.core.text import clean
from gatehouse.ledger.rows import BlockedRow, ReportRow
from gatehouse.ledger.settlement import Settlement, approvals_of, decision_of, estimated_usd, settlement
from gatehouse.ledger.store.library_calls import LibraryCall


@dataclass(frozen=True, slots=True)
class Report:
    """What a caller says of a call that they made.

    Attributes:
        model: the one that answered.
        cost_usd: US dollars, as the caller reckons.
        error: a class or a code; no sentence.
        answer: what the model said, as it came.
        tools: names of the tools that the model asked for.
    """

    status: Status
    model: str | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    latency_ms: float | None = None
    error: str | None = None
    answer: str | None = field(default=None, repr=False)
    tools: Sequence[str] = ()


def report_row(report: Report, call: LibraryCall, answer: str | None, blocked: GovernanceError | None) -> ReportRow:
    """What the call's row keeps of a report.

    Args:
        answer: as much of it as policy.yaml's `audit.content` lets be kept.
        blocked: why it would not have been passed on.
    """
    facts = (call.decision and call.decision.get("facts")) or {}
    offered = facts.get("request", {}).get("tools") or ()
    usage = report.usage
    return {
        "status": report.status.value,
        "model": clean(report.model),
        "usage": None if usage is None else [usage.prompt_tokens, usage.completion_tokens, usage.total_tokens],
        "cost_usd": report.cost_usd,
        "latency_ms": report.latency_ms,
        "error": clean(report.error),
        "tools": [name for name in report.tools if name in offered],
        "answer": None if answer is None else answer.replace("\0", "\ufffd"),
        "blocked": None if blocked is None else _blocked(blocked),
    }


def _blocked(error: GovernanceError) -> BlockedRow:
    return {"code": error.code, "message": error.message, "policies": list(error.policies)}


def ending(call: LibraryCall, ended_at: datetime, *, by_team: bool) -> Settlement:
    """The settlement of a call that is due."""
    said = call.reported
    sealed = settlement(
        call_id=call.call_id,
        started_at=call.started_at,
        request=call.request,
        decision=decision_of(call.decision),
        approvals=approvals_of(call.decision),
        outcome=Outcome(Status.PARTIAL, error=Reason.NOT_REPORTED) if said is None else _outcome(said),
        ended_at=ended_at,
        duration_ms=None if said is None else said["latency_ms"],
        by_team=by_team,
        content=_content(call),
        salt=bytes.fromhex((call.prompt and call.prompt.get("salt")) or "") or None,
        tool_calls=[ToolCallRecord(name) for name in (said and said.get("tools")) or ()],
    )
    return replace(sealed, usd=None if said is None else counted_usd(said["cost_usd"], call))


def counted_usd(reported: float | None, call: LibraryCall) -> float | None:
    """Return what a call's payers are charged: what its caller reports, and no more than its estimate.

    Returns:
        None where its caller reports no cost, or it has no price.
    """
    estimated = estimated_usd(call.decision)
    return None if reported is None or estimated is None else min(reported, estimated)


def _outcome(said: ReportRow) -> Outcome:
    blocked = said["blocked"]
    return Outcome(
        Status.BLOCKED if blocked else Status(said["status"]),
        model=said["model"],
        usage=Usage(*said["usage"]) if said["usage"] else None,
        cost_usd=said["cost_usd"],
        error=blocked["code"] if blocked else said["error"],
    )


def _content(call: LibraryCall) -> Content:
    prompt = call.prompt
    if prompt is None:
        return NO_CONTENT
    mode = ContentMode(prompt.get("mode") or ContentMode.HASH)
    if mode is ContentMode.HASH:
        return Content(prompt_hash=prompt.get("hash"))
    return Content(mode, prompt.get("text"), call.reported and call.reported.get("answer"), prompt.get("hash"))
