"""What LiteLLM takes out of a request stands in our table, and callers cannot say it, wherever they put it."""

from __future__ import annotations

from typing import Any

import pytest
from gatehouse.core.errors import GovernanceError, InvalidRequest, TooLarge
from gatehouse.dialects import ALL_NAMES, names_of
from gatehouse.dialects.call_types import CALL_TYPES
from gatehouse.dialects.caller_fields import MAX_MESSAGES, MAX_PARTS, CallerBounds, caller_request
from gatehouse.proxy import control_fields as table
from gatehouse.proxy.control_fields import control_fields, other_release

from tests.support.litellm_names import names
from tests.support.parts import request_parts

CANARY = "xylophonecanary"
FEW = frozenset("metadata tags user timeout num_retries cache extra_body".split())
FIELDS = control_fields()


def ask(body: dict[str, Any], call_type: str = "acompletion") -> dict[str, Any]:
    return caller_request(call_type, body, FIELDS, CallerBounds(timeout_s=600, num_retries=2))


@pytest.mark.timeout(600)
def test_every_name_that_the_installed_litellm_takes_is_in_the_table() -> None:
    requests, metadata = names()
    assert len(requests) > 800  # or nothing was read
    assert len(metadata) > 150
    known = FIELDS.obeyed | FIELDS.top | FIELDS.numbers | ALL_NAMES | FEW
    noted = set(_section("noted"))
    where = "guardrails/gatehouse/proxy/control_fields.txt: its head says which section each name belongs to"
    assert not requests - known, where
    assert not metadata - FIELDS.in_metadata - FIELDS.obeyed - noted, where
    assert not noted & FIELDS.in_metadata


def _section(name: str) -> list[str]:
    text = table.files("gatehouse.proxy").joinpath("control_fields.txt").read_text()
    return text.split(f"\n[{name}]\n")[1].split("\n[")[0].split()


def test_a_gateway_with_another_release_of_litellm_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert other_release() is None
    monkeypatch.setattr(table, "version", lambda _: "9.9.9")
    assert other_release() == "9.9.9"


@pytest.mark.parametrize("call_type", sorted({*CALL_TYPES.values(), "atranscription"}))
def test_nothing_that_litellm_takes_and_the_api_has_not_can_be_said(call_type: str) -> None:
    taken = FIELDS.obeyed | FIELDS.top | FIELDS.numbers | ALL_NAMES
    for name in taken - names_of(call_type) - FEW:
        for value in (CANARY, {"a": CANARY}, [CANARY], [{"model": "m", "messages": [{"content": CANARY}]}]):
            for body in ({name: value}, {"extra_body": {name: value}}):
                with pytest.raises(InvalidRequest) as refused:
                    ask(body, call_type)
                assert refused.value.param == name
                assert name in refused.value.message
                assert CANARY not in refused.value.message


def test_what_litellm_obeys_cannot_be_said_at_any_depth_of_a_container() -> None:
    for name in FIELDS.obeyed:
        for deep in ({name: CANARY}, {"a": {name: CANARY}}, {"a": [[{"b": {name: [CANARY]}}]]}):
            for body in ({"metadata": deep}, {"extra_body": {"new": deep}}, {"extra_body": {"metadata": deep}}):
                with pytest.raises(InvalidRequest):
                    ask(body)
            with pytest.raises(InvalidRequest):
                ask({"a_new_field": deep})
    for name in FIELDS.in_metadata:
        for deep in ({name: CANARY}, {"a": [{name: CANARY}]}):
            with pytest.raises(InvalidRequest) as refused:
                ask({"metadata": deep})
            assert refused.value.param == "metadata"


@pytest.mark.parametrize("name", ["litellm_of_next_year", "_litellm_x", "user_api_key_new", "x-litellm-new"])
def test_what_begins_like_a_name_of_litellms_is_refused_too(name: str) -> None:
    for body in ({name: 1}, {"extra_body": {name: 1}}, {"metadata": {"a": {name: 1}}}):
        with pytest.raises(InvalidRequest):
            ask(body)


def test_a_name_that_is_no_word_is_not_repeated() -> None:
    with pytest.raises(InvalidRequest) as refused:
        ask({"litellm_jane@example.com": 1})
    assert "jane" not in refused.value.message
    assert refused.value.param is None


def test_new_fields_are_kept_apart_and_read_to_the_last_word() -> None:
    body = {"model": "m", "messages": [], "a_field_of_next_year": {"who": [CANARY, 4111111111111111]}}
    asked = ask(body)
    assert asked == {
        "model": "m",
        "messages": [],
        "extra_body": {"a_field_of_next_year": {"who": [CANARY, 4111111111111111]}},
    }
    texts = {part.text for part in request_parts("acompletion", asked)}
    assert {"a_field_of_next_year", "who", CANARY, "4111111111111111"} <= texts
    assert ask({"gone": None}) == {}  # says nothing, and its name shall hide nothing


def test_extra_body_is_read_as_if_its_fields_stood_at_the_top() -> None:
    inside = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9, "tools": [], "new": 1}
    assert ask({"model": "m", "extra_body": inside}) == {
        "model": "m",
        **{name: value for name, value in inside.items() if name != "new"},
        "extra_body": {"new": 1},
    }
    for twice in ({"max_tokens": 1}, {"max_tokens": None}, {"new": 2}):
        with pytest.raises(InvalidRequest, match="extra_body"):
            ask({**twice, "extra_body": inside})
    for bad in ("x", [inside], {"extra_body": inside}, 1):
        with pytest.raises(InvalidRequest):
            ask({"extra_body": bad})


