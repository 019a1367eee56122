"""A conversation that the provider stores gets its own people back, turn by turn, and gives them to no other key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from openai import OpenAI

from tests.support.gateway import Gateway
from tests.support.stored_responses import StoredResponses
from tests.support.upstream import Upstream

PEOPLE = [f"{name}@example.com" for name in ("ada", "grace", "margaret")]
_MAIL = re.compile(r"<EMAIL_ADDRESS_\w+>|[\w.]+@example\.com")


def repeats(text: str) -> str:
    """Answer with every address that the conversation has named so far, in the order in which they came."""
    return "They are " + ", ".join(dict.fromkeys(_MAIL.findall(text))) + "."


@pytest.fixture
def stored(upstream: Upstream) -> Iterator[StoredResponses]:
    upstream.stored, upstream.says = StoredResponses(), repeats
    return upstream.stored


def of_key(gateway: Gateway, key: str) -> OpenAI:
    return OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0)


def in_team(gateway: Gateway) -> tuple[str, str]:
    """Make two keys of one team."""
    with gateway.client() as client:
        team = client.post("/team/new", json={"team_alias": f"t-{gateway.new_key()[-8:]}"}).json()["team_id"]
    return gateway.new_key(team_id=team), gateway.new_key(team_id=team)


def says(client: OpenAI, text: Any, *, stream: bool = False, **fields: Any) -> tuple[str, str]:
    """Say something; return the answer's id and text."""
    if not stream:
        answer = client.responses.create(model="up-chat", input=text, **fields)
        return answer.id, answer.output_text
    with client.responses.create(model="up-chat", input=text, stream=True, **fields) as events:
        last = [event for event in events if event.type == "response.completed"][-1]
    return last.response.id, last.response.output_text


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("by", ["previous_response_id", "conversation"])
def test_three_people_stay_three_people_over_turns_that_are_not_sent_again(
    governed: Gateway, upstream: Upstream, stored: StoredResponses, by: str, stream: bool
) -> None:
    with of_key(governed, governed.new_key()) as client:
        link: dict[str, Any] = {"conversation": "conv_1"} if by == "conversation" else {}
        for turn, person in enumerate(PEOPLE):
            id_, text = says(client, f"There is {person}, too.", stream=stream, **link)
            assert text == "They are " + ", ".join(PEOPLE[: turn + 1]) + "."
            if by == "previous_response_id":
                link = {by: id_}
        _, text = says(client, "Who are they?", stream=stream, **link)
        assert text == "They are " + ", ".join(PEOPLE) + "."
    assert not any(person in upstream.received for person in PEOPLE)


def test_a_colleague_of_the_same_team_gets_nothing_back(
    governed: Gateway, upstream: Upstream, stored: StoredResponses
) -> None:
    mine, theirs = in_team(governed)
    with of_key(governed, mine) as me, of_key(governed, theirs) as colleague:
        id_, _ = says(me, f"I am {PEOPLE[0]}.", conversation="conv_1")
        (placeholder,) = set(re.findall(r"<EMAIL_ADDRESS_\w+>", upstream.received))
        for link in ({"previous_response_id": id_}, {"conversation": "conv_1"}, {}):
            _, text = says(colleague, f"Who is {placeholder}?", **link)
            assert placeholder in text
            assert PEOPLE[0] not in text
        assert PEOPLE[0] in says(me, "Who am I?", previous_response_id=id_)[1]


def test_an_item_that_is_only_named_brings_its_own_values(governed: Gateway, stored: StoredResponses) -> None:
    with of_key(governed, governed.new_key()) as client:
        first = client.responses.create(model="up-chat", input=f"I am {PEOPLE[0]}.")
        says(client, f"I am {PEOPLE[1]}.")
        with client.responses.create(model="up-chat", input=f"I am {PEOPLE[2]}.", stream=True) as events:
            (third,) = [event.item for event in events if event.type == "response.output_item.done"]
        for item, person in ((first.output[0], PEOPLE[0]), (third, PEOPLE[2])):
            named: Any = [{"type": "item_reference", "id": item.id}, {"role": "user", "content": "Who?"}]
            assert says(client, named)[1] == f"They are {person}."


def test_what_is_kept_can_be_read_nowhere_and_ends(governed: Gateway, stored: StoredResponses) -> None:
    with of_key(governed, governed.new_key()) as client, psycopg.connect(governed.database_url, autocommit=True) as db:
        id_, _ = says(client, f"I am {PEOPLE[0]}.")
        rows = db.execute("select ids, sealed, expires_at - now() from gatehouse.conversations").fetchall()
        assert rows
        kept = repr(rows)
        assert not any(each in kept for each in ("ada@", "example.com", "resp_0", "EMAIL_ADDRESS"))
        assert 29 < rows[-1][2].total_seconds() / 86_400 <= 30
        db.execute("update gatehouse.conversations set expires_at = now()")
        _, text = says(client, "Who am I?", previous_response_id=id_)
        assert re.fullmatch(r"They are <EMAIL_ADDRESS_\w+>\.", text)


def test_a_request_that_the_provider_does_not_store_leaves_nothing(governed: Gateway, stored: StoredResponses) -> None:
    with of_key(governed, governed.new_key()) as client, psycopg.connect(governed.database_url) as db:
        before = db.execute("select count(*) from gatehouse.conversations").fetchone()
        says(client, f"I am {PEOPLE[0]}.", store=False)
        assert db.execute("select count(*) from gatehouse.conversations").fetchone() == before
