"""From a governed call to its capsule: a pure function, the only place that knows what goes into which section.

Promises: whatever a caller sent, the result is a document that can be sealed; in content mode `hash` it holds no text
of prompt or answer, only names, numbers and codes. `redacted` and `full` differ in what content is handed in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from gatehouse.core.call import Outcome, Status, ToolCallRecord
from gatehouse.core.decision import Decision, Verdict
from gatehouse.core.text import clean

DEFAULT_CHAIN: Final = "calls"

# A function name as OpenAI's API allows it, an exception's or an error's name as we write them: no room for a sentence.
_WORD: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class ContentMode(StrEnum):
    """How much of prompt and answer the ledger keeps: policy.yaml's `audit.content`."""

    HASH = "hash"
    REDACTED = "redacted"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Content:
    """What was said. `request` and `answer` are text that may be kept: after masking in mode `redacted`.

    Attributes:
        prompt_hash: SHA3-256 of a salt and the prompt, in lower-case hex; the salt is kept beside the record.

    Raises:
        ValueError: text in mode `hash`, or a digest that is none.
    """

    mode: ContentMode = ContentMode.HASH
    request: str | None = None
    answer: str | None = None
    prompt_hash: str | None = None

    def __post_init__(self) -> None:
        if self.mode is ContentMode.HASH and (self.request is not None or self.answer is not None):
            raise ValueError("content mode hash keeps no text")
        if self.prompt_hash is not None and not _DIGEST.fullmatch(self.prompt_hash):
            raise ValueError("prompt_hash is not a SHA3-256 in lower-case hex")


@dataclass(frozen=True, slots=True)
class SealedApproval:
    """One person's yes to this call."""

    approval_id: UUID
    approver: str
    decided_at: datetime


NO_CONTENT: Final = Content()


def call_capsule(
    *,
    call_id: UUID,
    started_at: datetime,
    request: Mapping[str, Any],
    decision: Decision | None,
    outcome: Outcome,
    duration_ms: float | None,
    approvals: Sequence[SealedApproval] = (),
    tool_calls: Sequence[ToolCallRecord] = (),
    content: Content = NO_CONTENT,
    chain: str = DEFAULT_CHAIN,
) -> dict[str, Any]:
    """The capsule of one call, ready for `gatehouse.capsule.seal.seal`, which gives it its place.

    Args:
        started_at: with a time zone.
        request: who asked for what, as `pipeline.settlement` gives it and the intent's row keeps it.
        decision: None when the call ended before there was one, or nobody knows it any more.
        duration_ms: None when nobody lived to see the end.
        tool_calls: of the tools that the request offered, never a name that the model made up.
        chain: the ledger's chain the capsule goes to.
    """
    duration = None if duration_ms is None else max(0, round(duration_ms))
    call_type = clean(request.get("call_type"))
    return {
        "id": str(call_id),
        "type": "tool" if call_type and "mcp" in call_type else "chat",
        "domain": chain,
        "parent_id": None,
        "sequence": 0,
        "previous_hash": None,
        "spec_version": "1.0",
        "trigger": _trigger(call_id, started_at, request, content),
        "context": _context(request, decision, content),
        "reasoning": _reasoning(request, decision, content),
        "authority": _authority(decision, approvals),
        "execution": {
            "tool_calls": [_tool_call(call, outcome.status, content.mode) for call in tool_calls],
            "duration_ms": duration or 0,
            "resources_used": _resources(outcome),
        },
        "outcome": _outcome(outcome, content, duration),
    }


def _trigger(call_id: UUID, started_at: datetime, request: Mapping[str, Any], content: Content) -> dict[str, Any]:
    caller, agent = request.get("caller") or {}, request.get("agent") or {}
    return {
        "type": "agent" if clean(agent.get("id")) else "user_request",
        "source": clean(caller.get("key_alias")) or clean(caller.get("key_hash")) or "unknown",
        "timestamp": _utc(started_at),
        "request": _text(content.request) or clean(request.get("route")) or "",
        "correlation_id": str(call_id),
        "user_id": clean(caller.get("user")),
    }


