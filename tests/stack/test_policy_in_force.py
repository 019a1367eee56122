"""The policy works while the gateway runs: changes, obligations, fallbacks, and a trial on recorded calls."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from tests.support.gateway import METRICS_TOKEN, REPOSITORY, Gateway
from tests.support.postgres import Postgres
from tests.support.process import PATIENCE_S, wait_until
from tests.support.redis_server import Redis
from tests.support.upstream import Upstream

MAIL = "ada.lovelace@example.com"
POLICY = """
version: 1
pii: {mode: observe}
rules:
  - id: long-answers
    when: request.max_tokens > 100 || request.max_tokens == 0
    then: allow
    obligations: {max_tokens: 100, tag: shortened}
  - id: secret-agents
    when: agent.id == "masked"
    then: allow
    obligations: {mask: true}
  - id: dear-models
    when: agent.id == "cheap" && request.model == "up-chat"
    then: allow
    obligations: {downgrade_to: up-small}
  - id: no-claude
    when: request.model == "up-claude" || request.model == "up-last"
    then: deny
    reason: Claude is not for you.
"""


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    path.write_text(POLICY)
    return path


@pytest.fixture(scope="module")
def ruled(postgres: Postgres, redis_server: Redis, upstream_config: Path, policy: Path) -> Iterator[Gateway]:
    config = yaml.safe_load(upstream_config.read_text())
    (small,) = (model for model in config["model_list"] if model["model_name"] == "up-chat")
    config["model_list"].append(
        {**small, "model_name": "up-small", "litellm_params": small["litellm_params"] | {"model": "openai/gpt-4o-mini"}}
    )
    config["model_list"].append({**small, "model_name": "up-last"})
    config["model_list"].append(
        {
            **small,
            "model_name": "up-broken",
            "litellm_params": small["litellm_params"] | {"api_base": "http://127.0.0.1:9/v1"},
        }
    )
    config["router_settings"]["fallbacks"] = [{"up-broken": ["up-last"]}]
    path = policy.parent / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    server = Gateway(postgres.create_database(), redis_server.port, config=path, policy=policy).start()
    yield server
    server.close()


def ask(gateway: Gateway, *, agent: str = "", **fields: Any) -> httpx.Response:
    body = {"model": "up-chat", "messages": [{"role": "user", "content": f"Write to {MAIL}"}], **fields}
    with gateway.client() as client:
        return client.post("/v1/chat/completions", json=body, headers={"x-gatehouse-agent": agent})


def arrived(upstream: Upstream) -> dict[str, Any]:
    ((_, body),) = upstream.requests
    return dict(json.loads(body))


def test_an_answer_is_made_as_short_as_a_rule_obliges(ruled: Gateway, upstream: Upstream) -> None:
    for fields, name, expected in (
        ({}, "max_tokens", 100),
        ({"max_tokens": 5000}, "max_tokens", 100),
        ({"max_completion_tokens": 5000}, "max_completion_tokens", 100),
        ({"max_tokens": 7}, "max_tokens", 7),
    ):
        upstream.reset()
        assert ask(ruled, **fields).status_code == 200
        assert arrived(upstream)[name] == expected


def test_what_is_only_observed_is_masked_where_a_rule_obliges(ruled: Gateway, upstream: Upstream) -> None:
    assert ask(ruled).status_code == 200
    assert MAIL in upstream.received
    upstream.reset()
    upstream.says = lambda body: " ".join(re.findall(r"<[A-Z_]+_\w{8,10}>", body))
    answer = ask(ruled, agent="masked")
    assert MAIL not in upstream.received
    assert answer.json()["choices"][0]["message"]["content"] == MAIL


def test_a_call_goes_to_the_smaller_model_where_a_rule_obliges(ruled: Gateway, upstream: Upstream) -> None:
    assert ask(ruled, agent="cheap").status_code == 200
    assert arrived(upstream)["model"] == "gpt-4o-mini"


def test_a_model_that_a_rule_forbids_is_not_reached_by_falling_back_to_it(ruled: Gateway, upstream: Upstream) -> None:
    answer = ask(ruled, model="up-broken")
    assert upstream.requests == []
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "policy_denied")


def test_a_tag_and_the_facts_are_recorded_with_the_decision(ruled: Gateway, upstream: Upstream) -> None:
    call_id = ask(ruled).headers["x-gatehouse-call-id"]
    ruled.wait_settled()
    (row,) = rows(ruled, call_id)
    assert row["policies"] == ["long-answers"]
    assert row["obligation"] == {"max_tokens": 100, "tags": ["shortened"]}
    assert row["facts"]["pii"] == {"EMAIL_ADDRESS": 1}
    assert row["facts"]["request"]["model"] == "up-chat"
    assert MAIL not in json.dumps(row)


def rows(gateway: Gateway, call_id: str) -> list[dict[str, Any]]:
    import psycopg

    with psycopg.connect(gateway.database_url) as connection:
        found = connection.execute("select decision from gatehouse.calls where call_id = %s", (call_id,)).fetchall()
    return [row[0] for row in found]


def gatehouse(gateway: Gateway, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert gateway.server.env is not None
    command = [gateway.server.command[0], *arguments]
    return subprocess.run(command, env=gateway.server.env, capture_output=True, text=True, cwd=REPOSITORY, check=False)


def test_replay_says_what_another_policy_would_change(ruled: Gateway, upstream: Upstream, tmp_path: Path) -> None:
    call_id = ask(ruled, user="a-customer-of-note").headers["x-gatehouse-call-id"]
    ruled.wait_settled()
    same = gatehouse(ruled, "policy", "replay", "--since", "1h", "--json")
    assert json.loads(same.stdout)["changed"] == 0, same.stdout + same.stderr
    other = tmp_path / "other.yaml"
    other.write_text(
        "version: 1\nrules:\n  - {id: customers, when: caller.end_user == 'a-customer-of-note', then: deny}\n"
    )
    changed = gatehouse(ruled, "policy", "replay", str(other))
    assert f"allow -> deny: 1   such as {call_id}" in changed.stdout, changed.stdout + changed.stderr
    assert "rule customers matches more: 1" in changed.stdout
    wrong = gatehouse(ruled, "policy", "replay", "--since", "yesterday")
    assert (wrong.returncode, "not a time" in wrong.stderr) == (1, True)


def metric(gateway: Gateway, name: str) -> float:
    page = httpx.get(f"{gateway.url}/metrics", headers={"authorization": f"Bearer {METRICS_TOKEN}"}).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(name))


def test_every_stage_is_seen_in_the_metrics(ruled: Gateway, upstream: Upstream) -> None:
    ask(ruled)
    ask(ruled, model="up-claude")
    for name in (
        'gatehouse_decisions_total{verdict="allow"}',
        'gatehouse_decisions_total{verdict="deny"}',
        'gatehouse_rules_matched_total{mode="enforce",rule="no-claude"}',
        'gatehouse_findings_total{entity="EMAIL_ADDRESS"}',
        'gatehouse_blocks_total{code="policy_denied"}',
        *(
            f'gatehouse_stage_seconds_count{{stage="{stage}"}}'
            for stage in ("read", "limits", "scan", "policy", "mask")
        ),
    ):
        assert metric(ruled, name) > 0, name
    assert metric(ruled, "gatehouse_policy_good") == 1


def test_texts_are_scanned_ahead_for_whoever_was_admitted_last(ruled: Gateway, upstream: Upstream) -> None:
    def ahead() -> float:
        before = metric(ruled, "gatehouse_prescans_total")
        ask(ruled)
        return metric(ruled, "gatehouse_prescans_total") - before

    ask(ruled)
    assert ahead() == 1
    ask(ruled, model="up-claude")  # refused
    assert [ahead(), ahead()] == [0, 1]


def test_a_scanner_that_dies_or_hangs_lets_nothing_through(ruled: Gateway, upstream: Upstream) -> None:
    scanners = [
        child
        for child in psutil.Process(ruled.server.pid).children()
        if "gatehouse.guards.worker" in " ".join(child.cmdline())
    ]
    assert len(scanners) == 2
    for number in (signal.SIGKILL, signal.SIGSTOP):
        for scanner in scanners:
            os.kill(scanner.pid, number)
        answer = ask(ruled, agent="masked", messages=[{"role": "user", "content": f"{MAIL} {number}"}])
        if answer.status_code == 200:  # another one was there in time, and has read it
            assert MAIL not in upstream.received
        else:
            assert answer.status_code in (403, 503)
            assert answer.json()["error"]["code"] in ("governance_unavailable", "pii_blocked")
            assert upstream.requests == []
        wait_until(lambda: ask(ruled, messages=[{"role": "user", "content": "hello"}]).status_code == 200, "new ones")
        upstream.reset()
        scanners = [
            child
            for child in psutil.Process(ruled.server.pid).children()
            if "gatehouse.guards.worker" in " ".join(child.cmdline())
        ]


def health(gateway: Gateway) -> dict[str, Any]:
    return dict(httpx.get(f"{gateway.url}/governance/v1/health", timeout=PATIENCE_S).json())


def test_a_changed_policy_is_in_force_soon_and_a_bad_one_never(
    ruled: Gateway, upstream: Upstream, policy: Path
) -> None:
    before = health(ruled)["policy_version"]
    policy.write_text("version: 1\nscreens: {blocked_content: {words: [kumquat]}}\n")

    def kumquat() -> int:
        return ask(ruled, messages=[{"role": "user", "content": "a kumquat"}]).status_code

    wait_until(lambda: kumquat() == 403, "the new policy is in force")
    wait_until(lambda: health(ruled)["policy_version"] != before, "health has looked again")
    bad = metric(ruled, 'gatehouse_policy_loads_total{result="bad"}')
    for text in ("version: 1\nruels: []\n", "version: 1\naudit: {content: full}\n"):
        policy.write_text(text)
        wait_until(lambda: metric(ruled, "gatehouse_policy_good") == 0, "the bad file is noticed")
        assert kumquat() == 403
        wait_until(lambda: health(ruled)["parts"]["policy"] == "stale", "health has looked again")
        policy.write_text("version: 1\nscreens: {blocked_content: {words: [kumquat]}}\n")
        wait_until(lambda: metric(ruled, "gatehouse_policy_good") == 1, "the good file is back")
    assert metric(ruled, 'gatehouse_policy_loads_total{result="bad"}') >= bad + 2
    policy.write_text(POLICY)
    wait_until(lambda: kumquat() == 200, "the first policy is back")
