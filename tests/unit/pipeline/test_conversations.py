"""What is kept of a conversation that the provider stores, and what the next turn makes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from gatehouse.core.errors import GovernanceUnavailable, PlaceholdersCollide
from gatehouse.core.keys import InstallationKeys, Purpose
from gatehouse.dialects.conversations import Kind, ReadId, StoredId
from gatehouse.guards.pii.masking import Placeholders
from gatehouse.pipeline.conversations import NOTHING, Conversations, Remembered, _merged, opened, sealed
from gatehouse.pipeline.pipeline import Pipeline
from gatehouse.pipeline.response import Answers

from tests.support.admission import MAIL, Case
from tests.support.masking import KEYS

PII = "pii: {mode: mask}\n"
OTHER = "grace@example.com"
_PLACEHOLDERS = Placeholders(KEYS.key(Purpose.MASKING), "team:t")
NAME, OTHER_NAME = (_PLACEHOLDERS.name("EMAIL_ADDRESS", each) for each in (MAIL, OTHER))
BEFORE = StoredId(Kind.RESPONSE, "resp_1")
KNOWN = Remembered({NAME: MAIL}, frozenset({"example.com"}))


def test_what_is_kept_is_read_with_its_own_key_and_in_its_own_row_alone() -> None:
    old, new = InstallationKeys("a" * 32), InstallationKeys("b" * 32, "a" * 32)
    key = old.key(Purpose.CONVERSATIONS)
    kept = sealed(key, b"row", KNOWN)
    assert MAIL.encode() not in kept
    assert kept != sealed(key, b"row", KNOWN)
    assert opened(old, b"row", key.epoch, kept) == opened(new, b"row", key.epoch, kept) == KNOWN
    assert opened(InstallationKeys("b" * 32), b"row", key.epoch, kept) == NOTHING
    assert opened(old, b"another", key.epoch, kept) == NOTHING
    assert opened(old, b"row", key.epoch, kept[:-1] + bytes([kept[-1] ^ 1])) == NOTHING
    assert opened(old, b"row", key.epoch, b"") == NOTHING


@pytest.mark.parametrize("value", ["\ud800", 'a"\\\n\x00', "日本", "😀"])
def test_any_value_comes_back(value: str) -> None:
    key = KEYS.key(Purpose.CONVERSATIONS)
    known = Remembered({"X_00000000": value})
    assert opened(KEYS, b"", key.epoch, sealed(key, b"", known)) == known


def test_what_several_rows_hold_is_one_unless_they_disagree() -> None:
    other = Remembered({OTHER_NAME: OTHER}, frozenset({"b"}))
    both = _merged([KNOWN, other, KNOWN])
    assert both == Remembered({NAME: MAIL, OTHER_NAME: OTHER}, frozenset({"example.com", "b"}))
    with pytest.raises(PlaceholdersCollide):
        _merged([KNOWN, Remembered({NAME: OTHER})])


def turn(folder: Path, text: str, policy: str = PII, **fields: Any) -> Case:
    """Return a call that continues what its own key has said in `resp_1`."""
    case = Case(folder, policy, text, call_type="aresponses", previous_response_id="resp_1", **fields)
    case.conversations.kept["k", BEFORE] = KNOWN
    return case


async def test_a_turn_knows_the_values_of_the_turns_before_it(tmp_path: Path) -> None:
    case = turn(tmp_path, f"and {OTHER}")
    await case.decide()
    mask = case.scope.mask
    assert mask is not None
    assert case.text == f"and <{OTHER_NAME}>"
    assert mask.unmask(f"<{NAME}> <{OTHER_NAME}>") == f"{MAIL} {OTHER}"


async def test_a_turn_without_findings_knows_them_too(tmp_path: Path) -> None:
    for policy in (PII, ""):
        case = turn(tmp_path, "Who am I?", policy, store=False)
        await case.decide()
        assert case.scope.mask is not None
        assert case.scope.mask.unmask(f"<{NAME}>") == MAIL
        assert case.text == "Who am I?"


async def test_a_placeholder_that_the_caller_types_is_no_way_to_a_value(tmp_path: Path) -> None:
    case = turn(tmp_path, f"<{NAME}>")
    await case.decide()
    assert case.text.startswith("<LITERAL_")
    assert case.scope.mask is not None
    assert case.scope.mask.unmask(case.text) == f"<{NAME}>"


@pytest.mark.parametrize("owner", ["another", None])
async def test_another_key_knows_nothing(tmp_path: Path, owner: str | None) -> None:
    case = turn(tmp_path, "Who am I?")
    case.conversations.kept = {(str(owner), BEFORE): KNOWN}
    await case.decide()
    assert case.scope.mask is not None
    assert case.scope.mask.unmask(f"<{NAME}>") == f"<{NAME}>"


async def test_hosts_that_earlier_turns_named_stay_named(tmp_path: Path) -> None:
    link = f"https://example.com/?to=<{NAME}>"
    case = turn(tmp_path, "Who am I?")
    await case.decide()
    assert case.scope.mask is not None
    assert MAIL in case.scope.mask.unmask(link, prose=True)
    case = turn(tmp_path, "Who am I?", "pii: {mode: mask, unmask_links: none}\n")
    await case.decide()
    assert case.scope.mask is not None
    assert case.scope.mask.unmask(link, prose=True) == link


async def test_where_the_conversation_cannot_be_looked_up_nothing_is_sent(tmp_path: Path) -> None:
    case = turn(tmp_path, "Who am I?")
    case.conversations.away = True
    with pytest.raises(GovernanceUnavailable):
        await case.decide()


@pytest.mark.parametrize(
    ("policy", "fields", "days"),
    [
        (PII, {}, 30),
        ("", {}, 30),
        ("pii: {mode: mask, remember: 2d}\n", {}, 2),
        ("pii: {mode: mask, remember: off}\n", {}, None),
        (PII, {"store": False}, None),
        (PII, {"store": False, "conversation": "conv_1"}, 30),
    ],
)
async def test_what_the_provider_stores_is_remembered_as_long_as_the_policy_says(
    tmp_path: Path, policy: str, fields: dict[str, Any], days: int | None
) -> None:
    case = Case(tmp_path, policy, MAIL, call_type="aresponses", **fields)
    await case.decide()
    stored = case.scope.stored
    assert (stored and stored.lifetime_s) == (days and days * 86_400)


# --- before the caller reads the answer's id, it is kept


def pipeline(case: Case) -> Pipeline:
    known: Any = (None, lambda: case.governance, case.gate, case.prices, KEYS, case.conversations)
    parts: Any = (*known, lambda _: False, case.sessions)
    return Pipeline(*parts)


ITEM = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
ANSWER = {"object": "response", "id": "resp_2", "output": [ITEM]}
MADE = StoredId(Kind.RESPONSE, "resp_2")
MADE_ITEM = StoredId(Kind.ITEM, "msg_1")


def event(kind: str, **fields: Any) -> bytes:
    return b"data: " + json.dumps({"type": f"response.{kind}", **fields}).encode() + b"\n\n"


async def test_an_answer_is_kept_with_the_values_of_the_whole_conversation(tmp_path: Path) -> None:
    case = turn(tmp_path, f"and {OTHER} of https://other.example")
    await case.decide()
    answers = pipeline(case).answers(case.scope)
    assert answers is not None
    answers.whole(json.dumps(ANSWER).encode())
    await pipeline(case).keep(case.scope, answers)
    known = Remembered({NAME: MAIL, OTHER_NAME: OTHER}, frozenset({"example.com", "other.example"}), "m")
    assert case.conversations.kept == {
        ("k", BEFORE): KNOWN,
        ("k", MADE): known,
        ("k", MADE_ITEM): known,
    }


async def test_a_stream_is_kept_at_its_first_event_and_its_items_at_its_end(tmp_path: Path) -> None:
    case = turn(tmp_path, "hello")
    await case.decide()
    answers = pipeline(case).answers(case.scope)
    assert answers is not None
    case.conversations.kept.clear()

    async def kept(*pieces: bytes) -> set[str]:
        for piece in pieces:
            answers.push(piece)
            await pipeline(case).keep(case.scope, answers)
        return {id_.id for _, id_ in case.conversations.kept}

    created = event("created", response=ANSWER | {"output": []})
    assert await kept(created[:20]) == set()
    assert await kept(created[20:]) == {"resp_2"}
    assert await kept(event("output_item.added", output_index=0, item=ITEM)) == {"resp_2"}
    assert await kept(event("completed", response=ANSWER)) == {"resp_2", "msg_1"}


async def test_a_stream_that_breaks_off_keeps_what_it_named(tmp_path: Path) -> None:
    case = turn(tmp_path, "hello")
    await case.decide()
    answers = pipeline(case).answers(case.scope)
    assert answers is not None
    answers.push(event("created", response=ANSWER | {"output": []}))
    await pipeline(case).keep(case.scope, answers)
    answers.push(event("output_item.added", output_index=0, item=ITEM))
    answers.end()
    await pipeline(case).keep(case.scope, answers)
    assert ("k", MADE_ITEM) in case.conversations.kept


async def test_an_answer_that_cannot_be_kept_is_passed_on_and_not_tried_again(tmp_path: Path) -> None:
    case = turn(tmp_path, "hello")
    await case.decide()
    case.conversations.away = True
    answers = pipeline(case).answers(case.scope)
    assert answers is not None
    answers.push(event("created", response=ANSWER | {"output": []}))
    await pipeline(case).keep(case.scope, answers)
    assert case.scope.stored is None


@pytest.mark.parametrize("call_type", ["acompletion", "anthropic_messages"])
def test_other_answers_name_nothing_that_is_stored(call_type: str) -> None:
    answers = Answers(call_type, None, None)
    answers.whole(b'{"id": "resp_1", "object": "response", "choices": [], "content": [], "output": []}')
    assert answers.ids_due(first=True) == []


async def test_an_id_that_names_another_deployment_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = replace(KNOWN, routed="here:resp_1")
    store = Conversations(cast(Any, None), KEYS, lambda id_: ReadId(id_.id, "resp_1"))

    async def recall(owner: str | None, ids: Any) -> Remembered:
        return kept

    monkeypatch.setattr(store, "recall", recall)
    assert await store.find("k", StoredId(Kind.RESPONSE, "here:resp_1")) == kept
    assert await store.find("k", StoredId(Kind.RESPONSE, "there:resp_1")) is None


async def test_nothing_is_looked_up_for_no_key_and_for_no_id() -> None:
    store = Conversations(cast(Any, None), KEYS, lambda id_: ReadId(id_.id, id_.id))
    assert await store.recall(None, [BEFORE]) is None
    assert await store.recall("k", []) is None


@pytest.mark.parametrize("secrets", [("a" * 32,), ("b" * 32, "a" * 32)])
def test_what_is_kept_is_found_with_the_id_and_its_owner_alone(secrets: tuple[str, ...]) -> None:
    def hashes(*secrets: str, owner: str = "k", id_: StoredId = BEFORE) -> set[bytes]:
        store = Conversations(cast(Any, None), InstallationKeys(*secrets), lambda id_: ReadId("", id_.id))
        return set(store._asked(owner, [id_]))

    (kept,) = hashes("a" * 32)
    assert kept in hashes(*secrets)
    assert kept not in hashes(*secrets, owner="another")
    assert kept not in hashes(*secrets, id_=StoredId(Kind.RESPONSE, "resp_2"))
    assert kept not in hashes(*secrets, id_=StoredId(Kind.ITEM, "resp_1"))
    assert kept not in hashes("c" * 32)
