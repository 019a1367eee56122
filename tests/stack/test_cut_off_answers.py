"""An answer that a provider did not finish is an error to the caller and in the record, on every route with texts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.gateway import Gateway
from tests.support.process import wait_until
from tests.support.upstream import Upstream

CHAT: dict[str, Any] = {"model": "up-chat", "messages": [{"role": "user", "content": "hello"}]}
CLAUDE = CHAT | {"model": "up-claude"}
ROUTES = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", CLAUDE),
    ("/v1/completions", {"model": "up-text", "prompt": "hello"}),
    ("/v1/messages", CHAT | {"max_tokens": 10}),
    ("/v1/messages", CLAUDE | {"max_tokens": 10}),
    ("/v1/responses", {"model": "up-chat", "input": "hello"}),
    ("/v1/responses", {"model": "up-claude", "input": "hello"}),
]
each_route = pytest.mark.parametrize(
    ("route", "body"), ROUTES, ids=[f"{route} {body['model']}" for route, body in ROUTES]
)


def record_of(gateway: Gateway, call_id: str) -> dict[str, Any]:
    wait_until(lambda: gateway.lines_of(call_id) != [], "the call's line")
    (line,) = gateway.lines_of(call_id)
    return dict(line["data"])


def error_in(stream: str) -> dict[str, Any]:
    """Return the error that ends a stream; nothing else may make the stream look whole."""
    *_, last = [line for line in stream.splitlines() if line.startswith("data:") and "[DONE]" not in line]
    said = json.loads(last.removeprefix("data:"))
    assert '"finish_reason":"stop"' not in stream
    assert "message_stop" not in stream
    assert "response.completed" not in stream
    return dict(said["error"])


@each_route
@pytest.mark.parametrize("how", ["cut", "ends", "half", "no json", "page"])
def test_a_stream_that_breaks_is_an_error(
    upstream_gateway: Gateway, upstream: Upstream, route: str, body: dict[str, Any], how: str
) -> None:
    upstream.breaks = how
    upstream.chunk_delay_s = 0.02
    with upstream_gateway.client() as client:
        answer = client.post(route, json=body | {"stream": True})
    error = error_in(answer.text) if answer.status_code == 200 else answer.json()["error"]
    assert error["code"] == ("upstream_unreadable" if how in ("no json", "page") else "upstream_cut_off")
    assert answer.status_code in (200, 502)
    record = record_of(upstream_gateway, answer.headers["x-gatehouse-call-id"])
    assert (record["status"], record["error"], record["http_status"]) == ("failure", error["code"], answer.status_code)


@each_route
@pytest.mark.parametrize("how", ["cut", "half", "no json", "page"])
def test_an_answer_that_breaks_is_an_error(
    upstream_gateway: Gateway, upstream: Upstream, route: str, body: dict[str, Any], how: str
) -> None:
    upstream.breaks = how
    with upstream_gateway.client() as client:
        answer = client.post(route, json=body)
    assert answer.status_code >= 500
    assert answer.json()["error"]["message"]
    record = record_of(upstream_gateway, answer.headers["x-gatehouse-call-id"])
    assert (record["status"], record["http_status"]) == ("failure", answer.status_code)
    if how == "cut":
        assert record["error"] == "upstream_cut_off"


@each_route
@pytest.mark.parametrize("how", [None, "unsaid", "tools", "two"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
def test_a_whole_answer_is_no_error(
    upstream_gateway: Gateway, upstream: Upstream, route: str, body: dict[str, Any], how: str | None, stream: bool
) -> None:
    if how == "unsaid":
        upstream.breaks = "unsaid"
    fields: dict[str, Any] = {"stream": stream}
    if how == "tools" and route == "/v1/chat/completions":
        upstream.tool = ("look", "{}")
        fields["tools"] = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    if how == "two" and body["model"] == "up-chat" and route == "/v1/chat/completions":
        fields |= {"n": 2, "stream_options": {"include_usage": True}} if stream else {"n": 2}
    with upstream_gateway.client() as client:
        answer = client.post(route, json=body | fields)
    assert answer.status_code == 200, answer.text
    assert "upstream_" not in answer.text
    assert record_of(upstream_gateway, answer.headers["x-gatehouse-call-id"])["status"] == "success"


@pytest.mark.parametrize(("how", "stream"), [("no json", True), ("no json", False), ("cut", False)])
def test_a_call_goes_on_with_another_model_where_one_breaks(
    upstream_gateway: Gateway, upstream: Upstream, how: str, stream: bool
) -> None:
    """The failure of one attempt is not the call's. LiteLLM makes no other attempt once a stream has begun."""

    def whole_from_the_second_on() -> None:
        if len(upstream.requests) > 1:
            upstream.breaks = None

    upstream.breaks = how
    upstream.on_request = whole_from_the_second_on
    with upstream_gateway.client() as client:
        answer = client.post("/v1/chat/completions", json=CHAT | {"model": "up-first", "stream": stream})
    assert answer.status_code == 200, answer.text
    assert "upstream_" not in answer.text
    assert "Hello" in answer.text
    assert record_of(upstream_gateway, answer.headers["x-gatehouse-call-id"])["status"] == "success"
