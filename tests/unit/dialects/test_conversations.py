"""Which stored conversation a request continues, and which ids an answer makes known."""

from __future__ import annotations

from typing import Any

import pytest
from gatehouse.dialects.conversations import Kind, StoredId, continued, conversation_of, is_stored, made

RESPONSE, CONVERSATION, ITEM = (
    StoredId(kind, name)
    for kind, name in ((Kind.RESPONSE, "resp_1"), (Kind.CONVERSATION, "conv_1"), (Kind.ITEM, "msg_1"))
)


@pytest.mark.parametrize(
    ("fields", "ids"),
    [
        ({"input": "hello"}, ()),
        ({"previous_response_id": "resp_1"}, (RESPONSE,)),
        ({"conversation": "conv_1"}, (CONVERSATION,)),
        ({"conversation": {"id": "conv_1"}}, (CONVERSATION,)),
        ({"previous_response_id": "resp_1", "input": [{"type": "item_reference", "id": "msg_1"}]}, (RESPONSE, ITEM)),
        ({"input": [{"id": "msg_1"}, {"type": None, "id": "msg_1"}]}, (ITEM,)),
        ({"input": [{"role": "user", "id": "msg_1"}, {"type": "message", "id": "msg_1"}, "msg_1", {"id": 5}]}, ()),
        ({"previous_response_id": "", "conversation": {"id": None}}, ()),
        ({"previous_response_id": None, "conversation": 5, "input": None}, ()),
    ],
)
def test_a_request_continues_what_it_names(fields: dict[str, Any], ids: tuple[StoredId, ...]) -> None:
    assert continued("aresponses", fields) == continued("responses", fields) == ids
    assert continued("acompletion", fields) == ()


@pytest.mark.parametrize(
    ("fields", "stored"),
    [
        ({}, True),
        ({"store": None}, True),
        ({"store": True}, True),
        ({"store": False}, False),
        ({"store": False, "conversation": "conv_1"}, True),
    ],
)
def test_an_answer_is_stored_unless_the_request_says_no(fields: dict[str, Any], stored: bool) -> None:
    assert is_stored("aresponses", fields) is stored
    assert not is_stored("acompletion", fields)


def test_the_conversation_is_the_one_that_is_added_to() -> None:
    assert conversation_of({"conversation": {"id": "conv_1"}}) == CONVERSATION
    assert conversation_of({"previous_response_id": "resp_1"}) is None


ANSWER: dict[str, Any] = {"object": "response", "id": "resp_1", "output": [{"id": "msg_1"}, {"id": None}, "x"]}


@pytest.mark.parametrize(
    ("said", "ids"),
    [
        (ANSWER, [RESPONSE, ITEM]),
        (ANSWER | {"output": None}, [RESPONSE]),
        ({"type": "response.created", "response": ANSWER | {"output": []}}, [RESPONSE]),
        ({"type": "response.completed", "response": ANSWER}, [RESPONSE, ITEM]),
        ({"type": "response.output_item.added", "item": {"id": "msg_1"}}, [ITEM]),
        ({"type": "response.output_text.delta", "item_id": "msg_1", "delta": "x"}, []),
        ({"error": {"message": "no", "id": "resp_1"}}, []),
        ({"id": "resp_1", "object": "chat.completion"}, []),
        ({"type": "response.created", "response": "x", "item": None}, []),
    ],
)
def test_an_answer_makes_known_its_own_id_and_its_items(said: dict[str, Any], ids: list[StoredId]) -> None:
    assert list(made(said)) == ids
