"""Secrets under the shipped policy.yaml: the model gets placeholders, and an agent that edits a file the secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import REPOSITORY, Gateway
from tests.support.postgres import Postgres
from tests.support.redis_server import Redis
from tests.support.upstream import Upstream

TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"
ADDRESS = "postgres://app:s3cr3t-Pa55@db.internal:5432/app"
COMPOSE = f"services:\n  web:\n    environment:\n      GITHUB_TOKEN: {TOKEN}\n      DATABASE_URL: {ADDRESS}\n"
PLACEHOLDER = re.compile(r"<SECRET_\w{8}(?:\w\w)?>")


@pytest.fixture(scope="module")
def shipped(
    postgres: Postgres, redis_server: Redis, upstream_config: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway under the repository's own policy."""
    environ = {"GATEHOUSE_SETTLE_GRACE_SECONDS": "1"}
    policy = REPOSITORY / "policy.yaml"
    server = Gateway(
        postgres.create_database(), redis_server.port, config=upstream_config, policy=policy, environ=environ
    ).start()
    yield server
    server.close()


def conversation(result: str, route: str) -> list[dict[str, Any]]:
    """An agent has read a file, and sends what stands in it."""
    asked = {"role": "user", "content": "Set the port in the compose file to 8080."}
    if route == "/v1/responses":
        call = {"type": "function_call", "call_id": "c1", "name": "read", "arguments": '{"path": "compose.yaml"}'}
        return [asked, call, {"type": "function_call_output", "call_id": "c1", "output": result}]
    if route == "/v1/messages":
        use = {"type": "tool_use", "id": "c1", "name": "read", "input": {"path": "compose.yaml"}}
        answer = {"type": "tool_result", "tool_use_id": "c1", "content": result}
        return [asked, {"role": "assistant", "content": [use]}, {"role": "user", "content": [answer]}]
    call = {"id": "c1", "type": "function", "function": {"name": "read", "arguments": '{"path": "compose.yaml"}'}}
    told = {"role": "tool", "tool_call_id": "c1", "content": result}
    return [asked, {"role": "assistant", "content": None, "tool_calls": [call]}, told]


def request(route: str, stream: bool, result: str = COMPOSE) -> dict[str, Any]:
    said = conversation(result, route)
    if route == "/v1/responses":
        return {"model": "up-chat", "input": said, "stream": stream, "store": False}
    if route == "/v1/messages":
        return {"model": "up-claude", "messages": said, "max_tokens": 50, "stream": stream}
    return {"model": "up-chat", "messages": said, "stream": stream}


def spoken(body: str) -> str:
    """All that an answer says, with the pieces of a stream put together."""
    if not body.startswith(("data:", "event:", ":")):
        return json.dumps(json.loads(body), ensure_ascii=False)
    pieces = []
    for line in body.splitlines():
        event = json.loads(line[6:]) if line.startswith("data: {") else {}
        delta = event.get("delta")
        pieces.append(delta if isinstance(delta, str) else (delta or {}).get("text") or "")
        pieces += [(each.get("delta") or {}).get("content") or "" for each in event.get("choices") or ()]
    return "".join(pieces)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_the_model_sees_no_secret_and_the_caller_gets_each_back(
    shipped: Gateway, upstream: Upstream, route: str, stream: bool
) -> None:
    upstream.says = lambda body: "I see " + " and ".join(dict.fromkeys(PLACEHOLDER.findall(body))) + "."
    with shipped.client() as client:
        answer = client.post(route, json=request(route, stream))
    assert answer.status_code == 200, answer.text
    for secret in (TOKEN, "s3cr3t-Pa55"):
        assert secret not in upstream.received
    assert "GITHUB_TOKEN: <SECRET_" in upstream.received
    assert f"I see {TOKEN} and s3cr3t-Pa55." in spoken(answer.text)
    shipped.wait_settled()
    (line,) = shipped.lines_of(answer.headers["x-gatehouse-call-id"])
    assert line["event_type"] == "chat_completion_success"
    assert TOKEN not in json.dumps(line)


def test_the_arguments_of_a_tool_have_the_secret(shipped: Gateway, upstream: Upstream) -> None:
    """Its placeholder is the same in every call of a key, so the test can ask for it first."""
    key = shipped.new_key()
    with shipped.client(key) as client:
        assert client.post("/v1/chat/completions", json=request("/v1/chat/completions", False)).status_code == 200
        placeholder = PLACEHOLDER.findall(upstream.received)[0]
        upstream.reset()
        edit = {"path": "compose.yaml", "old_string": f"GITHUB_TOKEN: {placeholder}\n", "new_string": "PORT: 8080\n"}
        upstream.tool = ("edit", json.dumps(edit))
        answer = client.post("/v1/chat/completions", json=request("/v1/chat/completions", False))
    (call,) = answer.json()["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"])["old_string"] == f"GITHUB_TOKEN: {TOKEN}\n"


def test_a_models_own_secret_is_withheld(shipped: Gateway, upstream: Upstream) -> None:
    upstream.says = lambda body: f"Use {TOKEN} for that."
    with shipped.client() as client:
        answer = client.post(
            "/v1/chat/completions", json={"model": "up-chat", "messages": [{"role": "user", "content": "?"}]}
        )
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "content_blocked")


def test_a_secret_cut_over_parts_is_masked_in_each(shipped: Gateway, upstream: Upstream) -> None:
    parts = [{"type": "text", "text": "the token " + TOKEN[:20]}, {"type": "text", "text": TOKEN[20:] + " it is"}]
    with shipped.client() as client:
        body = {"model": "up-chat", "messages": [{"role": "user", "content": parts}]}
        answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert TOKEN[4:20] not in upstream.received
    assert TOKEN[20:] not in upstream.received


@pytest.mark.parametrize("entity", ["secret", "blocked entity"])
def test_where_secrets_block_only_the_newest_turn_is_refused(
    governed: Gateway, upstream: Upstream, entity: str
) -> None:
    text = f"my token is {TOKEN}" if entity == "secret" else "my social security number is 536-22-8726"
    older = [{"role": "user", "content": text}, {"role": "assistant", "content": "I see."}]
    with governed.client() as client:
        newest = client.post("/v1/chat/completions", json={"model": "up-chat", "messages": older[:1]})
        body = {"model": "up-chat", "messages": [*older, {"role": "user", "content": "And now?"}]}
        goes_on = client.post("/v1/chat/completions", json=body)
    assert newest.status_code == 403
    assert newest.json()["error"]["gatehouse"]["where"] == "messages[0].content"
    assert "messages[0].content" in newest.json()["error"]["message"]
    assert goes_on.status_code == 200, goes_on.text
    assert TOKEN not in upstream.received
    assert "536-22" not in upstream.received
