"""Nothing goes upstream without a committed intent, on any route that reaches a model; other routes are refused."""

from __future__ import annotations

from typing import Any

import httpx
import psycopg
import pytest

from tests.support.gateway import Gateway
from tests.support.upstream import Upstream

CHAT = {"model": "up-chat", "messages": [{"role": "user", "content": "hello"}]}
ROUTES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"json": CHAT}),
    ("/v1/chat/completions", {"json": CHAT | {"stream": True}}),
    ("/chat/completions", {"json": CHAT}),
    ("/engines/up-chat/chat/completions", {"json": CHAT}),
    ("/openai/deployments/up-chat/chat/completions", {"json": CHAT}),
    ("/v1/completions", {"json": {"model": "up-text", "prompt": "hello"}}),
    ("/v1/completions", {"json": {"model": "up-text", "prompt": "hello", "stream": True}}),
    ("/v1/embeddings", {"json": {"model": "up-embedding", "input": "hello"}}),
    ("/v1/responses", {"json": {"model": "up-chat", "input": "hello"}}),
    ("/v1/responses", {"json": {"model": "up-chat", "input": "hello", "stream": True}}),
    ("/openai/v1/responses", {"json": {"model": "up-chat", "input": "hello"}}),
    ("/v1/messages", {"json": {**CHAT, "max_tokens": 10}}),
    ("/v1/messages", {"json": {**CHAT, "model": "up-claude", "max_tokens": 10}}),
    ("/v1/moderations", {"json": {"model": "up-moderation", "input": "hello"}}),
    ("/v1/rerank", {"json": {"model": "up-rerank", "query": "hello", "documents": ["one", "two"]}}),
    ("/v2/rerank", {"json": {"model": "up-rerank", "query": "hello", "documents": [{"text": "one"}]}}),
    ("/v1/images/generations", {"json": {"model": "up-image", "prompt": "hello"}}),
    ("/v1/audio/speech", {"json": {"model": "up-speech", "input": "hello", "voice": "alloy"}}),
    ("/v1/audio/transcriptions", {"data": {"model": "up-transcription"}, "files": {"file": ("a.wav", b"RIFF")}}),
]  # fmt: skip


def committed_calls(gateway: Gateway) -> int:
    with psycopg.connect(gateway.database_url) as connection:
        row = connection.execute("select count(*) from gatehouse.calls").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(("route", "request_"), ROUTES, ids=lambda value: value if isinstance(value, str) else "")
def test_intent_is_committed_before_anything_goes_upstream(
    upstream_gateway: Gateway, upstream: Upstream, route: str, request_: dict[str, Any]
) -> None:
    before = committed_calls(upstream_gateway)
    seen: list[int] = []
    upstream.on_request = lambda: seen.append(committed_calls(upstream_gateway))
    with upstream_gateway.client() as client:
        answer = client.post(route, **request_)
    assert answer.status_code == 200, answer.text
    assert seen == [before + 1]

    upstream_gateway.wait_settled()
    lines = upstream_gateway.lines_of(answer.headers["x-gatehouse-call-id"])
    assert [line["event_type"] for line in lines] == ["chat_completion_success"]
    assert lines[0]["data"]["route"] == route


@pytest.mark.parametrize(("route", "request_"), ROUTES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_provider_that_fails_is_asked_as_often_as_is_configured(
    upstream_gateway: Gateway, upstream: Upstream, route: str, request_: dict[str, Any]
) -> None:
    """One attempt is configured: OpenAI's client would try twice more by itself."""
    upstream.status = 500
    with upstream_gateway.client() as client:
        answer = client.post(route, **request_)
    assert answer.status_code == 500, answer.text
    assert len(upstream.requests) == 1
    assert "x-should-retry" not in answer.headers, answer.text  # the caller's client may


@pytest.mark.parametrize(
    ("method", "route"),
    [
        ("POST", "/openai_passthrough/v1/chat/completions"),
        ("POST", "/anthropic/v1/messages"),
        ("POST", "/vertex_ai/v1/projects/p/locations/l/publishers/google/models/m:generateContent"),
        ("POST", "/v1beta/models/up-chat:generateContent"),
        ("POST", "/models/up-chat:generateContent"),
        ("POST", "/claude_code_gateway/v1/messages/count_tokens"),
        ("POST", "/utils/token_counter"),
        ("POST", "/mcp"),
        ("POST", "/queue/chat/completions"),
        ("POST", "/cursor/chat/completions"),
        ("POST", "/health/test_connection"),
        ("GET", "/health"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "//v1/chat/completions"),
        ("POST", "/v1/chat/%2e%2e/chat/completions"),
        ("POST", "/V1/chat/completions"),
        ("POST", "/a-route-of-the-next-release"),
        # Of LiteLLM's proprietary package, which is not installed.
        ("GET", "/audit"),
        ("POST", "/project/new"),
    ],
)
def test_a_route_nobody_vouches_for_is_refused(
    upstream_gateway: Gateway, upstream: Upstream, method: str, route: str
) -> None:
    with upstream_gateway.client() as client:
        answer = client.send(httpx.Request(method, f"{upstream_gateway.url}{route}", headers=client.headers, json=CHAT))
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "ungoverned_route"
    assert upstream.requests == []


def test_management_routes_that_would_call_a_model_are_stopped_at_the_last_look(
    upstream_gateway: Gateway, upstream: Upstream
) -> None:
    """A key's logging test sends a completion. The route is closed; the deployment hook would stop it too."""
    with upstream_gateway.client() as client:
        assert client.post("/key/health", json={}).status_code == 403
    assert upstream.requests == []


def test_a_response_in_the_background_is_answered_as_the_provider_answers(
    upstream_gateway: Gateway, upstream: Upstream
) -> None:
    """LiteLLM needs a class of its proprietary package there, once the provider has begun."""
    with upstream_gateway.client() as client:
        answer = client.post("/v1/responses", json={"model": "up-chat", "input": "hello", "background": True})
    assert (answer.status_code, answer.json()["status"]) == (200, "queued"), answer.text
    assert len(upstream.requests) == 1
