"""An operator lists, stops and resumes the sessions of agents; a stopped session sends nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
from gatehouse.core.keys import InstallationKeys, Purpose
from gatehouse.core.names import hidden
from gatehouse.proxy.identity import key_hash

from tests.support.gateway import INSTALLATION_SECRET, Gateway
from tests.support.process import wait_until
from tests.support.upstream import Upstream

BODY = {"model": "up-chat", "messages": [{"role": "user", "content": "hello"}]}


def sessions(gateway: Gateway, *arguments: str, fails: bool = False) -> str:
    """Run `gatehouse sessions`; return what it printed."""
    environ = os.environ | {
        "DATABASE_URL": gateway.database_url,
        "GATEHOUSE_HOME": str(gateway.folder),
        "GATEHOUSE_SECRET": INSTALLATION_SECRET,
    }
    command = [Path(sys.executable).parent / "gatehouse", "sessions", *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stderr if fails else done.stdout


def ask(gateway: Gateway, key: str, session: str, route: str = "/v1/chat/completions") -> httpx.Response:
    with gateway.client(key) as client:
        body = BODY | {"max_tokens": 5} if route == "/v1/messages" else BODY
        headers = {"x-gatehouse-session": session, "x-gatehouse-agent": "planner"}
        return client.post(route, json=body, headers=headers)


def test_a_session_is_listed_stopped_and_resumed(upstream_gateway: Gateway, upstream: Upstream) -> None:
    gateway = upstream_gateway
    key, other = gateway.new_key(key_alias="sessions-one"), gateway.new_key(key_alias="sessions-two")
    for caller, session in ((key, "night-run"), (key, "day-run"), (other, "night-run")):
        assert ask(gateway, caller, session).status_code == 200
    gateway.wait_settled()
    found = {(each["key_alias"], each["session"]): each for each in json.loads(sessions(gateway, "list", "--json"))}
    assert found["sessions-one", "night-run"]["calls"] == 1
    assert found["sessions-one", "night-run"]["key_hash"] == key_hash(key)
    assert found["sessions-one", "night-run"]["cost_usd"] > 0

    assert "Give --key with one of these" in sessions(gateway, "stop", "night-run", fails=True)
    assert "no call named it" in sessions(gateway, "stop", "no-such-run", fails=True)
    assert sessions(gateway, "stop", "night-run", "--key", "sessions-one") == "stopped  night-run  (key sessions-one)\n"
    wait_until(lambda: ask(gateway, key, "night-run").status_code == 403, "the session is stopped")
    before = len(upstream.requests)
    refused = ask(gateway, key, "night-run")
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["gatehouse"]["policies"]) == (
        403,
        "session_stopped",
        ["sessions"],
    )
    assert ask(gateway, key, "night-run", "/v1/messages").json()["error"]["type"]
    assert len(upstream.requests) == before
    for caller, session in ((key, "day-run"), (other, "night-run")):
        assert ask(gateway, caller, session).status_code == 200
    assert "stopped" in next(
        line for line in sessions(gateway, "list").splitlines() if "night-run  (key sessions-one)" in line
    )

    sessions(gateway, "resume", "night-run", "--key", "sessions-one")
    wait_until(lambda: ask(gateway, key, "night-run").status_code == 200, "the session goes on")
    gateway.wait_settled()
    record = gateway.capsule(refused.headers["x-gatehouse-call-id"])
    assert "session_stopped" in json.dumps(record)


def test_a_session_whose_name_is_no_plain_name_is_stopped_by_that_name_and_kept_as_a_hash(
    governed: Gateway, upstream: Upstream
) -> None:
    gateway = governed
    key = gateway.new_key()
    name = "Ada Lovelace +44 20 7946 0958"
    assert ask(gateway, key, name).status_code == 200
    gateway.wait_settled()
    hashed = hidden(name, InstallationKeys(INSTALLATION_SECRET).key(Purpose.RECORDS))
    assert hashed in sessions(gateway, "stop", name)
    wait_until(lambda: ask(gateway, key, name).status_code == 403, "the session is stopped")
    assert "Lovelace" not in sessions(gateway, "list", "--json")
    sessions(gateway, "resume", hashed)
    wait_until(lambda: ask(gateway, key, name).status_code == 200, "the session goes on")
