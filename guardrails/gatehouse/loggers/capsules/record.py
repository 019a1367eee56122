"""From what LiteLLM tells its callbacks about a call to the call's capsule: pure functions, no I/O.

Promises: with content mode `hash` no text of a prompt or an answer gets into a capsule, and with none a text of an
error: only hashes, names, numbers and codes; what LiteLLM leaves out, or writes in an unknown shape, leaves a field
empty.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha3_256
from typing import Any, Final

from gatehouse.capsule.document import Content, ContentMode, call_capsule
from gatehouse.core.call import Outcome, Status, ToolCallRecord, Usage
from gatehouse.core.clock import new_call_id, now
from gatehouse.core.text import clean
from gatehouse.dialects.canonical import offered_tools
from gatehouse.dialects.prompt import tool_calls_of

# What LiteLLM puts in the place of text with `litellm.turn_off_message_logging`.
_REDACTED: Final = "redacted-by-litellm"
# Where a request keeps instructions beside its messages.
_INSTRUCTIONS: Final = ("system", "instructions")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a call asks.

    Attributes:
        hash: `prompt_hash` of the prompt.
        messages_hash: SHA3-256 of the list of messages alone as canonical JSON, as quantumpipes' capsule-litellm does.
        text: the last message of the user, where content is kept.
        messages: how many there are.
    """

    hash: str | None = None
    messages_hash: str | None = None
    text: str | None = field(default=None, repr=False)
    messages: int = 0


@dataclass(frozen=True, slots=True)
class StartedCall:
    """What is known of a call once it has begun.

    Attributes:
        call_id: LiteLLM's; a caller may choose it, so it names no capsule.
        tools: names of the tools that the request offers.
    """

    call_id: str
    trace_id: str | None
    call_type: str
    model: str | None
    provider: str | None
    stream: bool
    user: str | None
    session: str | None
    started_at: datetime
    prompt: Asked
    tools: frozenset[str]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended, as far as anybody was told."""

    outcome: Outcome
    duration_ms: float | None
    answer_hash: str | None = None
    answer: str | None = field(default=None, repr=False)
    tool_calls: tuple[ToolCallRecord, ...] = ()


def asked(details: Mapping[str, Any], prompt: Asked) -> StartedCall:
    """A call as LiteLLM describes it in `kwargs`."""
    options = _mapping(details.get("optional_params"))
    parameters = _mapping(details.get("litellm_params"))
    metadata = {**_mapping(parameters.get("litellm_metadata")), **_mapping(parameters.get("metadata"))}
    started = details.get("start_time")
    return StartedCall(
        call_id=clean(details.get("litellm_call_id")) or "",
        trace_id=clean(details.get("litellm_trace_id")),
        call_type=clean(getattr(details.get("call_type"), "value", details.get("call_type"))) or "",
        model=clean(details.get("model")),
        provider=clean(details.get("custom_llm_provider")),
        stream=details.get("stream") is True,
        user=clean(details.get("user") or metadata.get("user_id")),
        session=clean(metadata.get("session_id")),
        # LiteLLM's times are naive and local.
        started_at=started.astimezone(UTC) if isinstance(started, datetime) else now(),
        prompt=prompt,
        tools=frozenset(offered_tools({"tools": options.get("tools")})),
    )


def succeeded(call: StartedCall, details: Mapping[str, Any], response: Any, end_time: datetime | None) -> Ended:
    """A call that was answered.

    Args:
        details: LiteLLM's description of the call; empty where there is only the answer.
    """
    body = _plain(response)
    cost = details.get("response_cost", _mapping(getattr(response, "_hidden_params", None)).get("response_cost"))
    outcome = Outcome(
        Status.SUCCESS,
        model=clean(body.get("model")),
        provider=call.provider,
        usage=_usage(_mapping(details.get("standard_logging_object"))) or _usage(_mapping(body.get("usage"))),
        cost_usd=float(cost) if isinstance(cost, int | float) else None,
        cache_hit=details.get("cache_hit") is True,
    )
    return Ended(
        outcome,
        _duration(call, end_time),
        answer_hash(body),
        "\n".join(choice["text"] for choice in _said(body) if choice["text"]) or None,
        tool_calls_of(body, call.tools, keep_text=False),
    )


def failed(call: StartedCall, details: Mapping[str, Any], end_time: datetime | None) -> Ended:
    """A call that LiteLLM reports as failed: the error's name and status, for its text may quote the prompt."""
    error = details.get("exception")
    status = getattr(error, "status_code", None)
    outcome = Outcome(
        Status.FAILURE,
        http_status=status if type(status) is int else None,
        provider=call.provider,
        error=type(error).__name__ if error is not None else "unknown",
    )
    return Ended(outcome, _duration(call, end_time))


