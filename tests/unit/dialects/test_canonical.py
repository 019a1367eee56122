"""The canonical request holds all that is sent, and nothing that LiteLLM keeps beside it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from gatehouse.core.errors import InvalidRequest
from gatehouse.dialects.call_types import CALL_TYPES
from gatehouse.dialects.caller_fields import caller_request
from gatehouse.dialects.canonical import CallerNames, CanonicalRequest, canonical_request, offered_tools
from gatehouse.dialects.parts import UnknownShape
from gatehouse.dialects.requested import Requested
from gatehouse.proxy.control_fields import control_fields

CHAT: dict[str, Any] = {
    "model": "demo",
    "messages": [{"role": "user", "content": "write to ada@example.com"}],
    "metadata": {"order": "7", "tags": ["mine"]},
    "tags": ["batch"],
    "timeout": 5,
    "cache": {"no-store": True},
    "extra_body": {"new_field": {"of": "next year"}},
}
# As LiteLLM leaves a request to its hooks.
NOTES: dict[str, Any] = {
    "proxy_server_request": {"body": object()},
    "litellm_call_id": "1",
    "litellm_logging_obj": object(),
    "secret_fields": object(),
    "user_api_key_dict": object(),
    "_litellm_note_of_next_year": object(),
}


def read(body: dict[str, Any], call_type: str = "acompletion", **notes: Any) -> CanonicalRequest:
    asked = caller_request(call_type, body, control_fields())
    return canonical_request(call_type, {**asked, **notes}, CallerNames.of(asked), control_fields().obeys)


def hooked(**more: Any) -> dict[str, Any]:
    """Return the chat as LiteLLM's hook has it."""
    metadata = {
        **CHAT["metadata"],
        "tags": ["mine", "batch", "of the key", "User-Agent: a"],
        "user_api_key_auth": object(),
        "requester_metadata": {"order": "7"},
    }
    return {**copy.deepcopy(CHAT), **NOTES, "metadata": metadata, **more}


def test_its_fields_are_what_the_caller_sent() -> None:
    assert read(CHAT).fields == CHAT
    again = canonical_request("acompletion", hooked(), CallerNames.of(CHAT), control_fields().obeys)
    assert again.fields == CHAT
    texts = [part.text for part in again.texts]
    assert {"write to ada@example.com", "7", "mine", "batch", "next year"} <= set(texts)
    assert "of the key" in texts  # LiteLLM's copy is masked where it lies


@pytest.mark.parametrize("call_type", sorted(set(CALL_TYPES.values())))
def test_what_litellm_keeps_is_read_on_no_route(call_type: str) -> None:
    body = {"model": "demo", "input": "x"} if call_type != "acompletion" else CHAT
    asked = {name: value for name, value in body.items() if name in ("model", "input", "messages")}
    if call_type in ("atext_completion", "aimage_generation", "atranscription"):
        asked = {"model": "demo", "prompt": "x"}
    if call_type in ("acompletion", "anthropic_messages"):
        asked = {"model": "demo", "messages": CHAT["messages"]}
    if call_type == "arerank":
        asked = {"model": "demo", "query": "x", "documents": ["y"]}
    request = canonical_request(call_type, {**asked, **NOTES}, CallerNames.of(asked), control_fields().obeys)
    assert request.fields == asked


@pytest.mark.parametrize("value", ["text", ["text"], {"a": "text"}])
def test_what_nobody_knows_is_refused_where_it_could_hold_text(value: Any) -> None:
    with pytest.raises(UnknownShape, match="added_by_a_hook"):
        canonical_request("acompletion", hooked(added_by_a_hook=value), CallerNames.of(CHAT), control_fields().obeys)
    assert canonical_request("acompletion", hooked(flag=True), CallerNames.of(CHAT), control_fields().obeys)


@pytest.mark.parametrize("name", ["litellm_system_prompt", "headers", "provider_specific_header", "extra_headers"])
def test_what_an_operator_adds_is_read_and_bound(name: str) -> None:
    value: Any = "ada@example.com" if name == "litellm_system_prompt" else {"x-to": "ada@example.com"}
    body = hooked(**{name: value})
    request = canonical_request("acompletion", body, CallerNames.of(CHAT), control_fields().obeys)
    assert request.fields[name] == value
    (part,) = (part for part in request.texts if part.text == "ada@example.com")
    masked = request.masked({part.path: "<HIDDEN>"})
    assert "ada@example.com" not in str(masked.fields[name])
    assert "ada@example.com" not in str(body[name])


@pytest.mark.parametrize("name", ["X-Gatehouse-Approval", "x-request-id", "Traceparent", "x-litellm-trace-id"])
def test_headers_of_one_request_alone_are_not_bound(name: str) -> None:
    body = hooked(headers={"x-team": "a", name: "1"})
    request = canonical_request("acompletion", body, CallerNames.of(CHAT), control_fields().obeys)
    assert request.fields["headers"] == {"x-team": "a"}


