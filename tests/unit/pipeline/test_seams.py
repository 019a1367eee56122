"""What is cut over two parts is found in both; a name says what its number is; ordinary requests stay as they are."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tests.support.scanned import Scanned, chat, numbered, user

CARD, MAIL, PHONE = "4111 1111 1111 1111", "anna.kowalska@example.com", "+1 201 555 0123"
IBAN = "DE89 3704 0044 0532 0130 00"
TOKEN = "ghp_" + "Ab3dE6gH9" * 4
AROUND = "The quick brown fox jumps over the lazy dog. " * 7
PROSE = "The quick brown fox jumps over the lazy dog. " * 30


def words(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def parts(*texts: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text} for text in texts]


def tool(*texts: str) -> dict[str, Any]:
    return chat({"role": "tool", "tool_call_id": "call_1", "content": parts(*texts)})


def turns(*texts: str) -> dict[str, Any]:
    return chat(*({"role": "user", "content": text} for text in texts))


def result(*texts: str) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": "t", "content": parts(*texts)}
    return {"messages": [{"role": "user", "content": [block]}]}


def system(*texts: str) -> dict[str, Any]:
    return {"system": parts(*texts), "messages": [{"role": "user", "content": "x"}]}


def items(*texts: str) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": [{"type": "input_text", "text": text} for text in texts]}]}


SHAPES = {
    "parts": ("acompletion", user),
    "a tool's result": ("acompletion", tool),
    "messages of one role": ("acompletion", turns),
    "a result in a message": ("anthropic_messages", result),
    "the system prompt": ("anthropic_messages", system),
    "an item": ("aresponses", items),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("value", [CARD, MAIL, PHONE, IBAN])
def test_personal_data_is_masked_wherever_it_is_cut(shape: str, value: str) -> None:
    call_type, build = SHAPES[shape]
    for at in range(1, len(value), 1 if shape == "parts" else 5):
        first, second = value[:at], value[at:]
        given = build(f"{AROUND}Mine is {first}", f"{second} and no other. {AROUND}")
        asked = Scanned(call_type, given)
        assert asked.entities, at
        # Of an address, a word that could be any may stand in the open.
        assert f"is {first.rstrip()}" not in words(asked.body) or first.isalpha(), at
        assert f"{second.lstrip()} and" not in words(asked.body) or second.isalpha(), at
        assert asked.mask.unmask(words(asked.body)) == words(given)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_secret_is_found_wherever_it_is_cut(shape: str) -> None:
    call_type, build = SHAPES[shape]
    for at in (2, 4, 5, 20, len(TOKEN) - 1):
        assert "secrets" in Scanned(call_type, build(f"{PROSE}{TOKEN[:at]}", f"{TOKEN[at:]} {PROSE}")).screens


@pytest.mark.parametrize("value", [CARD, MAIL, TOKEN])
@pytest.mark.parametrize("size", [1, 7])
def test_many_small_parts_are_one_text(value: str, size: int) -> None:
    text = f"{AROUND} {value} {AROUND}"
    asked = Scanned("acompletion", user(*(text[at : at + size] for at in range(0, len(text), size))))
    assert asked.entities or asked.screens


def test_a_long_token_is_followed_beyond_the_window() -> None:
    token = "github_pat_" + "Ab3dE6gH9" * 26
    for at in (12, 120, 230):
        assert "secrets" in Scanned("acompletion", user(f"{PROSE} {token[:at]}", f"{token[at:]} {PROSE}")).screens


def test_what_one_part_holds_whole_takes_no_word_of_its_neighbour_with_it() -> None:
    asked = Scanned("acompletion", user("Please write to", f"{MAIL} or call", f"{PHONE}", "Thanks"))
    texts = [part["text"] for part in asked.body["messages"][0]["content"]]
    assert numbered(texts) == ["Please write to", "<EMAIL_ADDRESS_1> or call", "<PHONE_NUMBER_1>", "Thanks"]


def test_texts_of_different_people_are_not_joined() -> None:
    said = chat({"role": "user", "content": "4111 1111"}, {"role": "assistant", "content": " 1111 1111"})
    assert Scanned("acompletion", said).clean


def test_only_the_borders_are_read_again() -> None:
    """The scan reads each part once, then 256 characters at each end of a long one, with and without a blank."""
    for count in (2, 10, 100):
        asked = Scanned("acompletion", user(*[PROSE.strip()] * count))
        assert sum(len(each.text) for each in asked.joined) <= 2 * 2 * 260 * count
    assert not Scanned("acompletion", chat({"role": "user", "content": PROSE})).joined


ARGUMENTS = "call_mcp_tool"


def masked(value: Any) -> Any:
    return numbered(Scanned(ARGUMENTS, {"mcp_arguments": value}).body["mcp_arguments"])


@pytest.mark.parametrize("written", [f"4{'1' * 15}", f"4{'1' * 15}.0", f"4.{'1' * 15}e15", f"4{'1' * 15}E0"])
@pytest.mark.parametrize("path", ["number", "card", "x_new", "user_id"])
def test_a_card_is_found_however_json_writes_its_number(written: str, path: str) -> None:
    assert masked(json.loads(f'{{"{path}": [{{"a": [{written}]}}, {written}]}}')) == {
        path: [{"a": ["<CREDIT_CARD_1>"]}, "<CREDIT_CARD_1>"]
    }


@pytest.mark.parametrize(
    "name", ["phone", "phones", "phoneNumber", "customer_phone", "PHONE", "tel", "mobile-number", "cellPhone", "msisdn"]
)
@pytest.mark.parametrize("value", [2015550123, 2015550123.0, "2015550123", [2015550123]])
def test_a_name_says_that_its_number_is_a_telephones(name: str, value: Any) -> None:
    assert "2015550123" not in words(masked({name: value}))


def test_a_name_says_whose_number_it_is() -> None:
    assert "219099999" not in words(masked({"ssn": 219099999, "social_security_number": "219099999"}))
    assert "4222222222222" not in words(masked({"card_number": 4222222222222, "pan": 4222222222222}))


@pytest.mark.parametrize("field", ["messages", "tools", "metadata", "extra_body"])
def test_a_card_as_a_number_is_found_wherever_free_json_stands(field: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 4111111111111111}'}}
    bodies = {
        "messages": chat({"role": "assistant", "content": None, "tool_calls": [call]}),
        "tools": chat(tools=[{"name": "f", "parameters": {"default": 4111111111111111}}]),
        "metadata": chat(metadata={"a": 4111111111111111}),
        "extra_body": chat(extra_body={"new": {"a": 4111111111111111}}),
    }
    assert Scanned("acompletion", bodies[field]).entities == {"CREDIT_CARD"}


def test_a_card_as_a_number_is_found_in_fields_that_are_not_known_and_in_settings() -> None:
    message = {"role": "user", "content": "x", "new": 4111111111111111}
    asked = Scanned("acompletion", chat(message, seed=4111111111111111))
    assert "4111111111111111" not in words(asked.body)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAIL@", ("anna.kowalska@", "example.com")),
        ("@MAIL", ("anna", "@example.com")),
        ("CARD", ("4111 1111", "1111 1111")),
    ],
)
def test_personal_data_cut_over_a_name_and_its_value_is_masked(name: str, value: tuple[str, str]) -> None:
    assert value[1] not in words(masked({value[0]: value[1]})), name


@pytest.mark.parametrize("at", [3, 4, 9, 20, 39])
def test_a_secret_cut_over_a_name_and_its_value_is_found(at: int) -> None:
    assert "secrets" in Scanned(ARGUMENTS, {"mcp_arguments": {TOKEN[:at]: TOKEN[at:]}}).screens


def numbers() -> dict[str, Any]:
    """Return harmless numbers, under the names that they usually have."""
    draw = random.Random(5)
    return {
        "id": [draw.randrange(1 << 63) for _ in range(400)],
        "guild_id": [draw.randrange(10**17, 10**18) for _ in range(400)],
        "user_id": [draw.randrange(10**9, 10**10) for _ in range(400)],
        "call_id": 2015550123,
        "facebookId": [100_000_000_000_000 + draw.randrange(10**12) for _ in range(100)],
        "created_at": [draw.randrange(1_600_000_000_000, 1_800_000_000_000) for _ in range(400)],
        "started": [draw.randrange(1_600_000_000, 1_800_000_000) * 1_000_000_000 for _ in range(400)],
        "micros": [draw.randrange(1_600_000_000_000_000, 1_800_000_000_000_000) for _ in range(100)],
        "time": [draw.uniform(1.6e9, 1.8e9) for _ in range(100)],
        "price": [round(draw.uniform(0, 2e6), 2) for _ in range(400)],
        "lat": [draw.uniform(-90, 90) for _ in range(100)],
        "tokens": [draw.randrange(200_000) for _ in range(1_000)],
        "vector": [draw.gauss(0, 1) for _ in range(1_000)],
        "bytes": [draw.randrange(10**7, 10**11) for _ in range(100)],
        "telemetry": 2015550123,
        "ring_size": 2015550123,
        "panel": 1234567890,
        "phone_count": 2015550123,
        "box": [1024, 2048, 3000, 4000],
    }


def test_numbers_that_are_no_ones_stay_as_they_are() -> None:
    given = numbers()
    assert masked(given) == given


def test_ordinary_names_are_not_read_with_their_values() -> None:
    body = {"mcp_arguments": {"path": "/a/b", "old_string": "x y", "maxResults2": "7", "userId": "u_17", "URL": "http"}}
    assert not Scanned(ARGUMENTS, body).joined


@pytest.mark.parametrize(("name", "masks"), [("anything", True), ("note", True), ("id", False), ("created_at", False)])
def test_a_field_that_is_a_cards_number_is_one_unless_its_name_counts(name: str, masks: bool) -> None:
    assert ("4539578763621486" not in words(masked({name: 4539578763621486}))) is masks
