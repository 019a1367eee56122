"""A capsule of a real call says who asked, what was decided and what answered; mode `full` also holds the texts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import yaml
from gatehouse.dialects.prompt import commitment, text_of
from gatehouse.ledger.store.salts import salt_of

from tests.support.gateway import Gateway
from tests.support.postgres import Postgres
from tests.support.process import wait_until
from tests.support.redis_server import Redis
from tests.support.upstream import Upstream

MESSAGES = [{"role": "user", "content": "send the lighthouse report"}]
TOOLS = [{"type": "function", "function": {"name": "send_mail", "parameters": {"type": "object", "properties": {}}}}]
CHAT = {"model": "up-chat", "messages": MESSAGES, "tools": TOOLS}


def capsule_of(
    gateway: Gateway, key: str, body: dict[str, Any], headers: dict[str, str] | None = None
) -> dict[str, Any]:
    with gateway.client(key) as client:
        answer = client.post("/v1/chat/completions", json=body, headers=headers)
    call_id = answer.headers["x-gatehouse-call-id"]
    wait_until(lambda: gateway.lines_of(call_id) != [], "the call's line")
    return gateway.capsule(call_id)


def test_a_capsule_says_who_asked_what_answered_and_what_it_cost(upstream_gateway: Gateway, upstream: Upstream) -> None:
    upstream.tool = ("send_mail", '{"to": "the harbour"}')
    key = upstream_gateway.new_key(key_alias="mailer", user_id="u-17")
    said = {"x-gatehouse-agent": "postman", "x-gatehouse-session": "s-1"}
    capsule = capsule_of(upstream_gateway, key, CHAT, said)
    assert capsule["trigger"]["source"] == "mailer"
    assert capsule["trigger"]["user_id"] == "u-17"
    assert (capsule["context"]["agent_id"], capsule["context"]["session_id"]) == ("postman", "s-1")
    assert capsule["reasoning"]["model"] == "up-chat"
    assert capsule["reasoning"]["selected_option"] == "allow"
    assert len(capsule["context"]["environment"]["policy_version"]) == 64
    assert capsule["execution"]["resources_used"]["tokens_total"] == 5
    assert float(capsule["execution"]["resources_used"]["cost_usd"]) == pytest.approx(7e-6)
    assert [call["tool"] for call in capsule["execution"]["tool_calls"]] == ["send_mail"]
    assert capsule["outcome"]["status"] == "success"


def hash_of(gateway: Gateway, capsule: dict[str, Any]) -> str:
    """Return the hash that a capsule of CHAT should have, by the salt beside it."""
    with psycopg.connect(gateway.database_url) as connection:
        salt = salt_of(connection, UUID(capsule["id"]))
    assert salt is not None
    return commitment(text_of(CHAT) or "", salt)


def test_in_mode_hash_it_holds_the_prompts_hash_and_no_word_of_it(
    upstream_gateway: Gateway, upstream: Upstream
) -> None:
    upstream.tool = ("send_mail", '{"to": "the harbour"}')
    capsule = capsule_of(upstream_gateway, upstream_gateway.new_key(), CHAT)
    assert capsule["reasoning"]["prompt_hash"] == hash_of(upstream_gateway, capsule)
    text = json.dumps(capsule)
    assert "lighthouse" not in text
    assert "harbour" not in text
    assert capsule["context"]["environment"]["content"] == "hash"


def test_a_refused_call_is_sealed_as_blocked(upstream_gateway: Gateway, upstream: Upstream) -> None:
    capsule = capsule_of(upstream_gateway, upstream_gateway.new_key(models=["demo"]), CHAT)
    assert capsule["outcome"]["status"] == "blocked"
    assert capsule["reasoning"]["prompt_hash"] == hash_of(upstream_gateway, capsule)
    limited = capsule_of(upstream_gateway, upstream_gateway.new_key(), CHAT, {"x-gatehouse-max-tokens": "1"})
    assert limited["outcome"]["status"] == "blocked"
    assert limited["reasoning"]["prompt_hash"] == hash_of(upstream_gateway, limited)
    assert upstream.requests == []


@pytest.fixture
def keeping_gateway(
    postgres: Postgres, redis_server: Redis, upstream_config: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Any:
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"version: 1\npii: {{mode: observe}}\naudit: {{content: {request.param}}}\n")
    config = tmp_path / "config.yaml"
    document = yaml.safe_load(upstream_config.read_text())
    document["litellm_settings"]["turn_off_message_logging"] = False
    config.write_text(yaml.safe_dump(document))
    server = Gateway(postgres.create_database(), redis_server.port, config=config, policy=policy).start(180)
    yield server
    server.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("keeping_gateway", ["full"], indirect=True)
def test_in_mode_full_it_holds_what_was_said(keeping_gateway: Gateway, upstream: Upstream) -> None:
    capsule = capsule_of(keeping_gateway, keeping_gateway.new_key(), CHAT)
    assert json.loads(capsule["trigger"]["request"]) == CHAT
    assert "Hello from upstream" in capsule["outcome"]["result"]
    streamed = capsule_of(keeping_gateway, keeping_gateway.new_key(), CHAT | {"stream": True})
    assert "Hello from upstream" in streamed["outcome"]["result"]
    upstream.tool = ("send_mail", '{"to": "the harbour"}')
    asked = capsule_of(keeping_gateway, keeping_gateway.new_key(), CHAT)
    assert asked["execution"]["tool_calls"][0]["arguments"] == {"json": '{"to": "the harbour"}'}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("keeping_gateway", ["redacted"], indirect=True)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_in_mode_redacted_it_holds_no_personal_data(keeping_gateway: Gateway, upstream: Upstream, stream: bool) -> None:
    mine, models = "ada@example.com", "charles@example.com"
    upstream.says = lambda body: f"I wrote to {mine} and {models}"
    asked = CHAT | {"messages": [{"role": "user", "content": f"Write to {mine}"}], "stream": stream}
    capsule = capsule_of(keeping_gateway, keeping_gateway.new_key(), asked)
    assert mine in upstream.received  # it is only observed on its way
    (asked_of,) = re.findall(r"Write to (<EMAIL_ADDRESS_\w{8}>)", capsule["trigger"]["request"])
    (wrote_to,) = re.findall(r"I wrote to (<\w+>) and (<EMAIL_ADDRESS_\w{8}>)", capsule["outcome"]["result"])
    assert wrote_to[0] == asked_of != wrote_to[1]
    assert "@example.com" not in json.dumps(capsule)
