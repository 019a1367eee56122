"""OpenAI's Codex CLI from npm works behind the gateway as shipped, configured as docs/agents.md says.

A provider of the tests' own stands for OpenAI. `tests/support/codex.py` installs Codex; where it cannot be had these
tests fail.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.codex import Codex
from tests.support.gateway import REPOSITORY, Gateway
from tests.support.markdown import blocks
from tests.support.postgres import Postgres
from tests.support.process import wait_until
from tests.support.redis_server import Redis
from tests.support.upstream import ENCRYPTED_REASONING, Upstream

ADDRESS = "margaret.hamilton@example.com"
TOKEN = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"
PLACEHOLDER = re.compile(r"<(?:EMAIL_ADDRESS|SECRET)_\w+>")


@pytest.fixture(scope="module")
def shipped(
    postgres: Postgres, redis_server: Redis, upstream_config: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Start a gateway with the shipped policy and one forbidden phrase, and `up-chat` beside the shipped models."""
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    text = (REPOSITORY / "policy.yaml").read_text()
    example = "# blocked_content: {weapons: [a word, a whole phrase]}"
    assert example in text
    policy.write_text(text.replace(example, "blocked_content: {weapons: [forbidden fruit]}"))
    server = Gateway(postgres.create_database(), redis_server.port, config=upstream_config, policy=policy).start()
    yield server
    server.close()


@pytest.fixture
def codex(shipped: Gateway, upstream: Upstream, tmp_path: Path) -> Codex:
    """Make a Codex that is configured as docs/agents.md says, with an ordinary key."""
    [shown] = [block.code for block in blocks(REPOSITORY, "docs/agents.md") if block.language == "toml"]
    assert "http://127.0.0.1:4000/v1" in shown
    return Codex.create(tmp_path, shown.replace("http://127.0.0.1:4000", shipped.url), shipped.new_key())


@pytest.fixture
def sealed(shipped: Gateway) -> Callable[[], list[dict[str, Any]]]:
    """Return the ledger's records of the calls since the test began, once all are sealed."""
    known = set(shipped.calls())

    def records() -> list[dict[str, Any]]:
        shipped.wait_settled()
        new = {call_id: row["record"]["data"] for call_id, row in shipped.calls().items() if call_id not in known}
        for call_id in new:
            shipped.capsule(call_id)
        return list(new.values())

    return records


def test_it_gets_an_answer(codex: Codex, upstream: Upstream, sealed: Callable[[], list[dict[str, Any]]]) -> None:
    done = codex.run("up-chat", "Say hello.")
    assert (done.returncode, done.stdout) == (0, "Hello from upstream\n"), done.stderr
    [(path, body)] = upstream.requests
    asked = json.loads(body)
    assert path == "/v1/responses"
    assert asked["input"][-1]["content"] == [{"type": "input_text", "text": "Say hello."}]
    assert asked["include"] == ["reasoning.encrypted_content"]
    [record] = sealed()
    assert (record["decision"], record["http_status"], record["route"]) == ("allow", 200, "/v1/responses")
    # Codex hangs up with the last event. It has had its answer all the same.
    assert (record["status"], record["client_gone"]) == ("success", False)


def test_what_its_tools_read_is_masked_and_what_it_prints_is_not(
    codex: Codex, upstream: Upstream, sealed: Callable[[], list[dict[str, Any]]]
) -> None:
    (codex.work / "notes.txt").write_text(f"Write to {ADDRESS} soon.\n")
    upstream.tool = ("exec_command", json.dumps({"cmd": "cat notes.txt"}))
    upstream.says = lambda asked: f"The address is {placeholder_in(asked)}."
    done = codex.run("up-chat", "Whom do my notes name?")
    assert (done.returncode, done.stdout) == (0, f"The address is {ADDRESS}.\n"), done.stderr
    assert ADDRESS not in upstream.received
    _, second = (json.loads(body) for _, body in upstream.requests)
    thought, called, told = second["input"][-3:]
    assert thought["encrypted_content"] == ENCRYPTED_REASONING
    assert called["name"] == "exec_command"
    assert PLACEHOLDER.search(told["output"])
    assert [record["status"] for record in sealed()] == ["success", "success"]


@pytest.mark.parametrize("value", [ADDRESS, TOKEN], ids=["address", "secret"])
def test_its_commands_get_the_values_behind_the_placeholders(codex: Codex, upstream: Upstream, value: str) -> None:
    def ask_for_a_file() -> None:
        command = f"printf %s '{placeholder_in(upstream.received)}' > found.txt"
        upstream.tool = ("exec_command", json.dumps({"cmd": command}))

    upstream.on_request = ask_for_a_file
    done = codex.run("up-chat", f"Write {value} into found.txt.")
    assert done.returncode == 0, done.stderr
    assert (codex.work / "found.txt").read_text() == value
    assert value not in upstream.received


def test_it_shows_what_the_gateway_refused(
    codex: Codex, upstream: Upstream, sealed: Callable[[], list[dict[str, Any]]]
) -> None:
    done = codex.run("up-chat", "Where does the forbidden fruit grow?")
    assert done.returncode == 1
    assert "Blocked by blocked_content/weapons" in done.stderr
    assert upstream.requests == []
    # Codex asks again, as often as its configuration says. A refused call has no intent that it is waited for by.
    wait_until(lambda: len(sealed()) >= 2, "both refusals are sealed")
    assert [record["status"] for record in sealed()] == ["blocked"] * 2


def placeholder_in(text: str) -> str:
    found = PLACEHOLDER.search(text)
    return found[0] if found else "nobody"
