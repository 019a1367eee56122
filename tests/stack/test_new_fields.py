"""A field that no API has yet is scanned, masked, and sent on, on every governed route that takes JSON."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.support.gateway import Gateway
from tests.support.upstream import Upstream

MAIL = "ada.lovelace@example.com"
CHAT: dict[str, Any] = {"model": "up-chat", "messages": [{"role": "user", "content": "hello"}]}
SENT: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", CHAT | {"stream": True}),
    ("/v1/completions", {"model": "up-text", "prompt": "hello"}),
    ("/v1/embeddings", {"model": "up-embedding", "input": "hello"}),
    ("/v1/responses", {"model": "up-chat", "input": "hello"}),
    ("/v1/messages", CHAT | {"max_tokens": 10}),
    ("/v1/images/generations", {"model": "up-image", "prompt": "hello"}),
]
# LiteLLM leaves it out there, or sends it where the provider refuses it.
NOT_SENT: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", CHAT | {"model": "up-claude"}),
    ("/v1/responses", {"model": "up-claude", "input": "hello"}),
    ("/v1/messages", CHAT | {"max_tokens": 10, "model": "up-claude"}),
    ("/v1/moderations", {"model": "up-moderation", "input": "hello"}),
    ("/v1/audio/speech", {"model": "up-speech", "input": "hello", "voice": "alloy"}),
]
NEW = {"a_field_of_next_year": {"who": [f"write to {MAIL}"], "n": 5}}


def by_name(value: Any) -> str:
    return value if isinstance(value, str) else f"{value['model']}{'-stream' if value.get('stream') else ''}"


@pytest.mark.parametrize(("route", "body"), SENT, ids=by_name)
def test_a_new_field_is_masked_and_sent_on(
    governed: Gateway, upstream: Upstream, route: str, body: dict[str, Any]
) -> None:
    for asked in (body | NEW, body | {"extra_body": NEW}):
        upstream.requests.clear()
        with governed.client() as client:
            answer = client.post(route, json=asked)
        assert answer.status_code == 200, answer.text
        (received,) = (json.loads(raw) for _, raw in upstream.requests)
        (masked,) = re.findall(r"write to <EMAIL_ADDRESS_\w{8}>", json.dumps(received))
        assert received.get("a_field_of_next_year") == {"who": [masked], "n": 5}


@pytest.mark.parametrize(("route", "body"), NOT_SENT, ids=by_name)
def test_a_new_field_that_could_not_be_sent_on_is_refused_by_name(
    governed: Gateway, upstream: Upstream, route: str, body: dict[str, Any]
) -> None:
    with governed.client() as client:
        answer = client.post(route, json=body | NEW)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == "a_field_of_next_year"
        assert upstream.requests == []
        assert client.post(route, json=body).status_code == 200


@pytest.mark.parametrize(("route", "body"), SENT[:1] + SENT[2:], ids=by_name)
def test_metadata_tags_and_user_are_masked_wherever_litellm_keeps_them(
    governed: Gateway, upstream: Upstream, route: str, body: dict[str, Any]
) -> None:
    said = {"metadata": {"who": MAIL, "n": 1, MAIL: "x"}, "tags": [f"from {MAIL}"], "user": MAIL}
    with governed.client(governed.new_key()) as client:
        answer = client.post(route, json=body | said)
        assert answer.status_code == 200, answer.text
    assert MAIL not in upstream.received


def test_models_are_named_by_their_group_alone(governed: Gateway, upstream: Upstream) -> None:
    with governed.client() as client:
        listed = client.get("/v1/model/info").json()["data"]
        (ours,) = (each for each in listed if each["model_name"] == "up-chat")
        others = (ours["model_info"]["id"], "openai/gpt-4o", "gpt-4o-2024", "up-chat,up-claude", "", "*")
        for name in others:
            for route, body in (SENT[0], SENT[4], SENT[5]):
                answer = client.post(route, json=body | {"model": name})
                assert answer.status_code == 404, (name, answer.text)
                assert answer.json()["error"]["code"] == "model_not_found"
        assert upstream.requests == []
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200


_SERVER = {"type": "mcp", "server_label": "tickets", "server_url": "https://mcp.example.com/sse"}


@pytest.mark.parametrize(
    ("route", "fields", "param"),
    [
        ("/v1/responses", {"input": "hello", "tools": [_SERVER]}, "tools[0].server_url"),
        ("/v1/responses", {"input": "hello", "extra_body": {"tools": [_SERVER]}}, "tools[0].server_url"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "tools": [_SERVER]}, "tools[0]"),
        (
            "/v1/messages",
            {"messages": [], "max_tokens": 5, "mcp_servers": [{"type": "url", "url": "https://x", "name": "x"}]},
            "mcp_servers[0]",
        ),
    ],
    ids=["responses", "extra_body", "chat", "messages"],
)
def test_no_provider_calls_a_server_that_the_policy_does_not_name(
    governed: Gateway, upstream: Upstream, route: str, fields: dict[str, Any], param: str
) -> None:
    with governed.client() as client:
        answer = client.post(route, json={"model": "up-chat", **fields})
    assert answer.status_code == (400 if route == "/v1/messages" else 403), answer.text
    assert "hosted_mcp" in answer.text
    assert param in answer.text
    assert upstream.requests == []
