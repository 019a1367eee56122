"""Tokens are counted for Anthropic's clients inside the gateway, and errors on Anthropic's routes have their shape."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx
import pytest

from tests.support.gateway import Gateway
from tests.support.upstream import Upstream

ASKED: dict[str, Any] = {"model": "up-claude", "messages": [{"role": "user", "content": "How long is this sentence?"}]}
TOOL = {"name": "weather", "description": "Looks the weather up.", "input_schema": {"type": "object", "properties": {}}}


def client(gateway: Gateway, key: str | None = None) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=gateway.url, api_key=key or gateway.new_key(), max_retries=0)


def test_tokens_are_counted_and_nothing_goes_upstream(upstream_gateway: Gateway, upstream: Upstream) -> None:
    messages = client(upstream_gateway).messages
    short = messages.count_tokens(**ASKED).input_tokens
    longer = messages.count_tokens(**ASKED, system="Answer in one word.").input_tokens
    tooled = messages.count_tokens(**ASKED, system="Answer in one word.", tools=[TOOL]).input_tokens
    assert 5 < short < longer < tooled < 200
    assert upstream.requests == []


def test_the_answer_says_that_it_is_an_estimate(upstream_gateway: Gateway) -> None:
    answer = client(upstream_gateway).messages.with_raw_response.count_tokens(**ASKED)
    assert answer.headers["x-gatehouse-token-count"] == "estimate"


def test_a_count_needs_a_key_and_a_model_that_it_may_use(upstream_gateway: Gateway) -> None:
    with pytest.raises(anthropic.AuthenticationError):
        client(upstream_gateway, "sk-nobody").messages.count_tokens(**ASKED)
    with pytest.raises(anthropic.NotFoundError, match="serves none by that name"):
        client(upstream_gateway).messages.count_tokens(**ASKED | {"model": "no-such-model"})
    with pytest.raises(anthropic.PermissionDeniedError):
        client(upstream_gateway, upstream_gateway.new_key(models=["up-chat"])).messages.count_tokens(**ASKED)


def test_a_count_reserves_no_budget(upstream_gateway: Gateway) -> None:
    key = upstream_gateway.new_key(max_budget=0.000_01)
    for _ in range(3):
        client(upstream_gateway, key).messages.count_tokens(**ASKED)


@pytest.mark.parametrize("route", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize(
    ("key", "body", "status", "kind"),
    [
        ("sk-nobody", ASKED, 401, "authentication_error"),
        (None, ASKED | {"model": "no-such-model"}, 404, "not_found_error"),
        (None, ASKED | {"api_base": "http://127.0.0.1"}, 400, "invalid_request_error"),
        (None, ASKED | {"messages": "x", "max_tokens": 5}, 400, "invalid_request_error"),
    ],
)
def test_errors_have_anthropics_shape(
    upstream_gateway: Gateway, key: str | None, body: dict[str, Any], status: int, kind: str, route: str
) -> None:
    headers = {"x-api-key": key or upstream_gateway.new_key(), "anthropic-version": "2023-06-01"}
    answer = httpx.post(f"{upstream_gateway.url}{route}", json=body, headers=headers, timeout=60)
    assert answer.status_code == status, answer.text
    said = answer.json()
    assert said["type"] == "error"
    assert said["error"]["type"] == kind, said
    assert said["error"]["message"]
    assert "request_id" in said or "litellm_call_id" in said["error"]