GOOD: list[dict[str, Any]] = [
    {"metadata": {"user_id": "user_1_account_2_session_3", "project": "a", "nested": {"deep": [1, "x"]}}},
    {"metadata": {"tags": ["a", "b"]}, "tags": ["c"]},
    {"metadata": None, "tags": None, "user": None, "timeout": None, "num_retries": None, "cache": None},
    {"user": "u" * 512, "timeout": 600, "num_retries": 2},
    {"timeout": 0.5, "num_retries": 0, "cache": {"no-cache": True, "no-store": False}},
    {"min_tokens": 5, "repeat_penalty": 1.1, "do_sample": True},
]
BAD: list[tuple[str, Any]] = [
    ("metadata", {"a": "x" * 20_000}),
    ("metadata", {"x": [{}] * 20_000}),
    ("metadata", "x"),
    ("metadata", {"tags": "a"}),
    ("metadata", {"tags": [{"a": 1}]}),
    ("tags", ["x"] * 33),
    ("tags", ["x" * 129]),
    ("tags", [""]),
    ("tags", {"a": 1}),
    ("user", "u" * 513),
    ("user", {"a": CANARY}),
    ("timeout", 601),
    ("timeout", 0),
    ("timeout", -1),
    ("timeout", "5"),
    ("timeout", True),
    ("timeout", {"read": 5}),
    ("num_retries", 3),
    ("num_retries", -1),
    ("num_retries", 1.0),
    ("num_retries", True),
    ("cache", {"no-cache": "yes"}),
    ("cache", {"use-cache": True}),
    ("cache", {"ttl": 5}),
    ("cache", {"no-cache": {"a": 1}}),
    ("cache", True),
    ("min_tokens", "5"),
    ("min_tokens", [5]),
    ("do_sample", {"a": 1}),
    ("model", {"a": CANARY}),
    ("model", [CANARY]),
    ("model", 7),
]


@pytest.mark.parametrize("body", GOOD, ids=str)
def test_the_few_that_stay_are_kept_as_they_are(body: dict[str, Any]) -> None:
    assert ask(body) == body


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda value: str(value)[:30])
def test_the_few_that_stay_are_bounded(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ask({name: value})
    assert str(refused.value.param).startswith(name)


def test_deep_metadata_costs_no_stack() -> None:
    deep: Any = "x"
    for _ in range(5_000):
        deep = [deep]
    for body in ({"metadata": {"a": deep}}, {"new": deep}):
        with pytest.raises(InvalidRequest):
            ask(body)


@pytest.mark.parametrize("name", ["messages", "input", "tools", "prompt"])
def test_messages_and_parts_are_bounded(name: str) -> None:
    entry: Any = {"role": "user", "content": "x"}
    for entries in ([entry] * (MAX_MESSAGES + 1), [{"role": "user", "content": ["x"] * 5}] * (MAX_PARTS // 5 + 1)):
        with pytest.raises(TooLarge):
            ask({name: entries}, "aresponses" if name == "input" else "acompletion")
        with pytest.raises(GovernanceError):
            ask({"extra_body": {name: entries}}, "aresponses" if name == "input" else "acompletion")
    if name != "prompt":
        assert ask({name: [entry] * MAX_MESSAGES}, "aresponses" if name == "input" else "acompletion")


def test_the_apis_own_fields_pass_untouched_on_their_routes() -> None:
    for call_type in CALL_TYPES.values():
        for name in names_of(call_type) - FEW - {"model", "conversation"}:
            assert ask({name: {"a": [CANARY]}}, call_type) == {name: {"a": [CANARY]}}
    assert ask({"client_metadata": {"session_id": "s"}}, "aresponses") == {"client_metadata": {"session_id": "s"}}
    # LiteLLM sends it on only there.
    assert ask({"conversation": "c"}, "aresponses") == {"extra_body": {"conversation": "c"}}
    assert ask({"conversation": None}, "aresponses") == {"conversation": None}


@pytest.mark.parametrize(
    ("call_type", "body"),
    [
        ("acompletion", {"messages": None}),
        ("acompletion", {"tools": [None]}),
        ("anthropic_messages", {"messages": ["a"]}),
        ("anthropic_messages", {"tool_choice": "auto"}),
        ("anthropic_messages", {"context_management": [{"type": "x"}]}),
        ("atext_completion", {"prompt": []}),
        ("atext_completion", {"prompt": ["a", None]}),
        ("atext_completion", {"messages": []}),
        ("atext_completion", {"top_logprobs": 2}),
        ("aimage_generation", {"stream": True}),
        ("aresponses", {"text_format": {"type": "text"}}),
    ],
    ids=str,
)
def test_what_litellm_would_break_on_is_told_by_name(call_type: str, body: dict[str, Any]) -> None:
    (name,) = body
    with pytest.raises(InvalidRequest, match=name):
        ask(body, call_type)


def test_an_object_that_is_null_is_left_out() -> None:
    assert ask({"web_search_options": None, "seed": None}, "acompletion") == {"seed": None}
    assert ask({"extra_body": {"web_search_options": None}}, "acompletion") == {}
