"""What was said before the newest turn is told from it, in each shape of a conversation."""

from __future__ import annotations

from typing import Any

import pytest
from gatehouse.dialects import request_view
from gatehouse.dialects.parts import TextPart
from gatehouse.pipeline.turns import before_newest


def said(call_type: str, **body: Any) -> dict[str, bool]:
    """Whether each text of a request was said before the newest turn."""
    texts = request_view(call_type, {"model": "m", **body}).texts
    return {part.text: old for part, old in zip(texts, before_newest(texts), strict=True) if len(part.text) < 9}


def chat(*turns: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": text} for role, text in turns]


@pytest.mark.parametrize(
    ("turns", "old"),
    [
        ([("user", "a")], {"a": False}),
        ([("system", "s"), ("user", "a")], {"s": False, "a": False}),
        ([("user", "a"), ("assistant", "b"), ("user", "c")], {"a": True, "b": True, "c": False}),
        (
            [("user", "a"), ("assistant", "b"), ("user", "c"), ("user", "d")],
            {"a": True, "b": True, "c": False, "d": False},
        ),
        # An answer that the caller has begun belongs to the newest turn.
        ([("user", "a"), ("assistant", "b")], {"a": False, "b": False}),
        (
            [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")],
            {"a": True, "b": True, "c": False, "d": False},
        ),
    ],
)
@pytest.mark.parametrize("call_type", ["acompletion", "anthropic_messages"])
def test_the_newest_turn_is_what_stands_behind_the_last_answer(
    call_type: str, turns: list[tuple[str, str]], old: dict[str, bool]
) -> None:
    assert said(call_type, messages=chat(*turns)) == old
    assert said("aresponses", input=chat(*turns)) == old


def test_what_is_outside_the_conversation_is_as_old_as_its_first_turn() -> None:
    tool = {"name": "look", "description": "tools", "input_schema": {"type": "object"}}
    outside: dict[str, Any] = {"system": "system", "tools": [tool]}
    first = said("anthropic_messages", messages=chat(("user", "a")), **outside)
    assert not any(first.values())
    later = said("anthropic_messages", messages=chat(("user", "a"), ("assistant", "b"), ("user", "c")), **outside)
    assert later | {"system": True, "tools": True, "look": True, "a": True, "c": False} == later


def test_a_tools_result_is_the_newest_turn() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"at": "args"}'}}
    messages = [
        *chat(("user", "a")),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "result"},
    ]
    assert said("acompletion", messages=messages) | {"a": True, "args": True, "result": False} == said(
        "acompletion", messages=messages
    )
    items = [
        *chat(("user", "a")),
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": '{"at": "args"}'},
        {"type": "function_call_output", "call_id": "c", "output": "result"},
    ]
    old = said("aresponses", input=items)
    assert (old["a"], old["args"], old["result"]) == (True, True, False)


def test_without_a_conversation_all_is_new() -> None:
    assert said("aembedding", input=["a", "b"]) == {"a": False, "b": False}
    assert before_newest([]) == []
    assert before_newest([TextPart(("prompt",), "a", "assistant")]) == [False]