def _context(request: Mapping[str, Any], decision: Decision | None, content: Content) -> dict[str, Any]:
    caller, agent = request.get("caller") or {}, request.get("agent") or {}
    return {
        "agent_id": clean(agent.get("id")) or "",
        "session_id": clean(agent.get("session")),
        "environment": {
            "content": content.mode.value,
            "route": clean(request.get("route")),
            "call_type": clean(request.get("call_type")),
            "stream": request.get("stream") is True,
            # Whose outcome is what the caller says of it.
            **({"library": True} if request.get("library") is True else {}),
            "caller": {str(clean(name)): clean(value) for name, value in caller.items()},
            "policy_version": decision and clean(decision.policy_version),
            "policies": _rules(decision),
        },
    }


def _reasoning(request: Mapping[str, Any], decision: Decision | None, content: Content) -> dict[str, Any]:
    return {
        "analysis": "",
        # The protocol's reference rebuilds `options` from `options_considered`: both are empty, or both are full.
        "options": [],
        "options_considered": [],
        "selected_option": decision.verdict.value if decision else "",
        "reasoning": (decision and clean(decision.reason)) or "",
        # Rules decide, and a rule is never in doubt.
        "confidence": 1.0 if decision else 0.0,
        "model": clean(request.get("model")),
        "prompt_hash": content.prompt_hash,
    }


def _outcome(outcome: Outcome, content: Content, duration: int | None) -> dict[str, Any]:
    return {
        "status": outcome.status.value,
        "result": _text(content.answer),
        "summary": _summary(outcome),
        "error": _word(outcome.error),
        "side_effects": [],
        "metrics": {
            "latency_ms": duration,
            "http_status": outcome.http_status,
            "cache_hit": outcome.cache_hit,
            "client_gone": outcome.client_gone,
            "cost_source": outcome.cost_source,
        },
    }


def _authority(decision: Decision | None, approvals: Sequence[SealedApproval]) -> dict[str, Any]:
    rules = _rules(decision)
    by_rule = bool(rules) or (decision is not None and decision.verdict is not Verdict.ALLOW)
    return {
        "type": "human_approved" if approvals else "policy" if by_rule else "autonomous",
        "approver": ", ".join(str(clean(approval.approver)) for approval in approvals) or None,
        "policy_reference": ",".join(rules) or None,
        "chain": [
            {
                "approval_id": str(approval.approval_id),
                "approver": clean(approval.approver),
                "decided_at": _utc(approval.decided_at),
            }
            for approval in approvals
        ],
        "escalation_reason": None,
    }


def _resources(outcome: Outcome) -> dict[str, Any]:
    usage = outcome.usage
    return {
        "model": clean(outcome.model),
        "provider": clean(outcome.provider),
        "tokens_in": usage and usage.prompt_tokens,
        "tokens_out": usage and usage.completion_tokens,
        "tokens_total": usage and usage.total_tokens,
        "cost_usd": _decimal(outcome.cost_usd),
    }


def _tool_call(call: ToolCallRecord, status: Status, mode: ContentMode) -> dict[str, Any]:
    """Asked for, not run: the agent runs it, out of our sight."""
    kept = mode is not ContentMode.HASH and call.arguments is not None
    return {
        "tool": _word(call.tool),
        "arguments": {"json": _text(call.arguments)} if kept else {},
        "result": None,
        "success": status is Status.SUCCESS,
        "duration_ms": 0,
        "error": None,
    }


def _summary(outcome: Outcome) -> str:
    why = _word(outcome.error) or (str(outcome.http_status) if outcome.http_status else "")
    return f"{outcome.status.value} ({why})" if why else outcome.status.value


def _rules(decision: Decision | None) -> list[str]:
    return [str(clean(rule)) for rule in decision.policies] if decision else []


def _decimal(amount: float | None) -> str | None:
    """Money as a decimal string: `1.5e-06` and `0.0` are spelled otherwise by JSON writers of other languages."""
    if amount is None:
        return None
    value = Decimal(repr(float(amount)))
    return f"{value:f}" if value.is_finite() else None


def _word(text: object) -> str | None:
    """A name or a code as it is; anything longer might quote somebody."""
    if text is None:
        return None
    return str(text) if _WORD.fullmatch(str(text)) else "unprintable"


def _text(text: str | None) -> str | None:
    """Content, whole, without what UTF-8 cannot say."""
    return None if text is None else text.encode("utf-8", "replace").decode()


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()
