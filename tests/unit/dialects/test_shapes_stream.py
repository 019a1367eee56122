"""Pieces of a stream belong to running texts that can be put together again, held back and rewritten."""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

import pytest
from gatehouse.dialects import carrier, event_view
from gatehouse.dialects.parts import UnknownShape
from gatehouse.dialects.writing import write_back

from tests.support.parts import delta_parts


def chunk(delta: dict[str, Any], index: int = 0, finish: str | None = None) -> dict[str, Any]:
    return {"id": "x", "model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def call(index: int, arguments: str, **first: Any) -> dict[str, Any]:
    return chunk({"tool_calls": [{"index": index, **first, "function": {"name": None, "arguments": arguments}}]})


def block(kind: str, name: str, text: str, index: int) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, name: text}}


def response(kind: str, output: int = 0, content: int = 0, **more: Any) -> dict[str, Any]:
    place = {"output_index": output, "content_index": content, "item_id": f"i{output}", "sequence_number": 1}
    return {"type": f"response.{kind}", **place, **more}


STREAMS: dict[str, tuple[str, list[dict[str, Any]], dict[Any, str]]] = {
    "chat": (
        "acompletion",
        [
            chunk({"role": "assistant", "content": "he"}),
            chunk({"content": "HE"}, 1),
            chunk({"content": "llo", "reasoning_content": "so"}),
            call(0, '{"a', id="call_1", type="function"),
            call(1, '{"b'),
            call(0, '":1}'),
            chunk({"content": None, "refusal": "no"}),
            chunk({"function_call": {"name": "f", "arguments": "{}"}}),
            chunk({"audio": {"id": "a", "transcript": "hum"}}),
            chunk({}, 0, "stop"),
        ],
        {
            (0, "content"): "hello",
            (1, "content"): "HE",
            (0, "reasoning_content"): "so",
            (0, "tool", 0, "arguments"): '{"a":1}',
            (0, "tool", 1, "arguments"): '{"b',
            (0, "refusal"): "no",
            (0, "function_call", "arguments"): "{}",
            (0, "audio"): "hum",
        },
    ),
    "completions": (
        "atext_completion",
        [{"choices": [{"index": 0, "text": "a"}, {"index": 1, "text": "b"}]}, {"choices": [{"index": 0, "text": "c"}]}],
        {(0, "text"): "ac", (1, "text"): "b"},
    ),
    "messages": (
        "anthropic_messages",
        [
            {"type": "message_start", "message": {"id": "m", "content": [], "usage": {"input_tokens": 1}}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "a"}},
            {"type": "ping"},
            block("text_delta", "text", "b", 0),
            {"type": "content_block_stop", "index": 0},
            {
                "type": "content_block_start",
                "index": 1,
                "content_block": {"type": "tool_use", "name": "f", "input": {}},
            },
            block("input_json_delta", "partial_json", '{"a"', 1),
            block("input_json_delta", "partial_json", ":1}", 1),
            block("thinking_delta", "thinking", "hm", 2),
            {"type": "message_stop"},
        ],
        {(0, "text"): "ab", (1, "partial_json"): '{"a":1}', (2, "thinking"): "hm"},
    ),
    "responses": (
        "aresponses",
        [
            response("output_text.delta", delta="a"),
            response("output_text.delta", 0, 1, delta="b"),
            response("output_text.delta", delta="c"),
            response("function_call_arguments.delta", 1, delta='{"a'),
            response("function_call_arguments.delta", 1, delta='":1}'),
            {"type": "response.reasoning_summary_text.delta", "output_index": 2, "summary_index": 3, "delta": "hm"},
            response("refusal.delta", 4, delta="no"),
        ],
        {
            (0, "response.output_text", 0): "ac",
            (0, "response.output_text", 1): "b",
            (1, "response.function_call_arguments", 0): '{"a":1}',
            (2, "response.reasoning_summary_text", 3): "hm",
            (4, "response.refusal", 0): "no",
        },
    ),
    "transcription": (
        "atranscription",
        [{"type": "transcript.text.delta", "delta": "a"}],
        {(0, "transcript.text", 0): "a"},
    ),
}
each_stream = pytest.mark.parametrize(("call_type", "events", "texts"), STREAMS.values(), ids=STREAMS)


