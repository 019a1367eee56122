"""Turns the gateway's JSON into the adapter's results.

Pure functions. A wrong shape is a ValueError that names the place; Sender.reading turns it into an InvalidResponse.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from gatehouse_adapter.results import (
    Approval,
    ChatChunk,
    Completion,
    CostEstimate,
    Health,
    Model,
    ToolCall,
    ToolCallDelta,
    Usage,
)

COST_HEADER = "x-litellm-response-cost"

T = TypeVar("T")


def json_object(body: bytes | str) -> dict[str, Any]:
    return json_value(body, dict)


def json_value(body: bytes | str, kind: type[T]) -> T:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"it is not JSON ({exc})") from None
    return _typed(parsed, kind, "it")


def completion(raw: dict[str, Any], headers: Mapping[str, str], call_id: str | None) -> Completion:
    choices = _typed(raw.get("choices"), list, "choices")
    if not choices:
        raise ValueError("it has no choices")
    choice = _typed(choices[0], dict, "choices[0]")
    message = _typed(choice.get("message"), dict, "choices[0].message")
    return Completion(
        id=_optional(raw.get("id"), str, "id"),
        model=_optional(raw.get("model"), str, "model"),
        content=_optional(message.get("content"), str, "choices[0].message.content"),
        finish_reason=_optional(choice.get("finish_reason"), str, "finish_reason"),
        tool_calls=tuple(_tool_call(call) for call in _list(message.get("tool_calls"), "tool_calls")),
        usage=_usage(raw.get("usage")),
        cost_usd=_cost(headers.get(COST_HEADER)),
        call_id=call_id,
        raw=raw,
    )


def chunk(raw: dict[str, Any], call_id: str | None) -> ChatChunk:
    """Read a chunk. One without choices is valid: the last one has only the usage."""
    choices = _list(raw.get("choices"), "choices")
    choice = _typed(choices[0], dict, "choices[0]") if choices else {}
    delta = _optional(choice.get("delta"), dict, "choices[0].delta") or {}
    return ChatChunk(
        id=_optional(raw.get("id"), str, "id"),
        model=_optional(raw.get("model"), str, "model"),
        content=_optional(delta.get("content"), str, "choices[0].delta.content") or "",
        finish_reason=_optional(choice.get("finish_reason"), str, "finish_reason"),
        tool_calls=tuple(_tool_delta(call) for call in _list(delta.get("tool_calls"), "tool_calls")),
        usage=_usage(raw.get("usage")),
        call_id=call_id,
        raw=raw,
    )


def models(raw: dict[str, Any]) -> tuple[Model, ...]:
    entries = [_typed(entry, dict, "a model") for entry in _typed(raw.get("data"), list, "data")]
    return tuple(
        Model(
            id=_typed(entry.get("id"), str, "a model's id"),
            owned_by=_optional(entry.get("owned_by"), str, "a model's owned_by"),
            raw=entry,
        )
        for entry in entries
    )


def estimate(raw: dict[str, Any]) -> CostEstimate:
    price = _optional(raw.get("price"), dict, "price") or {}
    cost = raw.get("estimated_cost_usd")
    if cost is not None and (isinstance(cost, bool) or not isinstance(cost, int | float) or not math.isfinite(cost)):
        raise ValueError("estimated_cost_usd is not a number")
    return CostEstimate(
        model=_typed(raw.get("model"), str, "model"),
        estimated_cost_usd=math.inf if cost is None else float(cost),
        input_tokens=_typed(raw.get("input_tokens"), int, "input_tokens"),
        output_tokens=_typed(raw.get("max_output_tokens"), int, "max_output_tokens"),
        price_source=_optional(price.get("source"), str, "price.source") or "none",
        within_limits=_typed(raw.get("within_limits"), bool, "within_limits"),
        refusal=_optional(raw.get("refusal"), str, "refusal"),
        raw=raw,
    )


def approval(raw: dict[str, Any]) -> Approval:
    found = _typed(raw.get("id"), str, "id")
    votes = [_typed(vote, dict, "a vote") for vote in _list(raw.get("votes"), "votes")]
    comments = [comment for vote in votes if (comment := _optional(vote.get("comment"), str, "a vote's comment"))]
    return Approval(
        id=found,
        expires_at=_optional(raw.get("expires_at"), str, "expires_at"),
        status_url=f"/governance/v1/approvals/{found}",
        state=_typed(raw.get("state"), str, "state"),
        comment=comments[-1] if comments else None,
        replaced_by=_optional(raw.get("replaced_by"), str, "replaced_by"),
        raw=raw,
    )


def health(readiness: tuple[int, dict[str, Any]], governance: tuple[int, dict[str, Any]]) -> Health:
    """Judge the health by status and body of the two probes. Whatever is not clearly well is unhealthy."""
    (ready_status, ready), (status, state) = readiness, governance
    known = (status, state.get("status")) in ((200, "ok"), (200, "degraded"), (503, "down"))
    word = str(state["status"]) if known else "unknown"
    parts = state.get("parts")
    parts = parts if isinstance(parts, dict) else {}
    healthy = ready_status == 200 and word in ("ok", "degraded")
    ailing = ", ".join(str(name) for name, state in parts.items() if state == "down")
    if ready_status != 200:
        reason: str | None = f"The proxy is not ready: /health/readiness answered {ready_status}."
    elif status == 404:
        reason = "This is a LiteLLM proxy without Gatehouse: it has no /governance/v1/health. Check the address."
    elif word == "unknown":
        reason = f"The governance part's state is unknown: /governance/v1/health answered {status}."
    elif word == "ok":
        reason = None
    else:
        reason = f"The governance part is {word}" + (f" ({ailing})." if ailing else ". `gatehouse status` says more.")
    return Health(
        healthy=healthy, status=word, reason=reason, parts=parts, raw={"readiness": ready, "governance": state}
    )


def _usage(found: Any) -> Usage | None:
    usage = _optional(found, dict, "usage")
    if not usage:
        return None
    prompt, answer, total = (
        _optional(usage.get(name), int, f"usage.{name}") or 0
        for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    return Usage(prompt_tokens=prompt, completion_tokens=answer, total_tokens=total or prompt + answer, raw=usage)


def _tool_call(found: Any) -> ToolCall:
    call = _typed(found, dict, "a tool call")
    function = _typed(call.get("function"), dict, "a tool call's function")
    return ToolCall(
        id=_typed(call.get("id"), str, "a tool call's id"),
        name=_typed(function.get("name"), str, "a tool call's name"),
        arguments=_optional(function.get("arguments"), str, "a tool call's arguments") or "",
        raw=call,
    )


def _tool_delta(found: Any) -> ToolCallDelta:
    call = _typed(found, dict, "a tool call")
    function = _optional(call.get("function"), dict, "a tool call's function") or {}
    return ToolCallDelta(
        index=_optional(call.get("index"), int, "a tool call's index") or 0,
        id=_optional(call.get("id"), str, "a tool call's id"),
        name=_optional(function.get("name"), str, "a tool call's name"),
        arguments=_optional(function.get("arguments"), str, "a tool call's arguments") or "",
        raw=call,
    )


def _cost(header: str | None) -> float | None:
    """Read a cost. LiteLLM writes `None` where it has no price."""
    try:
        cost = float(header or "")
    except ValueError:
        return None
    return cost if math.isfinite(cost) else None


def _list(value: Any, where: str) -> list[Any]:
    return _optional(value, list, where) or []


def _optional(value: Any, kind: type[T], where: str) -> T | None:
    return None if value is None else _typed(value, kind, where)


def _typed(value: Any, kind: type[T], where: str) -> T:
    if not isinstance(value, kind):
        raise ValueError(f"{where} is {type(value).__name__}, not {kind.__name__}")
    return value