@pytest.mark.parametrize(
    ("field", "wrong"),
    [(name, value) for name in ("stream", "temperature") for value in ("1", "true", [1], {"a": 1})]
    + [("stream", 1), ("temperature", True)],
    ids=str,
)
def test_a_fact_of_another_type_is_refused_by_name(field: str, wrong: Any) -> None:
    with pytest.raises((InvalidRequest, UnknownShape), match=field):
        read(CHAT | {field: wrong})


def test_a_form_writes_numbers_and_switches_as_text() -> None:
    form = {"model": "hear", "file": ("a.mp3", b"0"), "temperature": "0.5", "stream": "true"}
    request = canonical_request("atranscription", form, CallerNames.of(form))
    assert (request.temperature, request.stream) == (0.5, True)
    for wrong in ({"temperature": "warm"}, {"stream": "maybe"}):
        with pytest.raises(InvalidRequest, match=next(iter(wrong))):
            canonical_request("atranscription", form | wrong, CallerNames.of(form))


def test_its_facts_are_those_of_its_fields() -> None:
    tools = [{"type": "function", "function": {"name": "pay"}}, {"name": "search"}]
    request = read(CHAT | {"stream": True, "temperature": 1, "max_tokens": 9, "n": 2, "tools": tools})
    assert (request.stream, request.temperature, request.requested) == (True, 1.0, Requested(9, 2))
    assert request.tools == {"pay", "search"}
    nothing = read(CHAT)
    assert (nothing.stream, nothing.temperature, nothing.requested) == (False, None, Requested(None, 1))


def test_what_is_masked_and_what_is_limited_is_what_is_sent() -> None:
    body = hooked()
    request = canonical_request("acompletion", body, CallerNames.of(CHAT), control_fields().obeys)
    (part,) = (part for part in request.texts if "@" in part.text)
    masked = request.masked({part.path: "write to <EMAIL>"})
    limited = masked.limited(lambda fields: fields.update(max_tokens=7))
    assert "write to <EMAIL>" in [part.text for part in limited.texts]
    assert limited.requested == Requested(7, 1)
    assert body["messages"][0]["content"] == limited.fields["messages"][0]["content"] == "write to <EMAIL>"
    assert body["max_tokens"] == limited.fields["max_tokens"] == 7


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"model": "m"}, CallerNames(frozenset({"model"}))),
        ({"metadata": None}, CallerNames(frozenset({"metadata"}))),
        ({"metadata": {"a": 1}}, CallerNames(frozenset({"metadata"}), frozenset({"a"}))),
        (
            {"metadata": {"tags": ["x", "y"]}, "n": 1},
            CallerNames(frozenset({"metadata", "n"}), frozenset({"tags"}), 2),
        ),
        ({"metadata": {"tags": "xyz"}}, CallerNames(frozenset({"metadata"}), frozenset({"tags"}), 0)),
    ],
)
def test_a_callers_own_words_are_those_before_litellm_adds_to_them(body: dict[str, Any], names: CallerNames) -> None:
    assert CallerNames.of(body) == names


def test_a_callers_metadata_is_found_wherever_litellm_has_put_it() -> None:
    names = CallerNames.of({"metadata": {"order": "7", "tags": ["a"]}})
    messages = CHAT["messages"]
    notes = {"metadata": {"note": "n"}, "litellm_metadata": {"note": "n"}}
    for place in notes:
        for beside in ({}, notes):
            held = {"order": "7", "tags": ["a", "of the key"], "note": "n"}
            body = {"messages": messages, **beside, place: held}
            request = canonical_request("acompletion", body, names, control_fields().obeys)
            assert request.fields == {"messages": messages, "metadata": {"order": "7", "tags": ["a"]}}
            texts = {part.text for part in request.texts}
            assert {"order", "7", "tags", "a"} <= texts
            assert texts.isdisjoint({"note", "n"})
    nothing = {"messages": messages, "metadata": {"note": 1}, "litellm_metadata": None}
    assert "metadata" not in canonical_request("acompletion", nothing, names, control_fields().obeys).fields


@pytest.mark.parametrize("place", ["metadata", "litellm_metadata"])
def test_a_callers_tags_are_masked_where_litellm_copies_them_too(place: str) -> None:
    asked = {"messages": CHAT["messages"], "tags": ["ada@example.com"]}
    body = {**asked, place: {"tags": ["ada@example.com", "of the key"]}}
    request = canonical_request("acompletion", body, CallerNames.of(asked), control_fields().obeys)
    masked = request.masked({part.path: "<A>" for part in request.texts if part.text == "ada@example.com"})
    assert (body["tags"], body[place]) == (["<A>"], {"tags": ["<A>", "of the key"]})
    assert masked.fields["tags"] == ["<A>"]
    none = {"messages": CHAT["messages"], place: {"tags": ["of the key"]}}
    request = canonical_request("acompletion", none, CallerNames(frozenset({"messages"})), control_fields().obeys)
    assert "of the key" not in {part.text for part in request.texts}