def unreported(call: StartedCall, why: str, end_time: datetime) -> Ended:
    """A call of whose end nobody was told anything."""
    return Ended(Outcome(Status.PARTIAL, provider=call.provider, error=why), _duration(call, end_time))


def document(
    call: StartedCall,
    ended: Ended,
    *,
    agent_id: str,
    domain: str,
    capsule_type: str,
    mode: ContentMode = ContentMode.HASH,
    kept: Callable[[str | None], str | None] = lambda text: text,
) -> dict[str, Any]:
    """The capsule, ready to be sealed. Its id is new: two calls under one id of the caller's are two capsules.

    Args:
        kept: makes of a text what a capsule may hold.
    """
    content = Content(prompt_hash=call.prompt.hash)
    if mode is not ContentMode.HASH:
        content = Content(mode, kept(call.prompt.text), kept(ended.answer), call.prompt.hash)
    capsule = call_capsule(
        call_id=new_call_id(),
        started_at=call.started_at,
        request={
            "route": call.call_type,
            "call_type": call.call_type,
            "model": call.model,
            "stream": call.stream,
            "caller": {"user": call.user} if call.user else {},
            "agent": {"id": agent_id, "session": call.session},
        },
        decision=None,
        outcome=ended.outcome,
        duration_ms=ended.duration_ms,
        tool_calls=ended.tool_calls,
        content=content,
        chain=domain,
    )
    capsule["type"] = capsule_type
    capsule["trigger"] |= {"source": "litellm", "correlation_id": call.call_id}
    capsule["context"]["environment"] |= {
        "trace_id": call.trace_id,
        "model": call.model,
        "messages_hash": call.prompt.messages_hash,
    }
    outcome, execution = capsule["outcome"], capsule["execution"]
    outcome["metrics"] |= {name: execution["resources_used"][name] for name in ("tokens_in", "tokens_out")}
    execution["resources_used"]["latency_ms"] = outcome["metrics"]["latency_ms"]
    execution["tool_calls"].insert(0, _call_itself(call, capsule))
    if ended.answer_hash is not None:
        if mode is ContentMode.HASH:
            outcome["result"] = {"answer_hash": ended.answer_hash}
        else:
            capsule["context"]["environment"]["answer_hash"] = ended.answer_hash
    return capsule


def _call_itself(call: StartedCall, capsule: Mapping[str, Any]) -> dict[str, Any]:
    """LiteLLM's call as the first tool call of its capsule; those behind it are what the model asked for."""
    outcome = capsule["outcome"]
    return {
        "tool": f"litellm.{call.call_type or 'completion'}",
        "arguments": {"model": call.model, "message_count": call.prompt.messages},
        "result": outcome["result"],
        "success": outcome["status"] == Status.SUCCESS,
        "duration_ms": capsule["execution"]["duration_ms"],
        "error": outcome["error"],
    }


def prompt_of(details: Mapping[str, Any], *, keep_text: bool) -> Asked:
    """What a call asks, out of LiteLLM's description of it."""
    messages = details.get("messages")
    if not messages:
        return Asked()
    text = _json(messages)
    redacted = text is None or f'"{_REDACTED}"' in text
    return Asked(
        prompt_hash_of(details),
        None if redacted or text is None else _digest(text),
        _last_of_user(messages) if keep_text and not redacted else None,
        len(messages) if isinstance(messages, list | tuple) else 0,
    )


