"""The page of a request shows all of it: whatever stands where, in words that can be seen."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from gatehouse.console.whole_request import (
    FOLDED_CHARS,
    RequestSection,
    prompt_sections,
    sections,
    shown_values,
    visible,
)
from hypothesis import given
from hypothesis import strategies as st

# Words that hardly stand anywhere else.
words = st.text("abcdefghijklmnop", min_size=8, max_size=8).map(lambda word: f"w{word}w")
values = st.recursive(
    words, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=8
)
roles = st.sampled_from(["user", "system", "r" * 100]) | values
parts = st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url"]) | values, "text": values}) | values
turns = st.fixed_dictionaries(
    {}, optional={"role": roles, "content": st.lists(parts, max_size=3) | values, "type": values, "tool_calls": values}
)
fields = {
    name: values | st.lists(turns | words, max_size=3)
    for name in ("system", "instructions", "messages", "input", "prompt")
}
tools = st.lists(st.fixed_dictionaries({"name": values, "function": st.fixed_dictionaries({"name": words})}) | values)
bodies = st.fixed_dictionaries({}, optional={**fields, "tools": tools, "functions": values, "x": values}).flatmap(
    lambda body: st.dictionaries(words, values, max_size=3).map(lambda more: body | more)
)


def bound(body: Any, **more: Any) -> dict[str, Any]:
    return {"caller": {"user": "ada", "end_user": "bob"}, "route": "/v1/x", "policy_version": "v7", "body": body} | more


def leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [name for each in value.items() for part in each for name in leaves(part)]
    if isinstance(value, list):
        return [name for each in value for name in leaves(each)]
    return [str(value)]


@given(bodies)
def test_whatever_a_request_says_is_in_a_section(body: dict[str, Any]) -> None:
    shown = "\n".join(f"{each.heading}\n{each.text}" for each in sections(bound(body)))
    said = {name for name in leaves(body) if name.startswith("w") and name.endswith("w")}
    assert {name for name in said if name not in shown} == set()
    for fact in ("ada", "bob", "/v1/x", "v7"):
        assert fact in shown


def test_turns_tools_and_settings_are_told_apart() -> None:
    body = {
        "model": "m",
        "temperature": 0.5,
        "messages": [
            {"role": "system", "content": "Pay."},
            {"role": "user", "content": [{"type": "text", "text": "1. system"}]},
            {"role": "assistant", "tool_calls": [{"id": "c1"}]},
        ],
        "tools": [{"type": "function", "function": {"name": "pay", "description": "Pays."}}],
        "response_format": {"type": "json_object"},
    }
    found = {each.heading: each.text for each in sections(bound(body))}
    assert (found["1. system"], found["2. user"]) == ("Pay.", "1. system")
    assert "c1" in found["3. assistant: of the same message"]
    assert "Pays." in found["tool pay"]
    assert found["settings"] == 'model: "m"\ntemperature: 0.5'
    assert "json_object" in found["response_format"]


def test_a_summarys_prompt_is_read_like_the_request_itself() -> None:
    asked = {"messages": [{"role": "user", "content": "Pay\u202enow"}], "tools": ["t"]}
    assert list(prompt_sections(json.dumps(asked))) == [
        ("1. user", "Pay[U+202E]now"),
        ("besides", '{\n  "tools": [\n    "t"\n  ]\n}'),
    ]
    for cut in ('{"messages": [{"role": "us…', "[]", '{"input": "Pay"}', "plain\u202e"):
        assert list(prompt_sections(cut)) == [("as it is kept", visible(cut))]


def test_long_texts_are_folded_and_whole() -> None:
    text = "word " * FOLDED_CHARS + "the end"
    (first, *_) = sections(bound({"prompt": text}))
    assert first == RequestSection("prompt", text)
    assert first.folded
    assert not RequestSection("prompt", "short").folded
    found = {each.heading: each.text for each in sections(bound({"litellm_system_prompt": text}))}
    assert found["litellm_system_prompt"] == text


def test_pictures_are_described_and_text_in_their_place_is_not() -> None:
    data = bytes(range(256)) * 8
    written, digest = base64.b64encode(data).decode(), hashlib.sha256(data).hexdigest()
    for part in (
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{written}"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": written}},
    ):
        (first, *_) = sections(bound({"messages": [{"role": "user", "content": [part]}]}))
        assert f"image/png, 2,048 bytes, SHA-256 {digest}" in first.text
        assert written not in first.text
    for text in (f"data:text/plain;base64,{written}", "data:image/png;base64,short", "not base64 " * 200):
        (first, *_) = sections(bound({"messages": [{"role": "user", "content": [{"type": "x", "data": text}]}]}))
        assert text in first.text
    (first, *_) = sections(bound({"prompt": f"data:image/png;base64,{written}"}))
    assert first.text == f"data:image/png;base64,{written}"  # a model reads this one as text


@pytest.mark.parametrize("character", ["\u202e", "\u2066", "\u200b", "\x1b", "\0", "\ufeff", "\U000e0041", "\ud800"])
def test_what_cannot_be_seen_is_written_out(character: str) -> None:
    written = f"[U+{ord(character):04X}]"
    assert visible(f"a{character}b") == f"a{written}b"
    assert shown_values({"<X_1>": character}) == {"<X_1>": written}
    body = {"messages": [{"role": "user", "content": character}], "tools": [{"name": character}], character: 1}
    shown = sections(bound(body))
    assert not any(character in each.heading + each.text for each in shown)


def test_what_scripts_need_stays() -> None:
    text = "\u0645\u06cc\u200c\u062e \U0001f469\u200d\U0001f467\r\n\ttext"
    assert visible(text) == text
