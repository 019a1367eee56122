"""The egress check passes what was admitted, as LiteLLM writes it, and nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from gatehouse.dialects.admitted import Admitted
from gatehouse.dialects.canonical import CallerNames, CanonicalRequest, canonical_request
from gatehouse.gateway.egress import Difference, admitted, check

NOTES = frozenset("api_base api_key".split())
DEPLOYMENT = {"model": "openai/gpt-4o", "api_base": "http://one", "api_key": "k" * 20}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CHAT: dict[str, Any] = {
    "model": "openai/gpt-4o",
    "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "Say it"}, {"type": "text", "text": " twice. "}]},
        {"role": "tool", "tool_call_id": "t", "content": '{"note": "a \\"warm\\" day", "city": "Genoa"}'},
    ],
    "tools": [WEATHER],
    "max_tokens": 100,
    "n": 2,
}


def of(
    body: dict[str, Any] = CHAT, call_type: str = "acompletion", top_level: dict[str, bool] | None = None
) -> Admitted:
    return admitted(read(body, call_type), body, top_level or {})


def read(body: dict[str, Any], call_type: str = "acompletion") -> CanonicalRequest:
    return canonical_request(call_type, body, CallerNames.of(body), lambda name: name in NOTES)


def differs(
    kwargs: dict[str, Any],
    call_type: str = "acompletion",
    known: Admitted | None = None,
    configured: dict[str, Any] | None = DEPLOYMENT,
) -> Difference | None:
    return check(known or of(), call_type, kwargs, configured)


def place(kwargs: dict[str, Any], call_type: str = "acompletion", **options: Any) -> str | None:
    found = differs(kwargs, call_type, **options)
    return found.place if found else None


def test_what_litellm_sends_on_only_below_is_compared_there() -> None:
    body = {"model": "openai/gpt-4o", "input": "hello", "extra_body": {"conversation": "conv_1"}}
    known = of(body, "aresponses")
    assert differs(body | DEPLOYMENT, "aresponses", known=known) is None
    for below in ({"conversation": "conv_2"}, {"conversation": {"id": "conv_1"}}, {"input": "hello"}):
        assert place(body | DEPLOYMENT | {"extra_body": below}, "aresponses", known=known) == "extra_body"


def says(text: str) -> list[dict[str, Any]]:
    return [*CHAT["messages"], {"role": "user", "content": text}]


def test_what_was_admitted_may_leave_with_what_litellm_puts_beside_it() -> None:
    notes = {"litellm_call_id": "x", "metadata": {"user_api_key_alias": "somebody", "deep": [object()]}}
    assert differs(CHAT | DEPLOYMENT | notes | {"_a_note_of_next_year": object(), "timeout": 6.0}) is None


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"messages": says("something else")}, ("text", "messages[3].content")),
        ({"messages": says("kind.")}, ("text", "messages[3].content")),
        ({"messages": says("Say it twice.")}, ("text", "messages[3].content")),
        ({"suffix": "something else"}, ("text", "suffix")),
        ({"input": ["something else"]}, ("text", "input[0]")),
        ({"instructions": "something else"}, ("text", "instructions")),
        ({"litellm_system_prompt": "something else"}, ("text", "litellm_system_prompt")),
        ({"stop": ["something else"]}, ("text", "stop[0]")),
        ({"extra_body": {"new": "something else"}}, ("text", "extra_body.new(name)")),
        ({"messages": [{"role": "oracle", "content": "Be kind."}]}, ("shape", "messages[0].role")),
        ({"tools": [{"type": "function", "function": {"name": "weather"}}]}, ("tools", "tools")),
        ({"functions": [{"name": "weather"}]}, ("tools", "tools")),
        ({"max_tokens": 101}, ("limits", "max_tokens")),
        ({"max_completion_tokens": 101}, ("limits", "max_tokens")),
        ({"max_tokens": None}, ("limits", "max_tokens")),
        ({"max_tokens": 0}, ("limits", "max_tokens")),
        ({"max_tokens": "many"}, ("limits", "max_tokens")),
        ({"n": 3}, ("limits", "n")),
        ({"best_of": 3}, ("limits", "n")),
        ({"extra_body": {"max_tokens": 1}}, ("extra_body", "extra_body.max_tokens")),
        ({"extra_body": {"messages": CHAT["messages"]}}, ("extra_body", "extra_body.messages")),
        ({"extra_body": ["Be kind."]}, ("shape", "extra_body")),
        ({"model": "openai/gpt-5"}, ("deployment", "model")),
        ({"api_base": "http://two"}, ("deployment", "api_base")),
        ({"api_key": "another"}, ("deployment", "api_key")),
        ({"custom_llm_provider": "deepseek"}, ("deployment", "custom_llm_provider")),
        ({"additional_drop_params": ["max_tokens"]}, ("deployment", "additional_drop_params")),
        ({"extra_headers": {"authorization": "x"}}, ("deployment", "extra_headers")),
    ],
)
def test_what_was_not_admitted_is_named_by_its_place(change: dict[str, Any], where: tuple[str, str]) -> None:
    assert differs(CHAT | DEPLOYMENT | change) == Difference(*where)


@pytest.mark.parametrize(
    "change", [{"max_tokens": 5}, {"max_completion_tokens": 100}, {"n": 1}, {"tools": []}, {"n": None}]
)
def test_less_than_was_admitted_may_leave(change: dict[str, Any]) -> None:
    assert differs(CHAT | change) is None


def test_what_a_router_asks_about_a_chat_has_no_length() -> None:
    assert differs({"model": "openai/e", "input": ["Be kind."]}, "aembedding") is None
    assert place({"model": "openai/e", "input": ["something else"]}, "aembedding") == "text"
    assert place({"model": "m", "messages": []}, "anthropic_messages") == "limits"


def test_a_call_without_a_bound_may_get_the_operators() -> None:
    unbounded = {name: value for name, value in CHAT.items() if name != "max_tokens"}
    assert differs(unbounded | {"max_tokens": 4096}, known=of(unbounded)) is None


def test_no_name_that_the_caller_said_and_no_api_has_is_left() -> None:
    top_level = {"messages": False, "user": False, "drop_params": True, "num_predict": True, "seed": False}
    known = admitted(read(CHAT), CHAT, top_level, frozenset({"num_predict"}))
    assert known.forbidden == {"drop_params"}
    assert check(known, "acompletion", CHAT | {"drop_params": True}, DEPLOYMENT) == Difference(
        "controls", "drop_params"
    )
    assert check(known, "acompletion", CHAT | {"num_predict": 5, "seed": "x"}, DEPLOYMENT) is None
    text = admitted(read(CHAT), CHAT, {"num_predict": False}, frozenset({"num_predict"}))
    assert check(text, "acompletion", CHAT | {"num_predict": 5}, DEPLOYMENT) == Difference("controls", "num_predict")


def test_what_the_operator_has_a_deployment_add_may_leave() -> None:
    tool = {"type": "function", "function": {"name": "house_rules", "description": "As the house has it"}}
    added = {"tools": [tool], "extra_body": {"thinking": {"type": "on"}, "guide": "by the book"}, "drop_params": True}
    kwargs = CHAT | added | {"tools": [tool, WEATHER]}
    assert differs(kwargs, configured=DEPLOYMENT | added) is None
    assert place(kwargs) == "extra_body"
    assert place(kwargs | {"extra_body": None, "drop_params": None}) == "tools"
    assert place(kwargs | {"extra_body": {"thinking": {"type": "off"}}}, configured=DEPLOYMENT | added) == "extra_body"


def test_what_litellm_had_put_there_before_the_call_was_admitted_may_leave() -> None:
    headers = {
        "provider_specific_header": {"custom_llm_provider": "anthropic", "extra_headers": {"anthropic-beta": "x"}}
    }
    known = of(CHAT | headers)
    assert differs(CHAT | headers, known=known) is None
    assert place(CHAT | {"provider_specific_header": {"extra_headers": {}}}, known=known) == "deployment"
    assert place(CHAT | headers, known=of(CHAT | headers, top_level={"provider_specific_header": False})) == "controls"


@pytest.mark.parametrize(
    ("configured", "model", "fits"),
    [
        ("openai/*", "openai/gpt-4o", True),
        ("openai/*", "deepseek/gpt-4o", False),
        ("openai/gpt-4o", "openai/gpt-4o-mini", False),
        ("bedrock/meta.llama3*", "bedrock/meta.llama3-70b", True),
        ("openai/gpt.4o", "openai/gpt-4o", False),
    ],
)
def test_the_model_is_the_configured_one_or_fits_its_pattern(configured: str, model: str, fits: bool) -> None:
    assert (differs(CHAT | {"model": model}, configured={"model": configured}) is None) is fits


def test_a_deployment_that_the_operator_does_not_have_is_none() -> None:
    assert place(CHAT, configured=None) == "deployment"


@pytest.mark.parametrize("call_type", [None, "", "a_call_of_next_year", "avideo_generation"])
def test_a_call_that_is_not_understood_does_not_leave(call_type: Any) -> None:
    assert place(CHAT, call_type) == "shape"


def translated(*items: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "input": list(items), "max_output_tokens": 100, **fields}


def told(output: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": "t", "output": output}


@pytest.mark.parametrize(
    "kwargs",
    [
        translated({"role": "user", "content": "Say it"}),
        translated(instructions="Be kind. Say it\n twice. "),
        translated(told("Say ittwice.")),
        translated(told("Say it\n[Tool returned an image - see the following user message]")),
        translated(told([{"type": "input_text", "text": CHAT["messages"][2]["content"]}])),
        translated({"type": "function_call", "call_id": "t", "name": "weather", "arguments": '{"city":"Genoa"}'}),
        translated({"type": "function_call", "call_id": "t", "name": "weather", "arguments": '{"content":"Say it"}'}),
        translated({"type": "custom_tool_call", "call_id": "t", "name": "weather", "input": "Be kind"}),
    ],
)
def test_a_translated_call_says_what_was_admitted_in_other_ways(kwargs: dict[str, Any]) -> None:
    assert differs(kwargs, "aresponses") is None
    assert place(kwargs, "acompletion") in ("text", "limits", "deployment")


@pytest.mark.parametrize(
    "kwargs",
    [
        translated({"role": "user", "content": "something else"}),
        translated(instructions="Be kind. something else"),
        translated(instructions="Be kind.\nSay it else"),
        translated(told(" twice. Say it")),  # not in their order
        translated(told("Say it Say it")),  # one of them twice
        translated(told('{"note": "a cold day"}')),
        translated({"type": "function_call", "call_id": "t", "name": "weather", "arguments": '{"city":"Paris"}'}),
        translated({"type": "function_call", "call_id": "t", "name": "wire", "arguments": "{}"}),
        translated(max_output_tokens=101),
        translated(max_output_tokens=None),
        translated(extra_body={"messages": []}),
    ],
)
def test_a_translated_call_says_nothing_else(kwargs: dict[str, Any]) -> None:
    assert differs(kwargs, "aresponses") is not None


def test_a_tools_name_that_is_too_long_may_be_cut() -> None:
    name = "look_up_the_weather_of_a_town_by_its_name_in_the_language_of_its_people"
    tool = {"name": name, "input_schema": {"type": "object"}}
    body = {"messages": [], "tools": [tool], "max_tokens": 5}
    cut = {"type": "function", "function": {"name": f"{name[:55]}_0123abcd", "parameters": {"type": "object"}}}
    known = of(body, "anthropic_messages")
    assert differs({"messages": [], "tools": [cut], "max_tokens": 5}, known=known) is None
    cut["function"] = {"name": f"{'x' * 55}_0123abcd"}
    assert place({"messages": [], "tools": [cut], "max_tokens": 5}, known=known) == "text"


def test_many_texts_that_are_joined_take_time_in_proportion() -> None:
    """The conversation is hostile: each of many results has many equal parts, which another API joins."""

    def steps(results: int) -> int:
        says = [[f"Result {n}:", *["a", "b"] * 20] for n in range(results)]
        blocks = [
            {
                "type": "tool_result",
                "tool_use_id": f"t{n}",
                "content": [{"type": "text", "text": text} for text in texts],
            }
            for n, texts in enumerate(says)
        ]
        body = {"messages": [{"role": "user", "content": blocks}], "max_tokens": 5}
        items = [told("\n".join(texts)) for texts in says]
        known, count = of(body, "anthropic_messages"), 0

        class Counted(str):
            __slots__ = ()

            def startswith(self, *args: Any) -> bool:
                nonlocal count
                count += 1
                return super().startswith(*args)

        for item in items:
            item["output"] = Counted(item["output"])
        assert differs({"input": items, "max_output_tokens": 5}, "aresponses", known=known) is None
        return count

    assert steps(200) < 25 * steps(10)


def test_a_tools_name_that_is_cut_is_found_among_many() -> None:
    names = [f"{n:04}" + "n" * 80 for n in range(4_000)]
    body = {"messages": [], "tools": [{"name": name, "input_schema": {}} for name in names], "max_tokens": 5}
    cut = [{"type": "function", "function": {"name": f"{name[:55]}_0123abcd"}} for name in names]
    known = of(body, "anthropic_messages")
    assert differs({"messages": [], "tools": cut, "max_tokens": 5}, known=known) is None


HOSTILE: dict[str, Callable[[int], tuple[list[str], list[str]]]] = {
    "no text is a part of another": lambda n: ([f"{k} known" for k in range(n)], [f"not {k}" for k in range(n)]),
    "all begin alike": lambda n: (["a" * (k % 50 + 1) for k in range(n)], ["a" * 60 + f" {k}" for k in range(n)]),
    "words without end": lambda n: ([f"_ {k}" for k in range(n)] + ["_"] * n, ["__" * n + "x"] * 5),
    "blanks without end": lambda n: ([f"a{k}" for k in range(n)] + ["a"] * n, ["a" + " " * n + "x"] * 5),
    "long ones": lambda n: (["x" * 100 * n], [f"{'x' * 50}{k}" for k in range(n)]),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_spent_on_texts_that_were_not_admitted_is_bounded(kind: str) -> None:
    def cpu_s(count: int) -> float:
        said, now = HOSTILE[kind](count)
        blocks = [{"type": "text", "text": text} for text in said]
        known = of({"messages": [{"role": "user", "content": blocks}], "max_tokens": 5}, "anthropic_messages")
        items = [{"role": "user", "content": text} for text in now]
        begun = time.thread_time()
        assert differs({"input": items, "max_output_tokens": 5}, "aresponses", known=known) is not None
        return time.thread_time() - begun

    # Eight times as much; work for each pair of texts would be 64 times as much.
    assert cpu_s(8_000) < 20 * max(cpu_s(1_000), 0.1)


def test_nothing_of_a_text_is_in_what_is_said_of_it() -> None:
    secret = "ada.lovelace@example.com"
    for change in (
        {"messages": says(secret)},
        {"extra_body": {secret: secret}},
        {"tools": [{"type": "function", "function": {"name": secret}}]},
        {"metadata": {}, "stop": secret, secret: secret},
    ):
        assert secret not in json.dumps(str(differs(CHAT | change)))


@pytest.mark.parametrize(
    "said",
    [
        {"cache_control": {"type": "ephemeral"}},
        {"speed": "fast"},
        {"betas": ["auto"]},
        {"compaction": {"type": "auto", "trigger_tokens": 5}},
    ],
    ids=lambda said: next(iter(said)),
)
def test_words_and_fields_of_the_callers_api_may_stand_beside_the_translation(said: dict[str, Any]) -> None:
    asked = {"model": "up", "max_tokens": 9, "messages": [{"role": "user", "content": "Say it"}], **said}
    known = of(asked, "anthropic_messages")
    translated = {"model": "openai/gpt-4o", "input": "Say it", "max_output_tokens": 9, **said}
    assert place(translated, "aresponses", known=known) is None
    for hidden in ({"speed": "something else"}, {"compaction": {"something else": 1}}):
        assert place(translated | hidden, "aresponses", known=known) == "text"


THOUGHT = 'I think "twice"\nof it.'
SIGNED = {"type": "thinking", "thinking": THOUGHT, "signature": "c2ln"}
ASKED = {
    "type": "tool_use",
    "id": "t",
    "name": "weather",
    "input": {},
    "provider_specific_fields": {"signature": "Z2Vt"},
}


@pytest.mark.parametrize(
    ("call_type", "said"),
    [
        ("anthropic_messages", {"messages": [{"role": "assistant", "content": [SIGNED, ASKED]}]}),
        (
            "aresponses",
            {
                "input": [
                    {"type": "reasoning", "summary": [], "encrypted_content": json.dumps([SIGNED])},
                    {"type": "function_call", "call_id": "t", "name": "weather", "arguments": "{}"},
                ]
            },
        ),
    ],
)
def test_signed_parts_may_leave_where_chat_has_them(call_type: str, said: dict[str, Any]) -> None:
    known = of({"model": "openai/gpt-4o", **said}, call_type)
    function = {"name": "weather", "arguments": "{}", "provider_specific_fields": {"thought_signature": "Z2Vt"}}
    message = {
        "role": "assistant",
        "thinking_blocks": [SIGNED],
        "reasoning_content": THOUGHT,
        "tool_calls": [{"id": "t", "type": "function", "function": function}],
    }
    kwargs = {"model": "openai/gpt-4o", "messages": [message], **DEPLOYMENT}
    assert differs(kwargs, "acompletion", known=known) is None
    message["thinking_blocks"] = [SIGNED | {"thinking": "Another thought."}]
    assert place(kwargs, "acompletion", known=known) == "text"
