"""A stored response is fetched, cancelled, listed and deleted by the key that made it, and by no other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.support.gateway import Gateway
from tests.support.stored_responses import StoredResponses
from tests.support.upstream import Upstream

PERSON = "ada@example.com"
_MAIL = re.compile(r"<EMAIL_ADDRESS_\w+>|[\w.]+@example\.com")


@pytest.fixture
def stored(upstream: Upstream) -> Iterator[StoredResponses]:
    upstream.stored = StoredResponses()
    upstream.says = lambda text: "You are " + ", ".join(dict.fromkeys(_MAIL.findall(text))) + "."
    return upstream.stored


@pytest.fixture
def client(governed: Gateway) -> Iterator[OpenAI]:
    with of_key(governed, governed.new_key()) as each:
        yield each


def of_key(gateway: Gateway, key: str) -> OpenAI:
    return OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0)


def test_a_response_is_fetched_with_its_values_and_under_its_id(client: OpenAI, stored: StoredResponses) -> None:
    made = client.responses.create(model="up-chat", input=f"I am {PERSON}.")
    for _ in range(2):
        fetched = client.responses.retrieve(made.id)
        assert (fetched.id, fetched.output_text) == (made.id, f"You are {PERSON}.")
    again = client.responses.create(model="up-chat", input="Who am I?", previous_response_id=fetched.id)
    assert again.output_text == f"You are {PERSON}."


def test_a_response_in_the_background_is_fetched_when_it_is_ready(client: OpenAI, stored: StoredResponses) -> None:
    made = client.responses.create(model="up-chat", input=f"I am {PERSON}.", background=True)
    assert made.status == "queued"
    states = []
    while made.status in ("queued", "in_progress"):
        made = client.responses.retrieve(made.id)
        states.append(made.status)
    assert states == ["in_progress", "completed"]
    assert made.output_text == f"You are {PERSON}."


def test_what_was_fetched_passes_the_screens(client: OpenAI, upstream: Upstream, stored: StoredResponses) -> None:
    upstream.says = lambda text: "Here is the forbidden fruit."
    made = client.responses.create(model="up-chat", input="hello", background=True)
    client.responses.retrieve(made.id)
    with pytest.raises(openai.PermissionDeniedError) as refused:
        client.responses.retrieve(made.id)
    assert refused.value.code == "content_blocked"
    assert "fruit" not in str(refused.value)


def test_a_response_in_the_background_is_cancelled(client: OpenAI, stored: StoredResponses) -> None:
    made = client.responses.create(model="up-chat", input="hello", background=True)
    cancelled = client.responses.cancel(made.id)
    assert (cancelled.id, cancelled.status) == (made.id, "cancelled")
    assert client.responses.retrieve(made.id).status == "cancelled"


def test_the_items_of_its_input_are_listed_with_their_values(client: OpenAI, stored: StoredResponses) -> None:
    said: Any = [{"role": "user", "content": f"I am {each}@example.com."} for each in ("ada", "grace", "alan")]
    made = client.responses.create(model="up-chat", input=said)
    for order, names in (("asc", ["ada", "grace", "alan"]), ("desc", ["alan", "grace", "ada"])):
        listed = client.responses.input_items.list(made.id, order=order, limit=2)  # type: ignore[arg-type]
        assert len(listed.data) == 2
        texts = [str(item.model_dump()["content"]) for item in listed]  # all pages of it
        assert [re.findall(r"(\w+)@example\.com", text) for text in texts] == [[name] for name in names]


def test_a_deleted_response_is_gone_and_so_are_its_values(
    client: OpenAI, governed: Gateway, stored: StoredResponses
) -> None:
    made = client.responses.create(model="up-chat", input=f"I am {PERSON}.")
    client.responses.delete(made.id)
    assert stored.responses == {}
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


ASKED: list[Callable[[OpenAI, str], Any]] = [
    lambda client, id_: client.responses.retrieve(id_),
    lambda client, id_: client.responses.cancel(id_),
    lambda client, id_: client.responses.delete(id_),
    lambda client, id_: client.responses.input_items.list(id_),
]


@pytest.mark.parametrize("ask", ASKED, ids=["fetch", "cancel", "delete", "list"])
def test_another_key_is_told_what_it_would_be_told_of_a_response_that_does_not_exist(
    governed: Gateway, upstream: Upstream, stored: StoredResponses, ask: Callable[[OpenAI, str], Any]
) -> None:
    with governed.client() as admin:
        team = admin.post("/team/new", json={"team_alias": governed.new_key()[-12:]}).json()["team_id"]
    mine, theirs, stranger = governed.new_key(team_id=team), governed.new_key(team_id=team), governed.new_key()
    with of_key(governed, mine) as client:
        made = client.responses.create(model="up-chat", input=f"I am {PERSON}.", background=True)
    upstream.requests.clear()
    said = set()
    (inner,) = stored.responses
    for key in (theirs, stranger, None):
        with of_key(governed, key or mine) as client:
            for id_ in (made.id, inner, "resp_nothing", f"resp_{'x' * 300}") if key else ("resp_nothing", inner):
                with pytest.raises(openai.NotFoundError) as refused:
                    ask(client, id_)
                assert isinstance(refused.value.body, dict)
                said.add((refused.value.body["message"], refused.value.body["code"]))
    assert len(said) == 1
    assert upstream.requests == []
    with of_key(governed, mine) as client:
        ask(client, made.id)


def test_each_is_recorded_and_a_rule_that_denies_counts(
    governed: Gateway, upstream: Upstream, stored: StoredResponses
) -> None:
    key = governed.new_key()
    with of_key(governed, key) as client, governed.client(key) as plain:
        made = client.responses.create(model="up-chat", input=f"I am {PERSON}.")
        answer = plain.get(f"/v1/responses/{made.id}")
        call = answer.headers["x-gatehouse-call-id"]
        governed.wait_settled()
        record = governed.calls()[call]
        assert record["request"]["route"] == "/v1/responses/{response_id}"
        assert record["request"]["call_type"] == "aget_responses"
        assert record["request"]["model"] == "up-chat"
        capsule = governed.capsule(call)
        assert made.id not in str(capsule)
        assert PERSON not in str(capsule)
        assert capsule["outcome"]["status"] == "success"


def test_a_stream_is_fetched_again_from_any_event_on(client: OpenAI, stored: StoredResponses) -> None:
    with client.responses.create(model="up-chat", input=f"I am {PERSON}.", stream=True, background=True) as stream:
        first = list(stream)
    id_ = first[0].response.id  # type: ignore[union-attr]
    for after in (None, 0, 3, len(first) - 2):
        skipped: dict[str, Any] = {} if after is None else {"starting_after": after}
        with client.responses.retrieve(id_, stream=True, **skipped) as again:
            events = list(again)
        expected = first if after is None else first[after + 1 :]
        assert [event.type for event in events] == [event.type for event in expected]
        assert [event.sequence_number for event in events] == [event.sequence_number for event in expected]
        assert [getattr(event, "delta", None) for event in events] == [
            getattr(each, "delta", None) for each in expected
        ]
        last = events[-1]
        assert last.type == "response.completed"
        assert (last.response.id, last.response.output_text) == (id_, f"You are {PERSON}.")
