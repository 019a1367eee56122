"""However a call ends, it leaves exactly one settled row and one audit line that says how."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import httpx
import pytest

from tests.support.gateway import MASTER_KEY, Gateway
from tests.support.process import wait_until
from tests.support.upstream import Upstream

CHAT = {"model": "up-chat", "messages": [{"role": "user", "content": "hello"}]}


def only_line(gateway: Gateway, call_id: str) -> dict[str, Any]:
    """Wait for the call's line; a refused call has no intent, so its row and line may come after the answer."""
    wait_until(lambda: gateway.lines_of(call_id) != [], "the call's line")
    gateway.wait_settled()
    (line,) = gateway.lines_of(call_id)
    return line


def send_and_leave(gateway: Gateway, body: dict[str, Any], *, after_bytes: int, key: str = MASTER_KEY) -> None:
    """Send a chat request on a raw socket and drop the connection once `after_bytes` of the answer came."""
    payload = httpx.Request("POST", gateway.url, json=body).content
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {key}\r\ncontent-length: {len(payload)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(head.encode() + payload)
        if after_bytes:
            connection.recv(after_bytes)
        else:
            time.sleep(0.5)


def test_an_answer_is_recorded_with_tokens_cost_and_caller(upstream_gateway: Gateway, upstream: Upstream) -> None:
    key = upstream_gateway.new_key(key_alias="alias-of-the-caller", max_budget=1)
    with upstream_gateway.client(key) as client:
        answer = client.post("/v1/chat/completions", json=CHAT)
    line = only_line(upstream_gateway, answer.headers["x-gatehouse-call-id"])
    data = line["data"]
    assert line["event_type"] == "chat_completion_success"
    assert data["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert data["cost_usd"] == pytest.approx(3 * 1e-6 + 2 * 2e-6)
    assert data["caller"]["key_alias"] == "alias-of-the-caller"
    assert data["http_status"] == 200
    assert key not in str(line)


def test_a_stream_is_recorded_at_its_end_with_tokens(upstream_gateway: Gateway, upstream: Upstream) -> None:
    with upstream_gateway.client() as client:
        answer = client.post("/v1/chat/completions", json=CHAT | {"stream": True})
    line = only_line(upstream_gateway, answer.headers["x-gatehouse-call-id"])
    assert line["event_type"] == "chat_completion_success"
    assert line["data"]["usage"]["total_tokens"] == 5


def test_a_failing_provider_is_recorded_as_failure(upstream_gateway: Gateway, upstream: Upstream) -> None:
    upstream.status = 500
    with upstream_gateway.client() as client:
        answer = client.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 500
    line = only_line(upstream_gateway, answer.headers["x-gatehouse-call-id"])
    assert line["event_type"] == "chat_completion_failure"
    assert line["data"]["http_status"] == 500


def test_a_key_over_its_budget_is_refused_and_recorded(upstream_gateway: Gateway, upstream: Upstream) -> None:
    key = upstream_gateway.new_key(max_budget=0.0000001)
    with upstream_gateway.client(key) as client:
        answer = client.post("/v1/chat/completions", json=CHAT)
    assert answer.json()["error"]["type"] == "budget_exceeded"
    assert upstream.requests == []
    line = only_line(upstream_gateway, answer.headers["x-gatehouse-call-id"])
    assert line["event_type"] == "chat_completion_blocked"
    assert line["data"]["decision"] == "deny"


def test_a_stranger_leaves_no_record_but_a_count(upstream_gateway: Gateway, upstream: Upstream) -> None:
    """Callers without a key must not be able to fill the ledger."""
    before = len(upstream_gateway.calls())
    with upstream_gateway.client("sk-not-a-key") as client:
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 401
    upstream_gateway.wait_settled()
    assert len(upstream_gateway.calls()) == before
    assert upstream.requests == []


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_client_that_leaves_before_the_first_chunk_is_recorded(
    upstream_gateway: Gateway, upstream: Upstream, stream: bool
) -> None:
    known = set(upstream_gateway.calls())
    upstream.delay_s = 2.0
    send_and_leave(upstream_gateway, CHAT | {"stream": stream}, after_bytes=0)
    wait_until(lambda: set(upstream_gateway.calls()) - known != set(), "the call's intent")
    (call_id,) = set(upstream_gateway.calls()) - known
    line = only_line(upstream_gateway, call_id)
    assert line["data"]["status"] == "partial"
    assert line["data"]["client_gone"] is True


def test_a_client_that_leaves_in_mid_stream_is_recorded(upstream_gateway: Gateway, upstream: Upstream) -> None:
    known = set(upstream_gateway.calls())
    upstream.chunk_delay_s = 0.7
    send_and_leave(upstream_gateway, CHAT | {"stream": True}, after_bytes=100)
    wait_until(lambda: set(upstream_gateway.calls()) - known != set(), "the call's intent")
    (call_id,) = set(upstream_gateway.calls()) - known
    line = only_line(upstream_gateway, call_id)
    assert line["data"]["status"] == "partial"


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"no-log": True}, {}),
        ({"metadata": {"no-log": True, "gatehouse": "off"}}, {}),
        ({"guardrails": [], "disable_global_guardrails": True}, {}),
        ({"litellm_call_id": "00000000-0000-0000-0000-000000000000"}, {}),
        ({"input_cost_per_token": 0, "output_cost_per_token": 0, "model_info": {"input_cost_per_token": 0}}, {}),
        ({}, {"x-litellm-disable-callbacks": "governance,prometheus,Governance"}),
        ({}, {"x-litellm-call-id": "not-a-uuid", "x-gatehouse-call-id": "mine"}),
    ],
    ids=["no-log", "metadata", "guardrails", "call id", "price", "disable-callbacks", "headers"],
)
def test_a_field_of_the_caller_that_would_hide_a_call_is_refused_and_recorded(
    upstream_gateway: Gateway, upstream: Upstream, fields: dict[str, Any], headers: dict[str, str]
) -> None:
    with upstream_gateway.client() as client:
        answer = client.post("/v1/chat/completions", json=CHAT | fields, headers=headers)
    assert answer.status_code == 400, answer.text
    assert upstream.requests == []
    line = only_line(upstream_gateway, answer.headers["x-gatehouse-call-id"])
    assert (line["data"]["status"], line["data"]["error"]) == ("blocked", "invalid_request")


def test_our_own_header_does_not_hide_a_call(upstream_gateway: Gateway) -> None:
    with upstream_gateway.client() as client:
        answer = client.post("/v1/chat/completions", json=CHAT, headers={"x-gatehouse-call-id": "mine"})
    line = only_line(upstream_gateway, answer.headers["x-gatehouse-call-id"])
    assert line["data"]["usage"]["total_tokens"] == 5
    assert line["data"]["cost_usd"] == pytest.approx(3 * 1e-6 + 2 * 2e-6)


def test_hostile_names_are_recorded_and_break_nothing(upstream_gateway: Gateway, upstream: Upstream) -> None:
    """Postgres refuses NUL and lone surrogates; a huge name would bloat the ledger."""
    for name in ("up-chat\u0000", "up-chat\ud800", "m" * 100_000, "\u202eup-chat", "'; drop table gatehouse.calls; --"):
        body = json.dumps(CHAT | {"model": name, "user": name}).encode()
        with upstream_gateway.client() as client:
            answer = client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
        assert 400 <= answer.status_code < 500
        line = only_line(upstream_gateway, answer.headers["x-gatehouse-call-id"])
        assert len(str(line)) < 3000
    with upstream_gateway.client() as client:
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