def _last_of_user(messages: Any) -> str | None:
    content = next((each.get("content") for each in reversed(_dicts(messages)) if each.get("role") == "user"), None)
    if content is None or isinstance(content, str):
        return content
    return "\n".join(str(part["text"]) for part in _dicts(content) if part.get("text")) or _json(content)


def prompt_hash(messages: Any, **instructions: Any) -> str | None:
    """SHA3-256 of a prompt as its capsule has it: of the messages as canonical JSON, 64 lower-case hex characters.

    Args:
        messages: as they were given to LiteLLM; for APIs without messages, as LiteLLM writes them as such.
        instructions: `system` or `instructions`, where the request had them beside.

    Returns:
        None where there is no prompt, or one that JSON cannot say.
    """
    if not messages:
        return None
    prompt = {"messages": messages} | {name: text for name, text in instructions.items() if text}
    text = _json(prompt)
    if text is None or f'"{_REDACTED}"' in text:
        return None
    return _digest(text)


def prompt_hash_of(details: Mapping[str, Any]) -> str | None:
    """The same, out of LiteLLM's description of the call."""
    options = _mapping(details.get("optional_params"))
    return prompt_hash(details.get("messages"), **{name: options.get(name) for name in _INSTRUCTIONS})


def answer_hash(response: Any) -> str | None:
    """SHA3-256 of an answer as its capsule has it: the same for a stream and for a whole answer.

    It is over the canonical JSON of a list with one `{"text", "tools": [{"arguments", "name"}]}` for each choice.

    Returns:
        None where the model said nothing in words.
    """
    said = _said(_plain(response))
    if not any(choice["text"] or choice["tools"] for choice in said) or any(c["text"] == _REDACTED for c in said):
        return None
    text = _json(said)
    return None if text is None else _digest(text)


def _said(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    choices = [_choice(choice) for choice in _dicts(body.get("choices"))]
    if choices or not body.get("output"):
        return choices
    output = _dicts(body.get("output"))  # of the responses API
    texts = [str(part.get("text") or "") for item in output for part in _dicts(item.get("content"))]
    return [{"text": "".join(texts), "tools": [_tool(item) for item in output if item.get("type") == "function_call"]}]


def _choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    message = _mapping(choice.get("message"))
    calls = [_mapping(call.get("function")) for call in _dicts(message.get("tool_calls"))]
    if function := _mapping(message.get("function_call")):
        calls.append(function)
    return {"text": message.get("content") or choice.get("text") or "", "tools": [_tool(call) for call in calls]}


def _tool(call: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": call.get("name"), "arguments": call.get("arguments")}


def _usage(told: Mapping[str, Any]) -> Usage | None:
    asked_for = told.get("prompt_tokens", told.get("input_tokens"))
    said = told.get("completion_tokens", told.get("output_tokens"))
    total = told.get("total_tokens")
    if type(asked_for) is not int or type(said) is not int:
        return None
    return Usage(asked_for, said, total if type(total) is int else asked_for + said)


def _duration(call: StartedCall, end_time: datetime | None) -> float | None:
    end = end_time.astimezone(UTC) if isinstance(end_time, datetime) else now()
    return max(0.0, (end - call.started_at).total_seconds() * 1000)


def _digest(text: str) -> str:
    return sha3_256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _json(value: Any) -> str | None:
    """JSON text that is the same for the same content; None for what JSON cannot say."""
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=_as_plain)
    except (TypeError, ValueError, RecursionError):
        return None


def _as_plain(value: Any) -> Any:
    """A message that is an answer of LiteLLM's, given back to it."""
    if hasattr(value, "model_dump"):
        return value.model_dump()
    raise TypeError(type(value).__name__)


def _plain(response: Any) -> Mapping[str, Any]:
    if hasattr(response, "model_dump"):
        response = response.model_dump(warnings=False)
    return _mapping(response)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _dicts(items: Any) -> list[Mapping[str, Any]]:
    return [item for item in items if isinstance(item, Mapping)] if isinstance(items, list | tuple) else []
