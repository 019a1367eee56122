"""From a call and its outcome to the rows and lines that are kept: pure functions, no content of prompts or answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from gatehouse.core.call import AuditLine, GovernedCall, Outcome, Status
from gatehouse.core.decision import Decision, Verdict
from gatehouse.ledger.rows import RequestRow

_EVENTS = {
    Status.SUCCESS: "chat_completion_success",
    Status.FAILURE: "chat_completion_failure",
    Status.PARTIAL: "chat_completion_failure",
    Status.BLOCKED: "chat_completion_blocked",
}

_CALLER = ("key_hash", "key_alias", "user", "team", "org", "role", "end_user")


def line(
    call_id: UUID,
    request: RequestRow,
    decision: Decision | None,
    outcome: Outcome,
    at: datetime,
    response_time_ms: float | None,
) -> AuditLine:
    """The audit line of a call that ended."""
    verdict = Verdict.DENY if outcome.status is Status.BLOCKED else Verdict.ALLOW
    data: dict[str, Any] = {
        "call_id": str(call_id),
        "status": outcome.status.value,
        **request,
        "response_time_ms": None if response_time_ms is None else round(response_time_ms, 1),
        "http_status": outcome.http_status,
        "answered_by": outcome.model,
        "provider": outcome.provider,
        "usage": None
        if outcome.usage is None
        else {
            "prompt_tokens": outcome.usage.prompt_tokens,
            "completion_tokens": outcome.usage.completion_tokens,
            "total_tokens": outcome.usage.total_tokens,
        },
        "cost_usd": outcome.cost_usd,
        "cost_source": outcome.cost_source,
        "cache_hit": outcome.cache_hit,
        "decision": (decision.verdict if decision else verdict).value,
        "error": outcome.error,
        "client_gone": outcome.client_gone,
    }
    return {
        "timestamp": at.isoformat(timespec="milliseconds"),
        "event_type": _EVENTS[outcome.status],
        "data": {key: value for key, value in data.items() if value is not None},
    }


def with_capsule(
    line: AuditLine, gateway_id: UUID, chain: str, sequence: int, digest: str, signed_by: str
) -> AuditLine:
    """The audit line with the place of the call's capsule in the ledger, and with the gateway that writes the line."""
    capsule = {"chain": chain, "sequence": sequence, "hash": digest, "signed_by": signed_by}
    return {**line, "data": line["data"] | {"gateway": str(gateway_id), "capsule": capsule}}


def bare(line: AuditLine) -> AuditLine:
    """An audit line without anything that came from outside."""
    return {**line, "data": {name: line["data"][name] for name in ("call_id", "status", "decision")}}


def caller_facts(call: GovernedCall) -> dict[str, str]:
    """Who asks, as it is kept: what is known of them."""
    return {name: value for name in _CALLER if (value := getattr(call.caller, name))}
