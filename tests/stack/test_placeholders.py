"""A value has one placeholder in a team: on every gateway with the installation's secret, and after a restart.

A provider caches the beginning of a prompt by its bytes, so what came before stays as it was.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import Gateway
from tests.support.redis_server import Redis
from tests.support.upstream import Upstream
from tests.support.what_arrived import elements, fields

MAIL = "ada.lovelace@example.com"
TURNS = 30
SYSTEM = "You write to people. Questions go to help@example.com, or +44 20 7946 0958."
SCHEMA = {"type": "object", "properties": {"to": {"type": "string", "description": "such as jane@example.com"}}}
TOLD = {"name": "send", "description": "Sends mail as robot@example.com; a price is 1.10 or caf\u00e9"}


@dataclass
class Dialect:
    """Speaks one API.

    Attributes:
        before: the fields that stand before the conversation, whose bytes stay the same.
        said: the field that holds the conversation.
    """

    path: str
    body: dict[str, Any]
    before: tuple[str, ...]
    said: str

    def answer(self, text: str) -> str:
        """Return what the model says in an answer, plain or streamed."""
        if text.startswith("{"):
            return "".join(_texts(json.loads(text)))
        events = [
            json.loads(line[5:]) for line in text.splitlines() if line.startswith("data:") and "[DONE]" not in line
        ]
        return "".join(_piece(event) for event in events)


def _texts(answer: dict[str, Any]) -> list[str]:
    if "choices" in answer:
        return [answer["choices"][0]["message"]["content"]]
    parts = answer.get("content") or [part for item in answer["output"] for part in item.get("content", ())]
    return [part["text"] for part in parts]


def _piece(event: dict[str, Any]) -> str:
    if "choices" in event:
        return "".join(choice["delta"].get("content") or "" for choice in event["choices"])
    delta = event.get("delta")
    return delta if isinstance(delta, str) else (delta or {}).get("text", "")


DIALECTS = {
    "chat": Dialect(
        "/v1/chat/completions",
        {
            "model": "up-chat",
            "messages": [{"role": "system", "content": SYSTEM}],
            "tools": [{"type": "function", "function": {**TOLD, "parameters": SCHEMA}}],
        },
        ("tools",),
        "messages",
    ),
    "messages": Dialect(
        "/v1/messages",
        {
            "model": "up-claude",
            "max_tokens": 50,
            "messages": [],
            "system": [{"type": "text", "text": SYSTEM, "cache_control": {"type": "ephemeral"}}],
            "tools": [{**TOLD, "input_schema": SCHEMA}],
        },
        ("tools", "system"),
        "messages",
    ),
    "responses": Dialect(
        "/v1/responses",
        {
            "model": "up-chat",
            "store": False,
            "instructions": SYSTEM,
            "tools": [{"type": "function", **TOLD, "parameters": SCHEMA, "strict": False}],
            "input": [],
        },
        ("tools", "instructions"),
        "input",
    ),
}


def placeholder(gateway: Gateway, key: str, upstream: Upstream) -> str:
    """Return what the provider gets instead of the address, which comes back to the caller."""
    upstream.requests.clear()
    upstream.says = lambda body: f"I wrote to {' '.join(re.findall(r'EMAIL_ADDRESS_[0-9A-Z]{8}', body)[:1]).lower()}."
    asked = {"model": "up-chat", "max_tokens": 10, "messages": [{"role": "user", "content": f"Write to {MAIL}"}]}
    with gateway.client(key) as client:
        answer = client.post("/v1/chat/completions", json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == f"I wrote to {MAIL}."
    (found,) = re.findall(r"Write to (<EMAIL_ADDRESS_\w{8}>)", upstream.received)
    return str(found)


def ask(gateway: Gateway, key: str, upstream: Upstream, dialect: Dialect, body: dict[str, Any]) -> tuple[str, bytes]:
    """Return the model's answer, and what the provider got."""
    upstream.requests.clear()
    with gateway.client(key) as client:
        answer = client.post(dialect.path, json=body)
    assert answer.status_code == 200, answer.text
    ((_, arrived),) = upstream.requests
    return dialect.answer(answer.text), arrived


def conversation(
    gateway: Gateway, key: str, upstream: Upstream, dialect: Dialect, stream: bool
) -> list[dict[str, Any]]:
    """Hold a conversation with a new person in each turn, compare what arrives, and return its bodies."""
    body = dialect.body | {"stream": stream}
    bodies, before = [], b""
    for turn in range(TURNS):
        person = f"person{turn}@example.com"
        body = body | {
            dialect.said: [*body[dialect.said], {"role": "user", "content": f"{turn}: write to {person}, please."}]
        }
        bodies.append(body)
        said, arrived = ask(gateway, key, upstream, dialect, body)
        assert said == f"I wrote to {person}."
        assert b"@example.com" not in arrived
        if before:
            assert_goes_on(dialect, before, arrived)
        body = body | {dialect.said: [*body[dialect.said], {"role": "assistant", "content": said}]}
        before = arrived
    return bodies


def assert_goes_on(dialect: Dialect, before: bytes, after: bytes) -> None:
    """Check that all that the provider got before is in what it gets now, byte for byte."""
    was, now = fields(before), fields(after)
    assert all(was[name] == now[name] for name in dialect.before)
    old, new = elements(was[dialect.said]), elements(now[dialect.said])
    assert len(old) < len(new)
    assert new[: len(old)] == old


def says_whom(body: str) -> str:
    """Answer with the newest person, as models write it: without brackets, in lower case."""
    return f"I wrote to {re.findall(r': write to <(EMAIL_ADDRESS_[0-9A-Z]{8})>', body)[-1].lower()}."


@pytest.mark.timeout(600)
def test_gateways_with_one_secret_give_the_same_placeholders_and_another_team_gets_others(
    governed: Gateway, redis_server: Redis, upstream_config: Path, tmp_path: Path, upstream: Upstream
) -> None:
    with governed.client() as client:
        teams = [client.post("/team/new", json={}).json()["team_id"] for _ in range(2)]
    mine, colleagues, others = (governed.new_key(team_id=team) for team in (teams[0], *teams))
    alone = governed.new_key()
    given = placeholder(governed, mine, upstream)
    assert placeholder(governed, colleagues, upstream) == given
    assert len({given, placeholder(governed, others, upstream), placeholder(governed, alone, upstream)}) == 3
    upstream.says = says_whom
    held = [
        (dialect, conversation(governed, mine, upstream, dialect, stream))
        for dialect in DIALECTS.values()
        for stream in (False, True)
    ]
    arrived = [ask(governed, mine, upstream, dialect, bodies[-1])[1] for dialect, bodies in held]
    with governed.client() as client:
        client.post("/team/update", json={"team_id": teams[0], "team_alias": "renamed"}).raise_for_status()
    (tmp_path / "policy.yaml").write_text("version: 1\npii: {mode: mask}\n")
    second = Gateway(
        governed.database_url,
        redis_server.port,
        config=upstream_config,
        policy=tmp_path / "policy.yaml",
        folder=governed.folder,
    )
    try:
        for _ in range(2):  # and after a restart
            second.start()
            assert placeholder(second, mine, upstream) == given
            upstream.says = says_whom
            for (dialect, bodies), before in zip(held, arrived, strict=True):
                assert ask(second, colleagues, upstream, dialect, bodies[-1])[1] == before
            second.server.stop()
    finally:
        second.server.stop()
