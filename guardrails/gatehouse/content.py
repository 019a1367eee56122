"""What a request asks and what an answer says, out of the shapes of the OpenAI and Anthropic APIs: pure functions.

Tolerant on purpose: this feeds the record, never a decision, so a shape that is not known leaves a field empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha3_256
from typing import Any

from gatehouse.call import Prompt, ToolCall

# Where the APIs keep what a model reads.
_ASKED = ("system", "instructions", "messages", "prompt", "input")


def prompt_of(data: Mapping[str, Any], *, keep_text: bool) -> Prompt:
    """What a request asks; its text only when it is to be kept."""
    asked = {name: data[name] for name in _ASKED if data.get(name) is not None}
    text = _json(asked) if asked else None
    return Prompt(
        hash=sha3_256(text.encode("utf-8", "surrogatepass")).hexdigest() if text is not None else None,
        text=text if keep_text else None,
        tools=tools_of(data),
    )


def tools_of(data: Mapping[str, Any]) -> frozenset[str]:
    """Names of the tools that a request offers."""
    return frozenset(_offered(data))


def answer_of(response: Any) -> str | None:
    """What the model said, as JSON of the answer's parts."""
    body = _body(response)
    said = next((body[name] for name in ("choices", "output", "content", "data", "results") if body.get(name)), None)
    return None if said is None else _json(said)


def tool_calls_of(response: Any, offered: frozenset[str], *, keep_text: bool) -> tuple[ToolCall, ...]:
    """The tools the model asked for, of those that the request offered."""
    if not offered:
        return ()
    return tuple(
        ToolCall(name, arguments if keep_text else None)
        for name, arguments in _asked_for(_body(response))
        if name in offered
    )


def _offered(data: Mapping[str, Any]) -> Iterator[str]:
    lists = [data.get("tools"), data.get("functions")]
    lists += [item.get("tools") for item in _dicts(data.get("input"))]  # responses: tools that come in between
    while lists:
        for tool in _dicts(lists.pop()):
            inner = tool.get("function")
            name = inner.get("name") if isinstance(inner, Mapping) else tool.get("name")
            if isinstance(name, str):
                yield name
            lists.append(tool.get("tools"))  # of a namespace


def _asked_for(body: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
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
    """JSON text that is the same for the same content; None for what JSON cannot say (a file)."""
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        return None
