"""Extracts what the record holds of a request and of an answer, from the shapes of the OpenAI and Anthropic APIs. Pure.

It tolerates unknown shapes of answers and leaves a field empty, because it feeds the record and never a decision.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha3_256
from typing import Any

from gatehouse.core.call import Prompt, ToolCallRecord
from gatehouse.dialects.canonical import offered_tools


def prompt_of(fields: Mapping[str, Any], *, keep_text: bool, salt: bytes) -> Prompt:
    """Return the prompt of a request: everything that is sent; its text only if the record keeps it.

    Args:
        fields: the fields of a canonical request.
        salt: the call's own salt, without which a short prompt could be guessed from the hash.
    """
    written = text_of(fields)
    return Prompt(
        hash=commitment(written, salt) if written is not None else None,
        text=written if keep_text else None,
        tools=frozenset(offered_tools(fields)),
    )


def text_of(fields: Mapping[str, Any]) -> str | None:
    """Return the prompt as JSON that is the same for the same content; None where there is no text."""
    text = _json(fields) or _json({name: value for name, value in fields.items() if _json(value) is not None})
    return text if text != "{}" else None


def commitment(text: str, salt: bytes) -> str:
    """Return the salted hash of a text in lower-case hex. Without the salt it reveals nothing of the text."""
    return sha3_256(salt + text.encode("utf-8", "surrogatepass")).hexdigest()


def answer_of(response: Any) -> str | None:
    """Return the model's answer as JSON of the answer's parts."""
    body = _body(response)
    answer = next((body[name] for name in ("choices", "output", "content", "data", "results") if body.get(name)), None)
    return None if answer is None else _json(answer)


def tool_calls_of(response: Any, offered: frozenset[str], *, keep_text: bool) -> tuple[ToolCallRecord, ...]:
    """Return the model's tool calls, of the tools that the request offered."""
    if not offered:
        return ()
    return tuple(
        ToolCallRecord(name, arguments if keep_text else None)
        for name, arguments in _called_tools(_body(response))
        if name in offered
    )


def _called_tools(body: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    for choice in _dicts(body.get("choices")):  # chat completions
        message = choice.get("message")
        if not isinstance(message, Mapping):
            continue
        for call in (*_dicts(message.get("tool_calls")), {"function": message.get("function_call")}):
            function = call.get("function")
            if isinstance(function, Mapping):
                yield str(function.get("name")), _text(function.get("arguments"))
    for item in _dicts(body.get("output")):  # responses
        if item.get("type") == "function_call":
            yield str(item.get("name")), _text(item.get("arguments"))
        elif item.get("type") == "custom_tool_call":
            yield str(item.get("name")), _text(item.get("input"))
    for block in _dicts(body.get("content")):  # messages
        if block.get("type") == "tool_use":
            yield str(block.get("name")), _text(block.get("input"))


def _dicts(items: Any) -> Iterable[Mapping[str, Any]]:
    return [item for item in items if isinstance(item, Mapping)] if isinstance(items, list | tuple) else []


def _body(response: Any) -> Mapping[str, Any]:
    if hasattr(response, "model_dump"):
        response = response.model_dump()
    return response if isinstance(response, Mapping) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) or value is None else _json(value)


def _json(value: Any) -> str | None:
    """Return JSON text that is the same for the same content; None for values that JSON cannot hold (a file)."""
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        return None
