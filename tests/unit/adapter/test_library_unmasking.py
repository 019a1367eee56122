"""What was masked comes back in the answer, wherever a stream cuts it, and as JSON where it stands in JSON."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from gatehouse_adapter.litellm.unmasking import Replacements, Restorer, Running, copied
from hypothesis import given
from hypothesis import strategies as st
from litellm.types.utils import ModelResponse, ModelResponseStream

ORIGINALS = {
    "<EMAIL_ADDRESS_7Q2MKD4P>": 'a"da@example.org',
    "<EMAIL_ADDRESS_7Q2MKD4PX9>": "bob@x.org",
    "<PERSON_0BN4TZ6R>": "<PERSON_5M8C2WQA>",
}
KNOWN = Replacements(ORIGINALS)
TEXTS = st.lists(st.one_of(st.sampled_from([*ORIGINALS, "<PERSON_5M8C2WQA>", "<", "<EMAIL", "é"]), st.text(max_size=5)))


@given(TEXTS, st.lists(st.integers(0, 60)))
def test_a_stream_cut_anywhere_says_what_the_whole_says(pieces: list[str], cuts: list[int]) -> None:
    text = "".join(pieces)
    ends = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    for inside_json in (False, True):
        running = Running(KNOWN, inside_json=inside_json)
        said = "".join(running.push(text[a:b]) for a, b in pairwise(ends)) + running.flush()
        assert said == (KNOWN.json_text(text) if inside_json else KNOWN.text(text))


def test_only_what_may_be_a_placeholder_is_held_back() -> None:
    running = Running(KNOWN, inside_json=False)
    assert [running.push(piece) for piece in ("1 < 2 <b>", "<EMA", "IL_ADDRESS_7Q2MKD4P", "> ok")] == [
        "1 < 2 <b>",
        "",
        "",
        'a"da@example.org ok',
    ]


def test_what_was_put_in_is_not_looked_at_again() -> None:
    assert KNOWN.text("<PERSON_0BN4TZ6R>") == "<PERSON_5M8C2WQA>"


def answer(message: dict[str, Any]) -> ModelResponse:
    return ModelResponse(choices=[{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}])


def test_a_whole_answer_is_restored_in_text_and_in_arguments_and_the_original_is_not_touched() -> None:
    function = {"name": "mail", "arguments": '{"to": "<EMAIL_ADDRESS_7Q2MKD4P>"}'}
    call = {"id": "t", "type": "function", "function": function}
    said = {"content": "To <EMAIL_ADDRESS_7Q2MKD4PX9>", "reasoning_content": "<PERSON_0BN4TZ6R>!"}
    original = answer({**said, "tool_calls": [call]})
    shown = copied(original)
    for choice in shown.choices:
        KNOWN.restore(choice.message)
    message = shown.choices[0].message
    assert message.content == "To bob@x.org"
    assert json.loads(message.tool_calls[0].function.arguments) == {"to": 'a"da@example.org'}
    assert message.reasoning_content == "<PERSON_5M8C2WQA>!"
    assert original.choices[0].message.content == "To <EMAIL_ADDRESS_7Q2MKD4PX9>"
    assert "example.org" not in original.model_dump_json()


def chunk(finish: str | None = None, index: int = 0, **delta: Any) -> ModelResponseStream:
    return ModelResponseStream(choices=[{"index": index, "finish_reason": finish, "delta": delta}])


def arguments(piece: str, index: int) -> dict[str, Any]:
    return {"index": index, "id": None, "type": "function", "function": {"name": None, "arguments": piece}}


def test_a_stream_is_restored_in_each_choice_and_each_tool_call() -> None:
    restorer = Restorer(KNOWN)
    stream = [
        chunk(content="<PERS"),
        chunk(content="<EMAIL_ADDR", index=1),
        chunk(content="ON_0BN4TZ6R>"),
        chunk(content="ESS_7Q2MKD4PX9>", index=1),
        chunk(tool_calls=[arguments('{"to": "<EMAIL_', 0), arguments('{"who": "<PER', 1)]),
        chunk(tool_calls=[arguments('ADDRESS_7Q2MKD4P>"}', 0), arguments('SON_0BN4TZ6R>"} <PERS', 1)]),
        chunk("tool_calls"),
        chunk("stop", index=1),
    ]
    texts = {0: "", 1: ""}
    calls = {0: "", 1: ""}
    for shown in map(restorer.chunk, stream):
        for choice in shown.choices:
            texts[choice.index] += choice.delta.content or ""
            for call in choice.delta.tool_calls or ():
                calls[call.index] += call.function.arguments
    assert texts == {0: "<PERSON_5M8C2WQA>", 1: "bob@x.org"}
    assert json.loads(calls[0]) == {"to": 'a"da@example.org'}
    assert calls[1] == '{"who": "<PERSON_5M8C2WQA>"} <PERS'
    assert stream[2].choices[0].delta.content == "ON_0BN4TZ6R>"


def test_nothing_is_lost_of_a_stream_that_ends_without_saying_so() -> None:
    restorer = Restorer(KNOWN)
    shown = restorer.chunk(chunk(content="half of <EMAIL_ADD"))
    restorer.chunk(ModelResponseStream(choices=[]))
    rest = restorer.rest()
    assert shown.choices[0].delta.content + rest.choices[0].delta.content == "half of <EMAIL_ADD"
    assert restorer.rest() is None


def test_signed_thinking_stays_as_it_is() -> None:
    thought = {"type": "thinking", "thinking": "Of <PERSON_0BN4TZ6R>.", "signature": "c2ln"}
    said = {"content": "<PERSON_0BN4TZ6R>", "thinking_blocks": [thought]}
    message = answer({**said, "provider_specific_fields": {"thinking_blocks": [thought]}}).choices[0].message
    KNOWN.restore(message)
    assert message.content == "<PERSON_5M8C2WQA>"
    delta = {"content": "<PERSON_0BN4TZ6R>", "thinking_blocks": [thought]}
    chunk = Restorer(KNOWN).chunk(ModelResponseStream(choices=[{"index": 0, "delta": delta}]))
    assert chunk.choices[0].delta.content == "<PERSON_5M8C2WQA>"
    for blocks in (
        message.thinking_blocks,
        message.provider_specific_fields["thinking_blocks"],
        chunk.choices[0].delta.thinking_blocks,
    ):
        assert [(each["thinking"], each["signature"]) for each in blocks] == [(thought["thinking"], "c2ln")]


def test_the_map_is_not_shown() -> None:
    assert "example" not in repr(KNOWN)
