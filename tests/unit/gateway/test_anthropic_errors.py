"""Every error on Anthropic's routes has the shape that Anthropic's clients read."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from gatehouse.core.errors import ContentBlocked, GovernanceError, InvalidRequest, ModelNotFound, TooLarge
from gatehouse.core.http import Message
from gatehouse.gateway.anthropic_errors import shaped, with_anthropics_errors


def sent(path: str, *messages: Message) -> list[Message]:
    """What arrives of an answer to a request for `path`."""
    arrived: list[Message] = []

    async def send(message: Message) -> None:
        arrived.append(message)

    async def run() -> None:
        through = with_anthropics_errors(path, send)
        for message in messages:
            await through(message)

    asyncio.run(run())
    return arrived


def answered(status: int, *pieces: bytes, kind: bytes = b"application/json") -> list[Message]:
    headers = [(b"content-type", kind), (b"content-length", str(sum(map(len, pieces))).encode())]
    start: Message = {"type": "http.response.start", "status": status, "headers": [*headers, (b"x-other", b"1")]}
    return [
        start,
        *({"type": "http.response.body", "body": each, "more_body": True} for each in pieces[:-1]),
        {"type": "http.response.body", "body": pieces[-1]},
    ]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("A field is wrong.", param="field"), "invalid_request_error"),
        (ModelNotFound("No such model."), "not_found_error"),
        (ContentBlocked("Something was found."), "permission_error"),
        (TooLarge("Too large."), "request_too_large"),
    ],
)
def test_an_error_of_ours_keeps_its_facts(error: GovernanceError, kind: str) -> None:
    given = error.body("7")
    said = json.loads(shaped(error.status, json.dumps(given).encode(), "7"))
    assert said == {"type": "error", "error": {**given["error"], "type": kind}, "request_id": "7"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_the_type_goes_by_the_status(status: int, kind: str) -> None:
    assert json.loads(shaped(status, b'{"error": {"message": "m", "type": "t"}}', None))["error"]["type"] == kind


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"detail": "Not Found"}, "Not Found"),
        (
            {"detail": [{"loc": ["body", "model"], "msg": "Field required", "input": "secret"}]},
            "body.model: Field required",
        ),
        ({"detail": []}, "The request failed."),
        ({}, "The request failed."),
    ],
)
def test_other_shapes_become_a_sentence(said: Any, message: str) -> None:
    assert json.loads(shaped(422, json.dumps(said).encode(), None))["error"] == {
        "type": "invalid_request_error",
        "message": message,
    }


@pytest.mark.parametrize("body", [b'{"type": "error", "error": {"type": "overloaded_error"}}', b"no JSON", b"[1]", b""])
def test_what_has_the_shape_or_is_no_object_stays_byte_for_byte(body: bytes) -> None:
    assert shaped(529, body, "7") == body


def test_an_error_in_pieces_is_sent_whole_with_its_own_length() -> None:
    start, body = sent("/v1/messages", *answered(401, b'{"error": {"mes', b'sage": "Who?"}}'))
    said = json.loads(body["body"])
    assert said["error"] == {"message": "Who?", "type": "authentication_error"}
    assert dict(start["headers"])[b"content-length"] == str(len(body["body"])).encode()
    assert dict(start["headers"])[b"x-other"] == b"1"


@pytest.mark.parametrize(
    ("path", "messages"),
    [
        ("/v1/messages", answered(200, b'{"error": {}}')),
        ("/v1/messages", answered(502, b'{"error": {}}', kind=b"text/html")),
        ("/v1/chat/completions", answered(401, b'{"error": {}}')),
    ],
)
def test_all_else_passes_as_it_is(path: str, messages: list[Message]) -> None:
    assert sent(path, *messages) == messages
