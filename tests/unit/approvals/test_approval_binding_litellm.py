"""The digest of a request is the same when it comes again, whatever LiteLLM itself laid beside it."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
from gatehouse.dialects.call_types import call_type_of
from gatehouse.dialects.canonical import CallerNames, canonical_request
from gatehouse.proxy.control_fields import control_fields
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.litellm_pre_call_utils import add_litellm_data_to_request
from starlette.requests import Request

from tests.support.binding import digest

TRACE = "00-0af7651916cd43dd8448eb211c8031{:02}-b7ad6b7169203331-01"
FIRST = {"x-request-id": "1", "traceparent": TRACE.format(1), "user-agent": "a", "x-team": "research"}
AGAIN = {
    "x-request-id": "2",
    "traceparent": TRACE.format(2),
    "user-agent": "b",
    "x-team": "research",
    "x-gatehouse-approval": "01a1fdcc-ad77-7f3b-94f0-62657eac63f2",
    "x-stainless-retry-count": "1",
    "x-litellm-trace-id": "77",
    "x-litellm-session-id": "s",
}
MESSAGES = [{"role": "user", "content": "transfer 10"}]
REQUESTS = [
    ("/v1/chat/completions", {"model": "demo", "messages": MESSAGES}),
    ("/v1/chat/completions", {"model": "demo", "messages": MESSAGES, "metadata": {"order": "1", "tags": ["mine"]}}),
    ("/v1/chat/completions", {"model": "demo", "messages": MESSAGES, "tags": ["a"], "timeout": 5, "num_retries": 1}),
    ("/v1/messages", {"model": "demo", "messages": MESSAGES, "max_tokens": 5, "metadata": {"user_id": "1"}}),
    ("/v1/responses", {"model": "demo", "input": "transfer 10", "metadata": {"order": "1"}}),
    ("/v1/embeddings", {"model": "demo", "input": "transfer 10"}),
]


async def as_hooked(path: str, body: dict[str, Any], headers: dict[str, str], *, forward: bool) -> dict[str, Any]:
    """Return what LiteLLM would give to the pre-call hook."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": raw, "root_path": ""}
    scope |= {"scheme": "http", "server": ("gateway", 80), "client": ("192.0.2.1", 1), "app": None, "state": {}}
    key = UserAPIKeyAuth(api_key="a" * 64, user_id="ada", metadata={"tags": ["t"]}, team_metadata={})
    config: Any = SimpleNamespace(load_team_config=lambda **_: {})
    settings = {"forward_client_headers_to_llm_api": forward}
    return await add_litellm_data_to_request(copy.deepcopy(body), Request(scope, receive), key, config, settings, "1")


def sent(path: str, body: dict[str, Any], hooked: dict[str, Any]) -> dict[str, Any]:
    """Return what the digest covers of LiteLLM's data for a caller who sent `body`."""
    call_type = call_type_of(path)
    assert call_type is not None
    return canonical_request(call_type, hooked, CallerNames.of(body), control_fields().obeys).fields


def of(path: str, body: dict[str, Any], hooked: dict[str, Any]) -> str:
    return digest(caller={"user": "ada"}, route=path, body=sent(path, body, hooked), policy_version="v1")


@pytest.mark.parametrize("forward", [False, True], ids=["plain", "headers forwarded"])
@pytest.mark.parametrize(("path", "body"), REQUESTS)
async def test_a_request_that_comes_again_has_the_same_digest(path: str, body: dict[str, Any], forward: bool) -> None:
    first = await as_hooked(path, body, FIRST, forward=forward)
    again = await as_hooked(path, body, AGAIN, forward=forward)
    assert of(path, body, first) == of(path, body, again)
    assert {name: value for name, value in sent(path, body, first).items() if name != "headers"} == body


@pytest.mark.parametrize(("path", "body"), [each for each in REQUESTS if "metadata" in each[1]])
async def test_metadata_that_changed_is_another_request(path: str, body: dict[str, Any]) -> None:
    changed = {**body, "metadata": {**body["metadata"], "order": "2"}}
    one = await as_hooked(path, body, FIRST, forward=False)
    other = await as_hooked(path, changed, FIRST, forward=False)
    assert of(path, body, one) != of(path, changed, other)


async def test_a_forwarded_header_that_changed_is_another_request() -> None:
    path, body = REQUESTS[0]
    one = await as_hooked(path, body, FIRST, forward=True)
    other = await as_hooked(path, body, {**FIRST, "x-team": "sales"}, forward=True)
    assert of(path, body, one) != of(path, body, other)
