"""Imitates OpenAI's /v1/responses and /v1/chat/completions: what they refuse, and how they answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.support import strict_seals as seals
from tests.support.strict_turns import Failure, Refused, Said, compact, pieces, refuse_unknown, sse

# Fernet tokens begin with this.
PREFIX = "gAAAAABo"
_UNKNOWN = "Unknown parameter: '{}'."
_MAX_ID_CHARS = 64

_RESPONSES = frozenset(
    """
    model input instructions tools tool_choice parallel_tool_calls store stream stream_options include reasoning text
    temperature top_p top_logprobs max_output_tokens max_tool_calls metadata previous_response_id conversation prompt
    prompt_cache_key prompt_cache_options prompt_cache_retention safety_identifier service_tier truncation user
    background context_management client_metadata moderation
    """.split()
)
_CHAT = frozenset(
    """
    model messages tools tool_choice parallel_tool_calls functions function_call store stream stream_options n stop seed
    temperature top_p top_logprobs logprobs logit_bias max_tokens max_completion_tokens metadata modalities audio
    prediction presence_penalty frequency_penalty reasoning_effort response_format safety_identifier service_tier user
    prompt_cache_key prompt_cache_retention verbosity web_search_options
    """.split()
)


def check_responses(body: dict[str, Any], stored: frozenset[str]) -> None:
    """Refuse what /v1/responses refuses.

    Args:
        stored: the responses that the provider keeps.

    Raises:
        Refused: says why.
    """
    refuse_unknown(body, _RESPONSES, _UNKNOWN, "unknown_parameter")
    before = body.get("previous_response_id")
    if before is not None and before not in stored:
        message = f"Previous response with id '{before}' not found."
        raise Refused(message, code="previous_response_not_found", param="previous_response_id")
    items = body.get("input")
    if isinstance(items, str):
        return
    if not isinstance(items, list):
        raise Refused("Missing required parameter: 'input'.", code="missing_required_parameter", param="input")
    for at, item in enumerate(items):
        _check_item(item, at, is_stored=body.get("store", True) is not False)
    if before is None:
        _check_calls(items)


def _check_item(item: dict[str, Any], at: int, *, is_stored: bool) -> None:
    kind = item.get("type", "message")
    for name in ("id", "call_id"):
        if len(item.get(name) or "") > _MAX_ID_CHARS:
            raise Refused(
                f"Invalid 'input[{at}].{name}': string too long. Expected a string with maximum length 64, but got a "
                f"string with length {len(item[name])} instead.",
                code="string_above_max_length",
                param=f"input[{at}].{name}",
            )
    if kind not in ("reasoning", "compaction"):
        return
    sealed = item.get("encrypted_content")
    if sealed is None and kind == "reasoning":
        if not is_stored:
            raise Refused(
                f"Item with id '{item.get('id')}' not found. Items are not persisted when `store` is set to false. "
                "Try again with `store` set to true, or remove this item from your input.",
                status=404,
                param="input",
            )
    elif not seals.is_encrypted(kind, sealed, prefix=PREFIX):
        raise Refused(
            f"The encrypted content {str(sealed)[:4]}...{str(sealed)[-4:]} could not be verified. Reason: Encrypted "
            "content could not be decrypted or parsed.",
            code="invalid_encrypted_content",
        )


def _check_calls(items: list[dict[str, Any]]) -> None:
    """Refuse calls without results, results without calls, and thoughts without what followed them."""
    for kind, result in (("function_call", "function_call_output"), ("custom_tool_call", "custom_tool_call_output")):
        asked = [item["call_id"] for item in items if item.get("type") == kind]
        answered = [item["call_id"] for item in items if item.get("type") == result]
        for each in answered:
            if each not in asked:
                raise Refused(f"No tool call found for function call output with call_id {each}.", param="input")
        for each in asked:
            if each not in answered:
                raise Refused(f"No tool output found for function call {each}.", param="input")
    for at, item in enumerate(items):
        following = items[at + 1] if at + 1 < len(items) else {}
        by_model = following.get("role") == "assistant" or str(following.get("type")).endswith(("_call", "reasoning"))
        if item.get("type") == "reasoning" and not by_model:
            message = f"Item '{item.get('id')}' of type 'reasoning' was provided without its required following item."
            raise Refused(message, param="input")


def response(body: dict[str, Any], said: Said, number: int) -> dict[str, Any]:
    """Return a response."""
    is_sealed = "reasoning.encrypted_content" in (body.get("include") or ())
    output = list(_output(said, number, is_sealed=is_sealed))
    usage = {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 5,
    }
    unset = ("error", "incomplete_details", "instructions", "max_output_tokens", "user")
    return {
        "id": f"resp_{number:048}",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "background": False,
        "model": body["model"],
        "output": output,
        "usage": usage,
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "store": body.get("store", True),
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "metadata": {},
        **dict.fromkeys(unset),
    }


def _output(said: Said, number: int, *, is_sealed: bool) -> Iterator[dict[str, Any]]:
    if said.compaction is not None:
        sealed = seals.encrypted("compaction", said.compaction, prefix=PREFIX)
        yield {"type": "compaction", "id": f"cmp_{number:048}", "encrypted_content": sealed}
    for at, thought in enumerate((*said.thinking, *said.redacted)):
        summary = [{"type": "summary_text", "text": thought}] if thought in said.thinking else []
        item = {"type": "reasoning", "id": f"rs_{number:046}{at:02}", "summary": summary}
        if is_sealed:
            item["encrypted_content"] = seals.encrypted("reasoning", thought, prefix=PREFIX)
        yield item
    if said.text:
        part = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
        item = {"type": "message", "id": f"msg_{number:048}", "role": "assistant", "status": "completed"}
        yield item | {"content": [part]}
    for at, call in enumerate(said.calls):
        yield {
            "type": "function_call",
            "id": f"fc_{number:046}{at:02}",
            "call_id": f"call_{number:022}{at:02}",
            "name": call.name,
            "arguments": compact(dict(call.arguments)),
            "status": "completed",
        }


def response_events(whole: dict[str, Any], size: int) -> list[str]:
    """Return the stream of a response."""
    begun = {"response": whole | {"status": "in_progress", "output": [], "usage": None}}
    events: list[tuple[str, dict[str, Any]]] = [("created", begun), ("in_progress", begun)]
    for index, item in enumerate(whole["output"]):
        for kind, own in _item_events(item, size):
            named = {} if kind.startswith("output_item") else {"item_id": item["id"]}
            events.append((kind, {**named, "output_index": index, **own}))
    events.append(("completed", {"response": whole}))
    return [sse({"type": f"response.{kind}", "sequence_number": at, **own}) for at, (kind, own) in enumerate(events)]


def _item_events(item: dict[str, Any], size: int) -> Iterator[tuple[str, dict[str, Any]]]:
    kind = item["type"]
    if kind == "message":
        (part,) = item["content"]
        yield "output_item.added", {"item": item | {"status": "in_progress", "content": []}}
        yield "content_part.added", {"content_index": 0, "part": part | {"text": ""}}
        for piece in pieces(part["text"], size):
            yield "output_text.delta", {"content_index": 0, "delta": piece, "logprobs": []}
        yield "output_text.done", {"content_index": 0, "text": part["text"], "logprobs": []}
        yield "content_part.done", {"content_index": 0, "part": part}
    elif kind == "function_call":
        yield "output_item.added", {"item": item | {"status": "in_progress", "arguments": ""}}
        for piece in pieces(item["arguments"], size):
            yield "function_call_arguments.delta", {"delta": piece}
        yield "function_call_arguments.done", {"arguments": item["arguments"], "name": item["name"]}
    elif kind == "reasoning":
        yield "output_item.added", {"item": item | {"summary": []}}
        for at, part in enumerate(item["summary"]):
            yield "reasoning_summary_part.added", {"summary_index": at, "part": part | {"text": ""}}
            for piece in pieces(part["text"], size):
                yield "reasoning_summary_text.delta", {"summary_index": at, "delta": piece}
            yield "reasoning_summary_text.done", {"summary_index": at, "text": part["text"]}
            yield "reasoning_summary_part.done", {"summary_index": at, "part": part}
    else:
        yield "output_item.added", {"item": item}
    yield "output_item.done", {"item": item}


def check_chat(body: dict[str, Any]) -> None:
    """Refuse what /v1/chat/completions refuses.

    Raises:
        Refused: says why.
    """
    refuse_unknown(body, _CHAT, _UNKNOWN, "unknown_parameter")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused("Missing required parameter: 'messages'.", code="missing_required_parameter", param="messages")
    open_: list[str] = []
    for at, message in enumerate(messages):
        if message["role"] == "tool":
            if message.get("tool_call_id") not in open_:
                raise Refused(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
                    "'tool_calls'.",
                    param=f"messages.[{at}].role",
                )
            open_.remove(message["tool_call_id"])
            continue
        _all_answered(open_, at)
        if unknown := sorted({"thinking_blocks", "reasoning_content", "provider_specific_fields"} & set(message)):
            name = f"messages[{at}].{unknown[0]}"
            raise Refused(_UNKNOWN.format(name), code="unknown_parameter", param=name)
        open_ = [call["id"] for call in message.get("tool_calls") or ()]
    _all_answered(open_, len(messages))


def _all_answered(open_: list[str], at: int) -> None:
    if open_:
        raise Refused(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(open_)}",
            param=f"messages.[{at}].role",
        )


_USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def completion(body: dict[str, Any], said: Said, number: int) -> dict[str, Any]:
    """Return a chat completion; each of its choices says the same."""
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None, "refusal": None, "annotations": []}
    if said.calls:
        message["tool_calls"] = [
            {
                "id": f"call_{number:022}{at:02}",
                "type": "function",
                "function": {"name": call.name, "arguments": compact(dict(call.arguments))},
            }
            for at, call in enumerate(said.calls)
        ]
    choice = {"message": message, "logprobs": None, "finish_reason": "tool_calls" if said.calls else "stop"}
    return {
        "id": f"chatcmpl-{number:024}",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [{"index": index, **choice} for index in range(body.get("n") or 1)],
        "usage": _USAGE,
        "service_tier": "default",
        "system_fingerprint": "fp_1",
    }


def completion_events(body: dict[str, Any], whole: dict[str, Any], size: int) -> list[str]:
    """Return the stream of a chat completion; its choices take turns."""
    has_usage = (body.get("stream_options") or {}).get("include_usage") is True
    envelope = {name: value for name, value in whole.items() if name not in ("choices", "usage")}
    envelope |= {"object": "chat.completion.chunk"} | ({"usage": None} if has_usage else {})
    steps = [list(_chunks(choice, size)) for choice in whole["choices"]]
    events = []
    for at in range(max(map(len, steps))):
        for index, of_choice in enumerate(steps):
            delta, reason = of_choice[at]
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
            events.append(envelope | {"choices": [choice]})
    if has_usage:
        events.append(envelope | {"choices": [], "usage": whole["usage"]})
    return [*(sse(event, named=False) for event in events), "data: [DONE]\n\n"]


def _chunks(choice: dict[str, Any], size: int) -> Iterator[tuple[dict[str, Any], str | None]]:
    message = choice["message"]
    yield {"role": "assistant", "content": "" if message["content"] else None, "refusal": None}, None
    for piece in pieces(message["content"] or "", size):
        yield {"content": piece}, None
    for index, call in enumerate(message.get("tool_calls") or ()):
        yield {"tool_calls": [{"index": index, **call, "function": call["function"] | {"arguments": ""}}]}, None
        for piece in pieces(call["function"]["arguments"], size):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}, None
    yield {}, choice["finish_reason"]


def error(failure: Failure) -> dict[str, Any]:
    """Return the body of an error."""
    inner = {"message": failure.message, "type": failure.kind, "param": failure.param, "code": failure.code}
    return {"error": inner}