def together(call_type: str, events: list[dict[str, Any]]) -> dict[Any, str]:
    said: dict[Any, str] = defaultdict(str)
    for event in events:
        for delta in delta_parts(call_type, event):
            said[delta.source] += delta.text
    return dict(said)


@each_stream
def test_pieces_of_one_text_have_one_source(call_type: str, events: list[dict[str, Any]], texts: Any) -> None:
    assert together(call_type, events) == texts


@each_stream
def test_a_piece_can_be_rewritten_in_its_event(call_type: str, events: list[dict[str, Any]], texts: Any) -> None:
    events = copy.deepcopy(events)
    for event in events:
        write_back(event, {delta.path: delta.text.upper() for delta in delta_parts(call_type, event)})
    assert together(call_type, events) == {source: text.upper() for source, text in texts.items()}


@each_stream
def test_what_was_held_back_can_be_sent_in_an_event_of_its_own(
    call_type: str, events: list[dict[str, Any]], texts: Any
) -> None:
    for event in events:
        for delta in delta_parts(call_type, event):
            view = event_view(call_type, carrier(call_type, event, delta.source, "held"))
            assert [(piece.source, piece.text, piece.kind) for piece in view.deltas] == [
                (delta.source, "held", delta.kind)
            ]
            assert view.closes == []
            assert view.texts == []


def test_only_arguments_are_pieces_of_json() -> None:
    for call_type, events, _ in STREAMS.values():
        for delta in (delta for event in events for delta in delta_parts(call_type, event)):
            assert (delta.kind == "json") == ("arguments" in str(delta.source) or "json" in str(delta.source))


@pytest.mark.parametrize(
    ("call_type", "event", "closes"),
    [
        ("acompletion", chunk({}, 2, "stop"), [(2,)]),
        ("anthropic_messages", {"type": "content_block_stop", "index": 3}, [(3,)]),
        ("anthropic_messages", {"type": "message_stop"}, [()]),
        ("aresponses", response("output_text.done", 1, 2, text="x"), [(1, "response.output_text", 2)]),
        ("aresponses", response("output_item.done", 1, item={"type": "message", "content": []}), [(1,)]),
        ("aresponses", {"type": "response.completed", "response": {"output": []}}, [()]),
    ],
)
def test_an_event_says_which_texts_it_ends(call_type: str, event: dict[str, Any], closes: Any) -> None:
    assert event_view(call_type, event).closes == closes


MESSAGE = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "whole"}]}


@pytest.mark.parametrize(
    ("call_type", "event"),
    [
        ("aresponses", response("output_text.done", text="whole")),
        ("aresponses", response("function_call_arguments.done", arguments='{"a":"whole"}')),
        ("aresponses", response("output_item.done", item=MESSAGE)),
        ("aresponses", response("content_part.done", part={"type": "output_text", "text": "whole"})),
        ("aresponses", {"type": "response.completed", "response": {"output": [MESSAGE]}}),
        ("aresponses", {"type": "response.something.new", "said": "whole"}),
        ("anthropic_messages", {"type": "something_new", "said": ["whole"]}),
        ("anthropic_messages", {"type": "error", "error": {"type": "e", "message": "whole"}}),
        ("anthropic_messages", block("something_delta", "said", "whole", 0)),
        ("acompletion", chunk({"something_new": {"said": "whole"}})),
    ],
)
def test_whole_texts_in_events_are_found_and_can_be_replaced(call_type: str, event: dict[str, Any]) -> None:
    event = copy.deepcopy(event)
    parts = [part for part in event_view(call_type, event).texts if part.text == "whole"]
    assert len(parts) == 1
    write_back(event, {parts[0].path: "other"})
    assert [part.text for part in event_view(call_type, event).texts if part.text in ("whole", "other")] == ["other"]


def test_a_call_without_a_known_stream_is_refused() -> None:
    for call_type in ("aembedding", "", "avideo_generation"):
        with pytest.raises(UnknownShape):
            event_view(call_type, {"data": []})
