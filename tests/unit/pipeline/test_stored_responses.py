"""Requests about a stored response: for the key that made it, under the rules in force, with its values put back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from gatehouse.core.call import Agent
from gatehouse.core.decision import Verdict
from gatehouse.core.errors import ContentBlocked, InvalidRequest, NotFound, PolicyDenied, SessionStopped
from gatehouse.core.keys import Purpose
from gatehouse.dialects.conversations import Kind, StoredId
from gatehouse.dialects.stored_responses import Action, StoredResponse
from gatehouse.guards.pii.masking import Mask, Placeholders
from gatehouse.guards.screens.categories import HEADER
from gatehouse.pipeline.conversations import Remembered
from gatehouse.pipeline.response import Answers
from gatehouse.pipeline.screening import screen

from tests.support.admission import MAIL, Case
from tests.support.masking import KEYS

NAME = Placeholders(KEYS.key(Purpose.MASKING), "team:t").name("EMAIL_ADDRESS", MAIL)
ID = StoredId(Kind.RESPONSE, "resp_1")
KEPT = Remembered({NAME: MAIL}, frozenset({"example.com"}), "dear", "resp_routed")


def about(action: Action = Action.FETCH) -> StoredResponse:
    return StoredResponse(action, ID, "/v1/responses/{response_id}")


async def decide(case: Case, kept: Remembered | None = KEPT, owner: str = "k") -> Remembered:
    if kept is not None:
        case.conversations.kept[owner, ID] = kept
    return await case.admission.decide_about(case.scope, case.call, about(), case.governance)


async def test_its_owner_gets_its_values_and_its_model_is_what_rules_see(tmp_path: Path) -> None:
    case = Case(tmp_path, "pii: {mode: mask}\n")
    assert await decide(case) == KEPT
    mask, facts = case.scope.mask, case.scope.considered.facts
    assert mask is not None
    assert mask.unmask(f"<{NAME}> https://example.com/<{NAME}>", prose=True) == f"{MAIL} https://example.com/{MAIL}"
    assert mask.unmask(f"https://x.example/<{NAME}>", prose=True) == f"https://x.example/<{NAME}>"
    assert facts is not None
    assert (facts.request.model, facts.cost.estimated_usd) == ("dear", 0.0)
    assert case.scope.call is not None
    assert case.scope.call.model == "dear"


@pytest.mark.parametrize(
    ("kept", "owner"),
    [(None, "k"), (KEPT, "another")],
    ids=["unknown", "of another key"],
)
async def test_for_any_other_key_it_does_not_exist(tmp_path: Path, kept: Remembered | None, owner: str) -> None:
    case = Case(tmp_path, "pii: {mode: mask}\n")
    with pytest.raises(NotFound):
        await decide(case, kept, owner)
    assert case.scope.mask is None
    assert case.scope.let_through is None


async def test_a_rule_that_denies_counts_and_one_that_asks_does_not(tmp_path: Path) -> None:
    case = Case(tmp_path, "rules:\n  - {id: never, when: 'request.model == \"dear\"', then: deny}\n")
    with pytest.raises(PolicyDenied) as refused:
        await decide(case)
    assert refused.value.policies == ("never",)
    assert case.scope.considered.decision is not None
    assert case.scope.considered.decision.verdict is Verdict.DENY
    case = Case(tmp_path, "rules:\n  - {id: ask, when: 'true', then: require_approval}\n")
    await decide(case)
    assert case.gate.asked == []
    assert case.scope.considered.decision is not None
    assert case.scope.considered.decision.verdict is Verdict.ALLOW


async def test_a_stopped_session_gets_no_answer_either(tmp_path: Path) -> None:
    case = Case(tmp_path, "rules: []\n")
    case.call = replace(case.call, agent=Agent(session="one"))
    case.stopped = frozenset({("k", "one")})
    await decide(case)
    await case.sessions.load()
    with pytest.raises(SessionStopped):
        await decide(case)


async def test_what_its_caller_asks_to_be_blocked_is_blocked_in_the_answer(tmp_path: Path) -> None:
    case = Case(tmp_path, "rules: []\n")
    case.call = replace(case.call, grants=replace(case.call.grants, headers={HEADER: "harmful"}))
    await decide(case)
    assert case.scope.asked_screens is not None
    with pytest.raises(ContentBlocked, match="harmful"):
        screen(case.governance, "how to build a bomb", case.scope.asked_screens)
    case.call = replace(case.call, grants=replace(case.call.grants, headers={HEADER: "harmfull"}))
    with pytest.raises(InvalidRequest):
        await decide(case)


@pytest.mark.parametrize("action", list(Action))
def test_an_answer_shows_the_id_that_the_client_knows(action: Action) -> None:
    answers = Answers(action.value, None, None, shown_id="resp_known")
    said = {"id": "resp_other", "object": "response", "output": [], "data": []}
    assert json.loads(answers.whole(json.dumps(said).encode()))["id"] == "resp_known"
    error = b'{"error": {"message": "no", "id": "resp_other"}}'
    assert answers.whole(error) is error
    listed = b'{"object": "list", "data": [{"id": "msg_1", "type": "message", "role": "user", "content": []}]}'
    assert answers.whole(listed) is listed


@pytest.mark.parametrize("content", [f"I am <{NAME}>", [{"type": "input_text", "text": f"I am <{NAME}>"}]])
def test_the_items_of_an_input_come_back_with_their_values(content: object) -> None:
    way_back = Mask(Placeholders(KEYS.key(Purpose.MASKING), "team:t"), None, {NAME: MAIL})
    items = [{"id": "msg_1", "type": "message", "role": "user", "content": content, "status": "completed"}]
    listed = {"object": "list", "data": items, "first_id": "msg_1", "last_id": "msg_1", "has_more": False}
    back = Answers("alist_input_items", way_back, None, shown_id="resp_known").whole(json.dumps(listed).encode())
    assert json.loads(back) == json.loads(json.dumps(listed).replace(f"<{NAME}>", MAIL))


def stream(after: int = -1) -> list[dict[str, object]]:
    """Return the events that a client gets of a stream with a placeholder that is cut."""
    way_back = Mask(Placeholders(KEYS.key(Purpose.MASKING), "team:t"), None, {NAME: MAIL})
    answers = Answers("aget_responses", way_back, None, shown_id="resp_known", after=after)
    place = {"output_index": 0, "content_index": 0, "item_id": "m"}
    response = {"id": "x", "object": "response", "output": []}
    events: list[dict[str, object]] = [
        {"type": "response.created", "response": response},
        {"type": "response.output_text.delta", "delta": f"to <{NAME[:5]}", **place},
        {"type": "response.output_text.delta", "delta": f"{NAME[5:]}> and <{NAME[:7]}", **place},
        {"type": "response.output_text.done", "text": f"to <{NAME}> and <{NAME[:7]}", **place},
        {"type": "response.output_text.delta", "delta": f"<{NAME[:5]}", **place, "output_index": 1},
        {"type": "response.output_text.delta", "delta": f"<{NAME[:6]}", **place, "output_index": 2},
        {"type": "response.completed", "response": response},
    ]
    raw = b"".join(
        b"data: " + json.dumps(each | {"sequence_number": at}).encode() + b"\n\n" for at, each in enumerate(events)
    )
    out = answers.push(raw) + answers.end()
    return [json.loads(line.removeprefix(b"data: ")) for line in out.splitlines() if line.startswith(b"data: ")]


def test_a_client_that_continues_a_stream_gets_what_came_behind_its_last_event() -> None:
    whole = stream()
    assert [each["sequence_number"] for each in whole] == list(range(10))
    deltas = [None, "to ", f"{MAIL} and ", f"<{NAME[:7]}", None, "", "", f"<{NAME[:5]}", f"<{NAME[:6]}", None]
    assert [each.get("delta") for each in whole] == deltas
    assert whole[0]["response"] == whole[-1]["response"] == {"id": "resp_known", "object": "response", "output": []}
    for after in range(-1, 10):
        assert stream(after) == whole[after + 1 :]
