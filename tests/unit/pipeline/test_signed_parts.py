"""What a provider has signed or encrypted passes in both directions as it is, and a tag tells that a model wrote it."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from gatehouse.core.decision import Decision, Verdict
from gatehouse.core.errors import ContentBlocked, GovernanceError, SealedContentBlocked, SealedPiiBlocked
from gatehouse.core.keys import InstallationKeys
from gatehouse.dialects.canonical import CallerNames, CanonicalRequest, canonical_request
from gatehouse.dialects.sse import SSEDecoder
from gatehouse.dialects.tags import Tags, split
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.pii.masking import Mask
from gatehouse.guards.scan import NOTHING, Scan
from gatehouse.pipeline import screening
from gatehouse.pipeline.redaction import mask
from gatehouse.pipeline.response import Answers
from gatehouse.policy.load import load_policy
from hypothesis import given
from hypothesis import strategies as st

from tests.support.masking import KEYS, PLACEHOLDERS, mask_one, new_mask
from tests.support.scanned import PII, scan

TAGS = Tags(KEYS)
MAIL = "ada@example.com"
PLACEHOLDER = PLACEHOLDERS.of("EMAIL_ADDRESS", MAIL)
INVENTED = "grace@navy.example"
THOUGHT = f"I think of {PLACEHOLDER} and of {INVENTED}."
SIGNATURE = base64.b64encode(bytes(range(256)) * 2).decode()
CALL_ID = f"call_1__thought__{SIGNATURE}"
POLICY = load_policy(Path("policy.yaml"), b"version: 1\nscreens: {secrets: block}\n").policy
GOVERNANCE: Any = SimpleNamespace(pii=PII, masking=PII, policy=POLICY)


def knowing() -> Mask:
    made = new_mask()
    mask_one(made, MAIL, [Finding("EMAIL_ADDRESS", 0, len(MAIL), 1.0)])
    return made


def nothing_forbidden(text: str) -> None:
    if "forbidden" in text:
        raise ContentBlocked("Blocked.")


def answers(call_type: str, *, masks: bool = True, screens: bool = True) -> Answers:
    return Answers(call_type, knowing() if masks else None, nothing_forbidden if screens else None, TAGS)


def heard(call_type: str, answer: dict[str, Any], **what: bool) -> dict[str, Any]:
    """A whole answer, as the client gets it."""
    return cast("dict[str, Any]", json.loads(answers(call_type, **what).whole(json.dumps(answer).encode())))


def request(call_type: str, body: dict[str, Any], tags: Tags | None = TAGS) -> CanonicalRequest:
    return canonical_request(call_type, body, CallerNames.of(body), tags=tags)


class Reader:
    """Scans as the gateway does, in this process."""

    async def scan(self, texts: list[str], caller: str) -> list[Scan]:
        return [scan(text) for text in texts]

    scan_if_possible = scan


async def admitted(call_type: str, body: dict[str, Any]) -> dict[str, Any]:
    """A request as it would go to the provider.

    Raises:
        GovernanceError: it is refused.
    """
    body = copy.deepcopy(body)
    asked = request(call_type, body)
    governance: Any = SimpleNamespace(**vars(GOVERNANCE), scanner=Reader())
    scans = await screening.scan(governance, asked.scanned, "caller")
    screening.enforce(governance, asked.scanned, scans)
    mask(governance, Decision(Verdict.ALLOW, (), "v"), asked, scans, PLACEHOLDERS)
    return body


USER = {"role": "user", "content": f"I am {MAIL}"}
THINKING = {"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE}
REDACTED = {"type": "redacted_thinking", "data": SIGNATURE}
FOUND = {"type": "web_search_result", "url": "https://a.example", "encrypted_content": SIGNATURE}
CITED = {"type": "web_search_result_location", "cited_text": "so", "encrypted_index": SIGNATURE}
CALL = {"id": CALL_ID, "type": "function", "function": {"name": "send", "arguments": "{}"}}
ON_LITELLM = json.dumps([{"type": "thinking", "thinking": f'"{THOUGHT}"\n', "signature": SIGNATURE}])


def messages(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"id": "m", "type": "message", "role": "assistant", "content": list(blocks)}


def completion(**message: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "content": None, **message}}]}


def response(*items: dict[str, Any]) -> dict[str, Any]:
    return {"id": "r", "object": "response", "output": list(items)}


# An answer, and the path to each string of it that carries a tag.
WHOLE: dict[str, tuple[str, dict[str, Any], list[tuple[Any, ...]]]] = {
    "thinking": ("anthropic_messages", messages(THINKING), [("content", 0, "signature")]),
    "redacted thinking": ("anthropic_messages", messages(REDACTED), [("content", 0, "data")]),
    "a search's results": (
        "anthropic_messages",
        messages({"type": "web_search_tool_result", "tool_use_id": "s", "content": [FOUND]}),
        [("content", 0, "content", 0, "encrypted_content")],
    ),
    "the output of code": (
        "anthropic_messages",
        messages(
            {
                "type": "code_execution_tool_result",
                "tool_use_id": "s",
                "content": {"type": "encrypted_code_execution_result", "encrypted_stdout": SIGNATURE},
            }
        ),
        [("content", 0, "content", "encrypted_stdout")],
    ),
    "a citation": (
        "anthropic_messages",
        messages({"type": "text", "text": "so", "citations": [CITED]}),
        [("content", 0, "citations", 0, "encrypted_index")],
    ),
    "a signed summary": (
        "anthropic_messages",
        messages({"type": "compaction", "content": THOUGHT, "signature": SIGNATURE, "encrypted_content": SIGNATURE}),
        [("content", 0, "signature"), ("content", 0, "encrypted_content")],
    ),
    "Gemini's tool call on messages": (
        "anthropic_messages",
        messages(
            {"type": "tool_use", "id": "t", "name": "n", "input": {}, "provider_specific_fields": {"signature": "c2ln"}}
        ),
        [("content", 0, "provider_specific_fields", "signature")],
    ),
    "thinking on chat": (
        "acompletion",
        completion(
            thinking_blocks=[THINKING, REDACTED], provider_specific_fields={"thinking_blocks": [THINKING, REDACTED]}
        ),
        [
            ("choices", 0, "message", *place, *end)
            for place in (("thinking_blocks",), ("provider_specific_fields", "thinking_blocks"))
            for end in ((0, "signature"), (1, "data"))
        ],
    ),
    "Gemini's tool call on chat": (
        "acompletion",
        completion(
            tool_calls=[CALL | {"provider_specific_fields": {"thought_signature": "c2ln"}}],
            provider_specific_fields={"thought_signatures": ["c2ln"]},
        ),
        [
            ("choices", 0, "message", "tool_calls", 0, "id"),
            ("choices", 0, "message", "tool_calls", 0, "provider_specific_fields", "thought_signature"),
            ("choices", 0, "message", "provider_specific_fields", "thought_signatures", 0),
        ],
    ),
    "reasoning": (
        "aresponses",
        response({"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": SIGNATURE}),
        [("output", 0, "encrypted_content")],
    ),
    "thinking on responses": (
        "aresponses",
        response({"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": ON_LITELLM}),
        [("output", 0, "encrypted_content")],
    ),
    "a compaction": (
        "aresponses",
        response({"type": "compaction", "id": "cmp", "encrypted_content": "gAAAAAB" + SIGNATURE}),
        [("output", 0, "encrypted_content")],
    ),
    "Gemini's tool call on responses": (
        "aresponses",
        response({"type": "function_call", "id": f"fc_{CALL_ID}", "call_id": CALL_ID, "name": "n", "arguments": "{}"}),
        [("output", 0, "id"), ("output", 0, "call_id")],
    ),
}
each_whole = pytest.mark.parametrize(("call_type", "answer", "places"), WHOLE.values(), ids=WHOLE)


def at(value: Any, path: Iterable[Any]) -> Any:
    for step in path:
        value = value[step]
    return value


def put(value: Any, path: tuple[Any, ...], new: Any) -> None:
    at(value, path[:-1])[path[-1]] = new


def sent_back(call_type: str, answer: dict[str, Any]) -> dict[str, Any]:
    """The request that continues behind an answer."""
    if call_type == "aresponses":
        return {"model": "m", "input": [{"role": "user", "content": f"I am {MAIL}"}, *answer["output"]]}
    message = answer["choices"][0]["message"] if call_type == "acompletion" else None
    message = message or {"role": "assistant", "content": answer["content"]}
    return {"model": "m", "messages": [USER, message]}


@each_whole
@pytest.mark.parametrize("guards", [True, False], ids=["masked and screened", "neither"])
def test_a_whole_answer_changes_in_nothing_but_its_tags(
    call_type: str, answer: dict[str, Any], places: list[tuple[Any, ...]], guards: bool
) -> None:
    got = heard(call_type, answer, masks=guards, screens=guards)
    for place in places:
        tag, value = split(at(got, place))
        assert tag
        assert value == at(answer, place)
        put(got, place, value)
    assert got == answer


@each_whole
async def test_what_comes_back_goes_to_the_provider_as_it_was(
    call_type: str, answer: dict[str, Any], places: list[tuple[Any, ...]]
) -> None:
    back = await admitted(call_type, sent_back(call_type, heard(call_type, answer)))
    untagged = sent_back(call_type, copy.deepcopy(answer))
    name = "input" if call_type == "aresponses" else "messages"
    assert back[name][1:] == untagged[name][1:]
    assert PLACEHOLDER in back[name][0]["content"]


@each_whole
async def test_without_a_tag_what_is_found_in_it_is_refused_at_its_place(
    call_type: str, answer: dict[str, Any], places: list[tuple[Any, ...]]
) -> None:
    body = sent_back(call_type, answer)
    if INVENTED not in json.dumps(answer):
        assert (await admitted(call_type, body)).keys() == body.keys()
        return
    with pytest.raises(SealedPiiBlocked) as refused:
        await admitted(call_type, body)
    assert refused.value.status_on("/v1/chat/completions") == refused.value.status_on("/v1/messages") == 400
    assert refused.value.where is not None
    assert refused.value.where.startswith(("messages[1].", "input[1].encrypted_content"))
    assert INVENTED not in refused.value.message


def changed(block: dict[str, Any], **to: str) -> dict[str, Any]:
    return block | to


OTHER = Tags(InstallationKeys("another-installation-" + "0" * 20))


@pytest.mark.parametrize(
    "altered",
    [
        lambda block: changed(block, thinking=block["thinking"] + " "),
        lambda block: changed(block, thinking=block["thinking"].replace("think", "thought")),
        lambda block: changed(block, signature=block["signature"][:-4]),
        lambda block: changed(block, signature=split(block["signature"])[1]),
        lambda block: changed(block, signature=OTHER.tagged(split(block["signature"])[1])),
        lambda block: changed(block, signature=TAGS.tagged(split(block["signature"])[1])),
        lambda block: changed(block, signature=split(block["signature"])[0].upper() + SIGNATURE),
        lambda block: changed(block, signature=split(block["signature"])[0]),
    ],
)
async def test_a_tag_is_worth_nothing_on_other_content(altered: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    body = sent_back("anthropic_messages", heard("anthropic_messages", messages(THINKING)))
    (block,) = body["messages"][1]["content"]
    body["messages"][1]["content"] = [altered(block)]
    if not split(altered(block)["signature"])[1]:
        # Nothing is signed any more, so that it is masked as any text.
        back = await admitted("anthropic_messages", body)
        assert INVENTED not in json.dumps(back)
        return
    with pytest.raises(SealedPiiBlocked, match=r"^messages\[1\]\.content\[0\]\.thinking: EMAIL_ADDRESS"):
        await admitted("anthropic_messages", body)


async def test_conversations_from_before_the_tags_go_on() -> None:
    block = THINKING | {"thinking": f"I think of {PLACEHOLDER}."}
    body = {"model": "m", "messages": [USER, {"role": "assistant", "content": [block, REDACTED]}, USER]}
    back = await admitted("anthropic_messages", body)
    assert back["messages"][1] == body["messages"][1]
    # Beside it, the same text is one in the form of a placeholder of this call.
    body["messages"][1]["content"].append({"type": "text", "text": block["thinking"]})  # type: ignore[index]
    back = await admitted("anthropic_messages", body)
    assert back["messages"][1]["content"][:2] == [block, REDACTED]
    assert "<LITERAL_" in back["messages"][1]["content"][2]["text"]


async def test_a_secret_in_what_is_not_tagged_is_refused_with_400() -> None:
    block = THINKING | {"thinking": "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"}
    with pytest.raises(SealedContentBlocked, match=r"^messages\[1\]\.content\[0\]\.thinking: ") as refused:
        await admitted("anthropic_messages", sent_back("anthropic_messages", messages(block)))
    assert refused.value.status == 400


async def test_data_that_blocks_is_refused_with_400_where_it_cannot_be_masked() -> None:
    body = {"model": "m", "messages": [USER, {"role": "assistant", "content": [THINKING]}]}
    asked = request("anthropic_messages", body)
    scans = await screening.scan(SimpleNamespace(**vars(GOVERNANCE), scanner=Reader()), asked.scanned, "caller")  # type: ignore[arg-type]
    blocking = PiiConfig(entities={"EMAIL_ADDRESS": Mode.BLOCK})
    sealed = [(part, each) for part, each in zip(asked.scanned, scans, strict=True) if part.sealed and each.findings]
    assert len(sealed) == 1
    screening.personal_data(blocking, [sealed[0][0]], [sealed[0][1]], [False])
    governance: Any = SimpleNamespace(pii=blocking, masking=blocking, policy=POLICY)
    with pytest.raises(SealedPiiBlocked):
        mask(governance, Decision(Verdict.ALLOW, (), "v"), asked, scans, PLACEHOLDERS)


async def test_what_is_tagged_is_not_looked_at_again() -> None:
    body = sent_back("anthropic_messages", heard("anthropic_messages", messages(THINKING)))
    asked = request("anthropic_messages", body)
    assert [part.text for part in asked.texts if part.proven] == [THOUGHT]
    governance: Any = SimpleNamespace(scanner=Reader(), policy=POLICY, pii=PII)
    scans = await screening.scan(governance, asked.scanned, "caller")
    found = {part.text for part, each in zip(asked.scanned, scans, strict=True) if each != NOTHING}
    assert found == {USER["content"]}


def test_tags_are_taken_off_also_where_none_can_be_checked() -> None:
    body = sent_back("anthropic_messages", heard("anthropic_messages", messages(THINKING, REDACTED)))
    asked = request("anthropic_messages", body, None)
    assert asked.fields["messages"][1]["content"] == [THINKING, REDACTED]
    assert not any(part.proven for part in asked.scanned)


async def test_a_tool_calls_identifier_is_the_same_in_its_result() -> None:
    said = heard("acompletion", completion(tool_calls=[CALL]))["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": "done"}
    assert result["tool_call_id"] != CALL_ID
    back = await admitted("acompletion", {"model": "m", "messages": [USER, said, result]})
    assert back["messages"][1]["tool_calls"][0]["id"] == back["messages"][2]["tool_call_id"] == CALL_ID


def test_thinking_without_a_signature_is_ordinary_text() -> None:
    unsigned = THINKING | {"signature": ""}
    got = heard("anthropic_messages", messages(unsigned))["content"][0]
    assert got == unsigned | {"thinking": THOUGHT.replace(PLACEHOLDER, MAIL)}


def test_what_a_model_thinks_is_screened() -> None:
    with pytest.raises(ContentBlocked):
        heard("anthropic_messages", messages(THINKING | {"thinking": "forbidden"}))


def test_what_other_fields_call_a_signature_is_text() -> None:
    answer = completion(provider_specific_fields={"tool_results": [{"signature": f"def send({PLACEHOLDER})"}]})
    got = heard("acompletion", answer)
    assert json.dumps(got) == json.dumps(answer).replace(PLACEHOLDER, MAIL)


def test_a_picture_is_never_tagged() -> None:
    picture = {"type": "image_generation_call", "id": "ig", "result": "not base64!"}
    assert heard("aresponses", response(picture)) == response(picture)


def test_where_only_tags_are_written_an_unknown_answer_passes() -> None:
    body = b'{"content": "no list", "type": "message"}'
    assert answers("anthropic_messages", masks=False, screens=False).whole(body) == body
    with pytest.raises(GovernanceError):
        answers("anthropic_messages").whole(body)
    event = b'data: {"type": "content_block_delta", "delta": 3}\n\n'
    assert answers("anthropic_messages", masks=False, screens=False).push(event) == event
    with pytest.raises(GovernanceError):
        answers("anthropic_messages").push(event)
    assert answers("acompletion", masks=False, screens=False).text(b"\xff") == b"\xff"


# Streams


def block_events(index: int, block: dict[str, Any], pieces: list[str]) -> list[dict[str, Any]]:
    """Anthropic's events of a block of thinking."""
    place = {"index": index}
    return [
        {
            "type": "content_block_start",
            **place,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
        *(
            {"type": "content_block_delta", **place, "delta": {"type": "thinking_delta", "thinking": each}}
            for each in pieces
        ),
        {"type": "content_block_delta", **place, "delta": {"type": "signature_delta", "signature": block["signature"]}},
        {"type": "content_block_stop", **place},
    ]


def chunk(**delta: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def thinking_chunks(block: dict[str, Any], pieces: list[str]) -> list[dict[str, Any]]:
    """LiteLLM's chunks of a block of thinking, which say it twice."""
    parts = [{"type": "thinking", "thinking": each} for each in pieces]
    parts.append({"type": "thinking", "thinking": "", "signature": block["signature"]})
    return [chunk(thinking_blocks=[each], provider_specific_fields={"thinking_blocks": [each]}) for each in parts]


def written(events: list[dict[str, Any]]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def streamed(call_type: str, events: list[dict[str, Any]], size: int = 10**6, **what: bool) -> list[dict[str, Any]]:
    """The events of a stream, as the client gets them."""
    stream, passing = written(events), answers(call_type, **what)
    got = b"".join(passing.push(stream[at : at + size]) for at in range(0, len(stream), size)) + passing.end()
    return [json.loads(each.data) for each in SSEDecoder().decode(got) if each.data]


def anthropic_blocks(events: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """What a client puts together of Anthropic's events, where a signature replaces the one before."""
    blocks: dict[int, dict[str, Any]] = {}
    for event in events:
        if event["type"] == "content_block_start":
            blocks[event["index"]] = event["content_block"]
        elif event["type"] == "content_block_delta":
            delta, block = event["delta"], blocks[event["index"]]
            block["thinking"] += delta.get("thinking", "")
            block["signature"] = delta.get("signature", block["signature"])
    return blocks


def chat_blocks(events: list[dict[str, Any]], place: Callable[[dict[str, Any]], Any]) -> list[dict[str, Any]]:
    """What a client puts together of chunks: a block ends with its signature."""
    blocks: list[dict[str, Any]] = [{"type": "thinking", "thinking": ""}]
    for event in events:
        for part in place(event["choices"][0]["delta"]) or ():
            blocks[-1]["thinking"] += part["thinking"]
            if "signature" in part:
                blocks[-1]["signature"] = part["signature"]
                blocks.append({"type": "thinking", "thinking": ""})
    return blocks[:-1]


def cut(text: str, cuts: list[int]) -> list[str]:
    places = sorted({place % (len(text) + 1) for place in cuts})
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


SAID = st.tuples(
    st.lists(st.sampled_from([THOUGHT, PLACEHOLDER, MAIL, INVENTED, "𝔘é ", "\\u003c", " and ", "x"])).map("".join),
    st.lists(st.integers(0, 500), max_size=20),
)


@given(st.lists(SAID, min_size=1, max_size=3), st.integers(1, 300), st.booleans())
async def test_thinking_of_a_stream_comes_back_as_it_was_wherever_it_is_cut(
    said: list[tuple[str, list[int]]], size: int, guards: bool
) -> None:
    blocks = [
        {"type": "thinking", "thinking": text, "signature": base64.b64encode(f"{text} {n}".encode()).decode()}
        for n, (text, _) in enumerate(said)
    ]
    pieces = [cut(text, cuts) for text, cuts in said]
    events = [each for n, block in enumerate(blocks) for each in block_events(n, block, pieces[n])]
    got = list(anthropic_blocks(streamed("anthropic_messages", events, size, masks=guards, screens=guards)).values())
    chunks = [each for n, block in enumerate(blocks) for each in thinking_chunks(block, pieces[n])]
    passed = streamed("acompletion", chunks, size, masks=guards, screens=guards)
    for each in (
        got,
        chat_blocks(passed, lambda delta: delta.get("thinking_blocks")),
        chat_blocks(passed, lambda delta: (delta.get("provider_specific_fields") or {}).get("thinking_blocks")),
    ):
        body = {"model": "m", "messages": [USER, {"role": "assistant", "content": each}]}
        back = await admitted("anthropic_messages", body)
        assert back["messages"][1]["content"] == blocks


def test_a_signed_summary_of_a_stream_comes_as_in_a_whole_answer() -> None:
    delta = {"type": "compaction_delta", "content": THOUGHT, "signature": SIGNATURE}
    (event,) = streamed("anthropic_messages", [{"type": "content_block_delta", "index": 0, "delta": delta}])
    summary = {"type": "compaction", "content": THOUGHT, "signature": SIGNATURE}
    (whole,) = heard("anthropic_messages", messages(summary))["content"]
    assert event["delta"] == delta | {"signature": whole["signature"]}
    unsigned = {"type": "content_block_delta", "index": 0, "delta": {"type": "compaction_delta", "content": THOUGHT}}
    (event,) = streamed("anthropic_messages", [unsigned], screens=False)
    assert event["delta"]["content"] == THOUGHT.replace(PLACEHOLDER, MAIL)


def test_a_chunk_with_several_blocks_ends_each_with_its_own_signature() -> None:
    two = [THINKING, THINKING | {"thinking": "Another."}]
    events = [chunk(thinking_blocks=two, provider_specific_fields={"thinking_blocks": two})]
    passed = streamed("acompletion", copy.deepcopy(events))
    whole = heard("acompletion", completion(thinking_blocks=two))["choices"][0]["message"]["thinking_blocks"]
    assert chat_blocks(passed, lambda delta: delta.get("thinking_blocks")) == whole


def test_what_was_held_back_comes_before_the_signature() -> None:
    passed = streamed("anthropic_messages", block_events(0, THINKING, [THOUGHT]))
    kinds = [event.get("delta", {}).get("type") for event in passed]
    assert kinds.index("signature_delta") == len(kinds) - 2
    assert "".join(event.get("delta", {}).get("thinking", "") for event in passed) == THOUGHT


STREAMED = [
    ("anthropic_messages", {"type": "content_block_start", "index": 0, "content_block": REDACTED}),
    (
        "anthropic_messages",
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "web_search_tool_result", "tool_use_id": "s", "content": [FOUND]},
        },
    ),
    (
        "anthropic_messages",
        {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": CITED}},
    ),
    (
        "anthropic_messages",
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "compaction_delta", "content": "A summary.", "encrypted_content": SIGNATURE},
        },
    ),
    ("acompletion", chunk(thinking_blocks=[REDACTED])),
    ("acompletion", chunk(provider_specific_fields={"thought_signatures": [SIGNATURE]})),
    ("acompletion", chunk(provider_specific_fields={"citation": CITED})),
    ("acompletion", chunk(reasoning_items=[{"type": "reasoning", "id": "rs", "encrypted_content": SIGNATURE}])),
    ("acompletion", chunk(tool_calls=[{"index": 0, **CALL}])),
    (
        "acompletion",
        chunk(tool_calls=[{"index": 0, "extra_content": {"google": {"thought_signature": SIGNATURE}}}]),
    ),
    ("acompletion", chunk(tool_calls=[{"index": 0, "provider_specific_fields": {"thought_signature": SIGNATURE}}])),
    (
        "acompletion",
        chunk(tool_calls=[{"index": 0, "function": {"provider_specific_fields": {"thought_signature": SIGNATURE}}}]),
    ),
    (
        "aresponses",
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": SIGNATURE},
        },
    ),
    (
        "aresponses",
        {"type": "response.function_call_arguments.delta", "output_index": 0, "item_id": CALL_ID, "delta": "{}"},
    ),
]


@pytest.mark.parametrize(("call_type", "event"), STREAMED)
def test_what_comes_whole_in_a_stream_is_tagged_as_in_a_whole_answer(call_type: str, event: dict[str, Any]) -> None:
    passed = streamed(call_type, [copy.deepcopy(event)], masks=True, screens=False)
    secret = CALL_ID if CALL_ID in json.dumps(event) else SIGNATURE
    assert json.loads(json.dumps(passed[0]).replace(TAGS.tagged(secret), secret)) == event
    assert TAGS.tagged(secret) in json.dumps(passed[0])


def test_an_answer_without_tags_is_the_same_bytes() -> None:
    body = json.dumps(messages(THINKING)).encode()
    assert Answers("anthropic_messages", None, nothing_forbidden).whole(body) is body
    stream = written(block_events(0, THINKING, ["a", "b"]))
    assert Answers("anthropic_messages", None, None).push(stream) == stream
