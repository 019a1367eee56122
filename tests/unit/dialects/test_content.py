"""The prompt, the answer and the tool calls are found in the shapes of every governed API."""

from __future__ import annotations

import io
import json
from hashlib import sha3_256
from typing import Any

import pytest
from gatehouse.core.call import Prompt, ToolCallRecord
from gatehouse.core.clock import new_call_id, now
from gatehouse.dialects.canonical import offered_tools
from gatehouse.dialects.prompt import answer_of, commitment, prompt_of, text_of, tool_calls_of
from gatehouse.pipeline.scope import CallScope
from litellm.types.utils import Choices, Message, ModelResponse

SALT = b"0123456789abcdef"
ASKED: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "hi"}]},
    {"prompt": ["one", "two"]},
    {"input": "embed me"},
    {"system": "be brief", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
    {"instructions": "be brief", "input": [{"role": "user", "content": "hi"}]},
]


@pytest.mark.parametrize("asked", ASKED)
def test_the_hash_is_of_everything_that_is_sent(asked: dict[str, Any]) -> None:
    prompt = prompt_of(asked, keep_text=True, salt=SALT)
    assert prompt.text is not None
    assert json.loads(prompt.text) == asked
    assert prompt.hash == sha3_256(SALT + prompt.text.encode()).hexdigest()
    assert prompt_of(asked, keep_text=False, salt=SALT) == Prompt(hash=prompt.hash)
    assert prompt_of(asked, keep_text=False, salt=b"another").hash != prompt.hash
    assert text_of(asked) == prompt.text
    assert commitment(prompt.text, SALT) == prompt.hash
    for more in ({"model": "demo"}, {"temperature": 0.3}, {"tools": []}, {"litellm_system_prompt": "be rude"}):
        assert prompt_of(asked | more, keep_text=False, salt=SALT).hash != prompt.hash


def test_what_is_no_text_has_no_hash() -> None:
    assert prompt_of({"file": io.BytesIO(b"audio")}, keep_text=True, salt=SALT) == Prompt()
    assert prompt_of({"input": io.BytesIO(b"audio")}, keep_text=True, salt=SALT) == Prompt()
    assert (
        prompt_of({"file": io.BytesIO(b"audio"), "prompt": "hi"}, keep_text=True, salt=SALT).text == '{"prompt":"hi"}'
    )


def test_a_short_prompt_cannot_be_guessed_from_its_hash_for_each_call_has_a_salt_of_its_own() -> None:
    salts = [CallScope(new_call_id(), "/v1/chat/completions", now(), 0.0).salt for _ in range(2)]
    assert [len(salt) for salt in salts] == [16, 16]
    assert salts[0] != salts[1]


def test_a_lone_surrogate_and_nonsense_do_no_harm() -> None:
    assert prompt_of({"messages": "\ud800"}, keep_text=False, salt=SALT).hash
    nonsense = {"messages": [{"role": "user"}], "tools": "nonsense", "functions": [3]}
    assert prompt_of(nonsense, keep_text=True, salt=SALT).tools == set()
    assert tool_calls_of(object(), frozenset({"a"}), keep_text=True) == ()
    assert answer_of(None) is None


TOOLS = [{"type": "function", "function": {"name": "mail"}}, {"name": "search"}]
ANSWERS = [
    {"choices": [{"message": {"tool_calls": [{"function": {"name": "mail", "arguments": '{"to":"a"}'}}]}}]},
    {"choices": [{"message": {"function_call": {"name": "mail", "arguments": '{"to":"a"}'}}}]},
    {"output": [{"type": "message"}, {"type": "function_call", "name": "mail", "arguments": '{"to":"a"}'}]},
    {"output": [{"type": "custom_tool_call", "name": "mail", "input": '{"to":"a"}'}]},
    {"content": [{"type": "text", "text": "x"}, {"type": "tool_use", "name": "mail", "input": {"to": "a"}}]},
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_tool_calls_are_found_in_every_shape_and_arguments_kept_only_when_asked_for(answer: dict[str, Any]) -> None:
    offered = frozenset(offered_tools({"tools": TOOLS}))
    assert offered == {"mail", "search"}
    assert tool_calls_of(answer, offered, keep_text=False) == (ToolCallRecord("mail"),)
    assert tool_calls_of(answer, offered, keep_text=True) == (ToolCallRecord("mail", '{"to":"a"}'),)


@pytest.mark.parametrize(
    "asked",
    [
        {"tools": [{"type": "namespace", "name": "office", "tools": TOOLS}]},
        {"input": [{"type": "additional_tools", "role": "developer", "tools": TOOLS}]},
        {"input": [{"type": "additional_tools", "tools": [{"type": "namespace", "name": "office", "tools": TOOLS}]}]},
        {"input": [{"type": "tool_search_output", "call_id": "t", "tools": TOOLS}]},
    ],
)
def test_tools_are_found_wherever_a_request_offers_them(asked: dict[str, Any]) -> None:
    """Codex offers its tools in all of these places; a rule about a tool must see them."""
    assert set(offered_tools(asked)) - {"office"} == {"mail", "search"}


def test_tools_in_tools_in_tools_are_found_to_any_depth() -> None:
    tools: list[dict[str, Any]] = TOOLS
    for _ in range(5_000):
        tools = [{"type": "namespace", "name": "office", "tools": tools}]
    assert set(offered_tools({"tools": tools})) == {"office", "mail", "search"}


def test_a_tool_that_nobody_offered_is_left_out() -> None:
    """Its name is the model's own text."""
    assert tool_calls_of(ANSWERS[0], frozenset({"search"}), keep_text=True) == ()


def test_litellms_own_answers_are_read() -> None:
    answer = ModelResponse(choices=[Choices(message=Message(content="forty-two"))])
    assert "forty-two" in (answer_of(answer) or "")
