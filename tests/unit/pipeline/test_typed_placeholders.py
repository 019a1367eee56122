"""Text in the form of a placeholder neither gets a value nor hides one, whoever writes it, wherever it stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gatehouse.core.keys import Purpose
from gatehouse.guards.pii.masking import Placeholders

from tests.support.admission import MAIL, Case
from tests.support.masking import KEYS

PII = "pii: {mode: mask}\n"
OTHER = "grace@example.com"


def name_of(value: str, scope: str = "team:t", entity: str = "EMAIL_ADDRESS") -> str:
    return Placeholders(KEYS.key(Purpose.MASKING), scope).name(entity, value)


NAME = name_of(MAIL)
TOKEN = NAME.rpartition("_")[2]
FORMS = [f"<{NAME}>", NAME, NAME.lower(), f"[{NAME}]", f"**{NAME}**", NAME.replace("_", r"\_"), f"&lt;{NAME}&gt;"]


def places(text: str) -> dict[str, list[dict[str, Any]]]:
    """Return messages that hold a text, by where it stands."""
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": json.dumps({"to": text})}}
    asked = {"role": "assistant", "tool_calls": [call]}
    return {
        "a user's": [{"role": "user", "content": text}],
        "a part of one": [
            {"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "text", "text": text}]}
        ],
        "the system's": [{"role": "system", "content": f"Use {text}."}],
        "a model's": [{"role": "assistant", "content": text}],
        "a tool's arguments": [asked],
        "a tool's result": [asked, {"role": "tool", "tool_call_id": "call_1", "content": f"page says {text}"}],
        "a tool's JSON": [asked, {"role": "tool", "tool_call_id": "call_1", "content": json.dumps({"mail": [text]})}],
    }


async def sent(folder: Path, messages: list[dict[str, Any]]) -> Case:
    case = Case(folder, PII, messages=messages)
    await case.decide()
    return case


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", places(""))
@pytest.mark.parametrize("first", [True, False])
async def test_only_the_value_has_its_placeholder_where_somebody_writes_one(
    form: str, place: str, first: bool, tmp_path: Path
) -> None:
    written, real = places(form)[place], {"role": "user", "content": f"Write to {MAIL}!"}
    before = json.dumps(written)
    case = await sent(tmp_path, [real, *written] if first else [*written, real])
    assert case.scope.mask is not None
    messages = case.body["messages"]
    said = messages.pop(0 if first else -1)
    assert said["content"] == f"Write to <{NAME}>!"
    upstream = json.dumps(messages)
    assert TOKEN not in upstream.upper()
    # The model repeats all of it, and the caller reads what was written.
    assert case.scope.mask.unmask_json(upstream) == before
    assert case.scope.mask.unmask(f"to <{NAME}>") == f"to {MAIL}"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", places(""))
async def test_a_placeholder_of_a_value_that_the_call_does_not_hold_gets_nothing(
    form: str, place: str, tmp_path: Path
) -> None:
    """It is of another team, of another key, of an earlier turn, or of another entity."""
    for other in (name_of(MAIL, "team:u"), name_of(MAIL, "key:k"), name_of(OTHER), name_of(MAIL, entity="PERSON")):
        written = form.replace(TOKEN.lower(), other.rpartition("_")[2].lower()).replace(TOKEN, other.rpartition("_")[2])
        messages = [{"role": "user", "content": f"Write to {MAIL}!"}, *places(written)[place]]
        after = json.dumps(messages[1:])
        case = await sent(tmp_path, messages)
        assert case.scope.mask is not None
        assert json.dumps(case.body["messages"][1:]) == after
        assert case.scope.mask.unmask_json(after) == after


async def test_a_token_under_the_name_of_another_entity_gets_nothing(tmp_path: Path) -> None:
    written = f"<PHONE_NUMBER_{TOKEN}> <LITERAL_{TOKEN}> <_{TOKEN}> {TOKEN}"
    case = await sent(tmp_path, [{"role": "user", "content": f"{MAIL}"}, {"role": "user", "content": written}])
    assert case.scope.mask is not None
    assert MAIL not in case.scope.mask.unmask(written)


async def test_what_stands_for_a_typed_placeholder_can_be_typed_too(tmp_path: Path) -> None:
    """A caller who has seen what its text became sends that along the next time."""
    first = await sent(tmp_path, [{"role": "user", "content": f"{MAIL} <{NAME}>"}])
    literal = first.text.partition(" ")[2]
    assert literal.startswith("<LITERAL_")
    text = f"{MAIL} <{NAME}> {literal} {literal.lower()}"
    case = await sent(tmp_path, [{"role": "user", "content": text}])
    assert case.scope.mask is not None
    assert len({*case.text.split()}) == 4
    assert case.scope.mask.unmask(case.text) == text


async def test_another_spelling_and_its_placeholder_are_told_apart_from_the_plain_one(tmp_path: Path) -> None:
    loud = MAIL.upper()
    text = f"{MAIL} {loud} <{NAME}> <{name_of(loud)}>"
    case = await sent(tmp_path, [{"role": "user", "content": text}])
    assert case.scope.mask is not None
    assert case.text.startswith(f"<{NAME}> <{name_of(loud)}> <LITERAL_")
    assert case.scope.mask.unmask(case.text) == text


async def test_what_was_sent_before_stays_the_same_while_new_people_and_typed_placeholders_come(tmp_path: Path) -> None:
    """A provider's prompt cache matches on the bytes of the earlier messages; here each turn is a gateway's first."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": f"You work for {MAIL}."}]
    before: list[str] = []
    for turn in range(30):
        mail = f"person{turn}@example.com"
        messages += [
            {"role": "user", "content": f"Write to {mail}! Not to {mail.title()}, nor <{name_of(mail)}>."},
            {"role": "assistant", "content": f"I wrote to {mail}, as {MAIL} said: {NAME.lower()}."},
        ]
        case = await sent(tmp_path, json.loads(json.dumps(messages)))
        now = [json.dumps(each) for each in case.body["messages"]]
        assert now[: len(before)] == before
        assert "person" not in json.dumps(now)
        before = now