@pytest.mark.parametrize("call_type", ["aresponses", "anthropic_messages"])
def test_metadata_that_an_api_has_is_sent_with_what_a_hook_adds(call_type: str) -> None:
    asked = {"model": "demo", "metadata": {"user_id": "7"}}
    assert read(asked, call_type).fields == asked
    body = {"model": "demo", "metadata": {"user_id": "7", "added": "x"}}
    assert canonical_request(call_type, body, CallerNames.of(asked), control_fields().obeys).fields == body


def test_fields_that_a_hook_adds_for_the_provider_are_read_and_bound() -> None:
    added = {"extra_body": {"new_field": "next year"}}
    request = canonical_request("aresponses", {"input": "x", **added}, CallerNames(), control_fields().obeys)
    assert request.fields == {"input": "x", **added}
    assert "next year" in [part.text for part in request.texts]


def test_what_is_no_text_is_noted() -> None:
    picture = {"type": "input_image", "image_url": "https://example.com/a.png"}
    request = read({"input": [{"role": "user", "content": [picture]}], "previous_response_id": "resp_1"}, "aresponses")
    assert [file.kind for file in request.files] == ["image"]
    assert [stored.path for stored in request.stored] == [("previous_response_id",)]


def test_tools_are_found_wherever_a_request_may_offer_them() -> None:
    fields = {
        "tools": [
            {"type": "function", "function": {"name": "a"}},
            {"name": "b"},
            {"type": "namespace", "name": "c", "tools": [{"name": "d", "tools": [{"name": "e"}]}]},
            {"function": {"name": 1}, "name": "not this"},
            {"name": 2},
            "no tool",
        ],
        "functions": [{"name": "f"}],
        "input": [{"tools": [{"name": "g"}]}, "text"],
        "messages": [{"content": [{"tool": {"name": "h"}}, {"tool": "i"}]}, {"content": "text"}],
        "other": [{"name": "j"}],
    }
    assert sorted(offered_tools(fields)) == list("abcdefgh")
    assert list(offered_tools({"tools": {"name": "a"}, "functions": None})) == []
    assert list(offered_tools({"tools": ({"name": "a"},)})) == ["a"]


@pytest.mark.parametrize(
    ("written", "temperature", "stream"),
    [
        ({"temperature": " 0 ", "stream": " TRUE"}, 0.0, True),
        ({"stream": "False "}, None, False),
        ({"temperature": 1, "stream": True}, 1.0, True),
        ({}, None, False),
    ],
)
def test_a_form_is_read_in_any_spelling_and_stays_as_it_is_written(
    written: dict[str, Any], temperature: float | None, stream: bool
) -> None:
    form = {"model": "hear", "file": ("a.mp3", b"0"), **written}
    request = canonical_request("atranscription", form, CallerNames.of(form))
    assert (request.temperature, request.stream) == (temperature, stream)
    assert request.fields == form


def test_headers_that_are_none_are_left_and_bound() -> None:
    body = hooked(headers=None)
    assert canonical_request("acompletion", body, CallerNames.of(CHAT), control_fields().obeys).fields == CHAT


def test_a_number_beside_the_texts_is_masked_where_it_stands() -> None:
    request = read(CHAT | {"user": "ada", "seed": 4111111111111111})
    (part,) = (part for part in request.scanned if part.text == "4111111111111111")
    masked = request.masked({part.path: "<CARD>"})
    assert "<CARD>" in [each.text for each in masked.scanned]
    assert "4111111111111111" not in [each.text for each in masked.scanned]
    assert len(masked.scanned) == len(request.scanned)
    assert masked.fields["seed"] == "<CARD>"


def test_nothing_of_it_is_printed() -> None:
    assert "ada" not in repr(read(CHAT))


@pytest.mark.parametrize(
    ("call_type", "field"),
    [
        ("atext_completion", {"prompt": None}),
        ("acompletion", {"web_search_options": True}),
        ("aresponses", {"response_format": [1]}),
        ("aresponses", {"text_format": ["x"]}),
    ],
)
def test_what_litellm_breaks_on_is_refused_by_name(call_type: str, field: dict[str, Any]) -> None:
    asked = {"model": "demo", **field}
    with pytest.raises((InvalidRequest, UnknownShape), match=next(iter(field))):
        canonical_request(call_type, asked, CallerNames.of(asked))
