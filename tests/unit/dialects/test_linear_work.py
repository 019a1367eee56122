"""What is done on the event loop for a body grows no faster than the body, whatever is in it."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from gatehouse.dialects.caller_fields import caller_request
from gatehouse.dialects.canonical import CallerNames, canonical_request
from gatehouse.dialects.prompt import prompt_of
from gatehouse.gateway import egress
from gatehouse.gateway.request_body import json_object
from gatehouse.pricing.structure import structure_tokens
from gatehouse.proxy.control_fields import control_fields


def said(*contents: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content} for content in contents], **fields}


def tool(number: int) -> dict[str, Any]:
    properties = {f"p{n}": {"type": "string", "description": "what"} for n in range(10)}
    function = {"name": f"f{number}", "parameters": {"type": "object", "properties": properties}}
    return {"type": "function", "function": function}


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = {"a": value}
    return value


def called(arguments: Any) -> dict[str, Any]:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": json.dumps(arguments)}}
    return {"model": "m", "messages": [{"role": "assistant", "tool_calls": [call]}]}


# Sizes are near a bound, such as 50,000 texts, or some megabytes.
BODIES: dict[str, Callable[[int], dict[str, Any]]] = {
    "one text": lambda n: said("hello world " * 50 * n),
    "brackets": lambda n: said("<" * 500 * n),
    "quotes and backslashes": lambda n: said('"\\' * 250 * n),
    "base64": lambda n: said("data:image/png;base64," + "QUJD" * 125 * n),
    "digits": lambda n: said("4111 1111 " * 50 * n),
    "escapes in JSON text": lambda n: said('{"a": "' + "\\u0041" * 80 * n + '"}'),
    "messages": lambda n: said(*(f"message {number}" for number in range(n // 4))),
    "parts": lambda n: said([{"type": "text", "text": f"part {number}"} for number in range(n)]),
    "tools": lambda n: said("x", tools=[tool(number) for number in range(n // 8)]),
    "a new field": lambda n: said("x", unread=[f"entry {number}" for number in range(3 * n)]),
    "numbers": lambda n: said("x", unread=[number + 10_000_000 for number in range(3 * n)]),
    "depth": lambda n: said("x", unread=[nested(90) for _ in range(n // 32)]),
    "arguments": lambda n: called({f"name {number}": f"value {number}" for number in range(n)}),
}


@contextmanager
def without_collections() -> Iterator[None]:
    """Switch the garbage collector off: a collection looks at all objects, in whichever stage it starts."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def stages_s(body: dict[str, Any]) -> dict[str, float]:
    """Return the processor time of each stage."""
    raw, took = json.dumps(body).encode(), dict[str, float]()

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        begun = time.thread_time()
        done = work()
        took[stage] = time.thread_time() - begun
        return done

    given = timed("decoding", lambda: json_object(raw))
    fields = timed("fields", lambda: caller_request("acompletion", given, control_fields()))
    request = timed("reading", lambda: canonical_request("acompletion", fields, CallerNames.of(fields)))
    timed("prompt", lambda: prompt_of(request.fields, keep_text=True, salt=b"salt"))
    timed("structure", lambda: structure_tokens([request.fields]))
    admitted = timed("admitted", lambda: egress.admitted(request, fields, {}))
    timed("egress", lambda: egress.check(admitted, "acompletion", fields, {"model": "m"}))
    timed("writing", lambda: request.masked({part.path: f"{part.text}." for part in request.texts}))
    return took


@pytest.mark.parametrize("kind", BODIES)
def test_four_times_the_body_takes_about_four_times_the_work(kind: str) -> None:
    with without_collections():
        small, large = ([stages_s(BODIES[kind](n)) for _ in range(2)] for n in (2_000, 8_000))
    for stage in small[0]:
        # Work for each pair of things in it would be sixteen times as much; below some milliseconds it is noise.
        assert min(run[stage] for run in large) < 10 * max(min(run[stage] for run in small), 0.005), stage
