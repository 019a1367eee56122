"""No setting that is stored with a key or a team reaches a provider, whether new or of an older version."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from tests.support.gateway import Gateway
from tests.support.process import wait_until
from tests.support.upstream import Upstream

CANARY = "ada.lovelace@example.com"
SPEAKS = {"fallbacks": [{"up-chat": [{"model": "up-chat", "messages": [{"role": "user", "content": CANARY}]}]}]}
NAMES = {"fallbacks": [{"up-chat": ["up-claude"]}], "num_retries": 0}


def ask(gateway: Gateway, key: str) -> Any:
    body = {"model": "up-chat", "messages": [{"role": "user", "content": "hello"}]}
    with gateway.client(key) as client:
        return client.post("/v1/chat/completions", json=body)


@pytest.mark.parametrize("path", ["/key/generate", "/key/service-account/generate", "/team/new", "/user/new"])
def test_settings_that_speak_are_not_stored(upstream_gateway: Gateway, path: str) -> None:
    for body in ({"router_settings": SPEAKS}, {"metadata": {"logging": [{"callback_name": "langfuse"}]}}):
        with upstream_gateway.client() as admin:
            answer = admin.post(path, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
        assert CANARY not in answer.text


def test_settings_that_name_models_are_stored_and_obeyed(upstream_gateway: Gateway, upstream: Upstream) -> None:
    key = upstream_gateway.new_key(router_settings=NAMES)
    with upstream_gateway.client(key) as client:
        assert client.get("/key/info").json()["info"]["router_settings"]["fallbacks"] == NAMES["fallbacks"]
    assert ask(upstream_gateway, key).status_code == 200
    assert CANARY not in upstream.received


@pytest.mark.parametrize("where", ["key", "team"])
def test_settings_that_were_stored_before_are_refused_when_they_would_be_obeyed(
    upstream_gateway: Gateway, upstream: Upstream, where: str
) -> None:
    with upstream_gateway.client() as admin:
        team = admin.post("/team/new", json={"team_alias": f"older-{where}"}).json()["team_id"]
    key = upstream_gateway.new_key(team_id=team)
    table = '"LiteLLM_VerificationToken"' if where == "key" else '"LiteLLM_TeamTable"'
    with psycopg.connect(upstream_gateway.database_url) as connection:
        connection.execute(f"update {table} set router_settings = %s where team_id = %s", (json.dumps(SPEAKS), team))
    with upstream_gateway.client() as admin:  # LiteLLM would know the team for a minute before it looks at it again
        assert admin.post("/team/update", json={"team_id": team, "team_alias": f"old-{where}"}).status_code == 200
    wait_until(lambda: ask(upstream_gateway, key).status_code == 400, "the settings are read")
    upstream.reset()
    upstream.status = 500  # so that LiteLLM would fall back
    answer = ask(upstream_gateway, key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request"), answer.text
    assert "router_settings.fallbacks" in answer.json()["error"]["message"]
    assert upstream.requests == []
