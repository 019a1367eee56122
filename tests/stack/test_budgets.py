"""Budgets hold over two gateways on one database: what calls may cost is reserved, what they did cost is charged."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import redis
import yaml

from tests.support.gateway import REPOSITORY, Gateway
from tests.support.postgres import Postgres
from tests.support.prefork import constants
from tests.support.process import wait_until
from tests.support.redis_server import PASSWORD, Redis
from tests.support.upstream import Upstream

pytestmark = pytest.mark.timeout(600)

BODY = {"model": "up-chat", "max_tokens": 100, "messages": [{"role": "user", "content": "What does it cost?"}]}
COST = 7e-6  # the recording provider counts 3 tokens in and 2 out
SOON = constants({"gatehouse.ledger.recovery:DEAD_AFTER_S": 2.0, "gatehouse.ledger.settlement_writer:HEARTBEAT_S": 0.5})


@pytest.fixture(scope="module")
def pair(postgres: Postgres, own_redis: Redis, upstream_config: Path) -> Iterator[tuple[Gateway, Gateway]]:
    url = postgres.create_database()
    first = Gateway(url, own_redis.port, config=upstream_config, environ=SOON).start()
    second = Gateway(url, own_redis.port, config=upstream_config, folder=first.folder, environ=SOON).start()
    yield first, second
    second.close()
    first.close()


def ask(gateway: Gateway, key: str, **fields: Any) -> httpx.Response:
    with gateway.client(key) as client:
        return client.post("/v1/chat/completions", json={**BODY, **fields})


def estimate(gateway: Gateway, **fields: Any) -> float:
    with gateway.client() as client:
        return float(client.post("/governance/v1/estimate", json={**BODY, **fields}).json()["estimated_cost_usd"])


def query(gateway: Gateway, statement: str, *values: object) -> Any:
    with psycopg.connect(gateway.database_url) as connection:
        row = connection.execute(statement.encode(), values).fetchone()
        assert row is not None
        return row[0]


def spend_of(gateway: Gateway, key: str) -> float:
    """Return what the key has spent by LiteLLM's own table."""
    statement = """select spend from "LiteLLM_VerificationToken" where token = encode(sha256(%s::bytea), 'hex')"""
    return float(query(gateway, statement, key))


def execute(gateway: Gateway, statement: str, *values: object) -> None:
    with psycopg.connect(gateway.database_url) as connection:
        connection.execute(statement.encode(), values)


_ORGANIZATION = """insert into "LiteLLM_OrganizationTable" (organization_id, organization_alias, budget_id, models,
                                                         created_by, updated_by)
                   values ('payers', 'payers', 'payers-budget', '{up-chat}', 'test', 'test')"""
_MEMBER = """update "LiteLLM_VerificationToken" set organization_id = 'payers'
              where token = encode(sha256(%s::bytea), 'hex')"""


def reserved(gateway: Gateway) -> float:
    return float(query(gateway, "select coalesce(sum(reserved), 0) from gatehouse.budgets"))


def settled(gateway: Gateway) -> bool:
    return bool(query(gateway, "select count(*) = 0 from gatehouse.calls where settled_at is null"))


@contextmanager
def holding(upstream: Upstream, pool: ThreadPoolExecutor) -> Iterator[threading.Event]:
    """Keep the provider from answering until the event is set, or the test is over."""
    event = upstream.holds = threading.Event()
    with pool:
        try:
            yield event
        finally:
            event.set()


def test_calls_that_run_at_once_cannot_cost_more_than_a_budget(
    pair: tuple[Gateway, Gateway], upstream: Upstream
) -> None:
    first, second = pair
    each = estimate(first)
    key = first.new_key(max_budget=5.5 * each)
    with holding(upstream, pool := ThreadPoolExecutor(12)) as answered:
        asked = [pool.submit(ask, gateway, key) for gateway in (first, second) * 6]
        wait_until(lambda: sum(each.done() for each in asked) == 7, "seven have no room")
        wait_until(lambda: len(upstream.requests) == 5, "five are sent")
        answered.set()
        codes = sorted(each.result().status_code for each in asked)
    assert codes == [200] * 5 + [422] * 7
    wait_until(lambda: settled(first), "all calls are settled")
    assert reserved(first) == 0
    assert spend_of(first, key) == pytest.approx(5 * COST, abs=1e-12)
    refusal = next(each.result() for each in asked if each.result().status_code == 422).json()["error"]
    assert (refusal["type"], refusal["code"]) == ("budget_exceeded", "budget_exceeded")
    # There is room again, and nothing that was refused counts.
    assert ask(second, key).status_code == 200


def test_no_call_is_refused_while_a_budget_has_room_for_it(pair: tuple[Gateway, Gateway], upstream: Upstream) -> None:
    first, second = pair
    each = estimate(first)
    key = first.new_key(max_budget=each + 9 * COST)
    codes = [ask(gateway, key).status_code for gateway in (first, second) * 6 if not _wait(first)]
    assert codes == [200] * 10 + [422] * 2


def _wait(gateway: Gateway) -> None:
    wait_until(lambda: settled(gateway), "the call before is settled")


@pytest.mark.parametrize("payer", ["team", "user", "organization", "tag", "end user", "member"])
def test_whoever_pays_is_charged_and_their_budget_holds(
    pair: tuple[Gateway, Gateway], upstream: Upstream, payer: str
) -> None:
    first, second = pair
    most = estimate(first) + 0.5 * COST
    fields: dict[str, Any] = {}
    with first.client() as admin:

        def made(path: str, **body: Any) -> dict[str, Any]:
            answer = admin.post(path, json=body)
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

        budget = {"max_budget": most}
        match payer:
            case "team":
                key = first.new_key(team_id=made("/team/new", **budget)["team_id"])
            case "user":
                key = first.new_key(user_id=made("/user/new", auto_create_key=False, **budget)["user_id"])
            case "organization":
                made("/budget/new", budget_id="payers-budget", **budget)
                key = first.new_key()
                execute(first, _ORGANIZATION)  # LiteLLM makes one only for those who pay it
                execute(first, _MEMBER, key)
            case "tag":
                made("/tag/new", name="payer-tag", **budget)
                key = first.new_key(metadata={"tags": ["payer-tag"]})
            case "end user":
                key = first.new_key()
                made("/customer/new", user_id="payer-customer", **budget)
                fields = {"user": "payer-customer"}
            case "member":
                user = made("/user/new", auto_create_key=False)["user_id"]
                team = made("/team/new")["team_id"]
                member = {"role": "user", "user_id": user}
                made("/team/member_add", team_id=team, member=member, max_budget_in_team=most)
                key = first.new_key(user_id=user, team_id=team)
    assert ask(first, key, **fields).status_code == 200
    _wait(first)
    answer = ask(second, key, **fields)
    assert (answer.status_code, answer.json()["error"]["type"]) == (422, "budget_exceeded"), answer.text


def ledger_usd(gateway: Gateway, key: str) -> float:
    """Return what the ledger says that the key's calls cost."""
    statement = """select coalesce(sum((record->'data'->>'cost_usd')::numeric), 0)::float8 from gatehouse.calls
                    where request->'caller'->>'key_hash' = encode(sha256(%s::bytea), 'hex')"""
    return float(query(gateway, statement, key))


def test_redis_may_lose_everything(pair: tuple[Gateway, Gateway], own_redis: Redis, upstream: Upstream) -> None:
    first, second = pair
    each = estimate(first)
    key = first.new_key(max_budget=4.5 * each)
    server = redis.Redis(port=own_redis.port, password=PASSWORD)
    with holding(upstream, pool := ThreadPoolExecutor(8)) as answered:
        asked: list[Future[httpx.Response]] = [pool.submit(ask, gateway, key) for gateway in (first, second)]
        wait_until(lambda: len(upstream.requests) == 2, "two are under way")
        server.flushall()
        asked += [pool.submit(ask, gateway, key) for gateway in (first, second) * 3]
        wait_until(lambda: sum(each.done() for each in asked) == 4, "four have no room")
        answered.set()
        codes = sorted(each.result().status_code for each in asked)
    assert codes == [200] * 4 + [422] * 4
    _wait(first)
    # A counter that says too much refuses nobody: Postgres is asked before that.
    digest = query(first, "select encode(sha256(%s::bytea), 'hex')", key)
    server.set(f"spend:key:{digest}", 1000)
    assert [ask(gateway, key).status_code for gateway in pair] == [200, 200]
    _wait(first)
    assert spend_of(first, key) == pytest.approx(6 * COST, abs=1e-12)
    assert ledger_usd(first, key) == pytest.approx(6 * COST, abs=1e-12)


def test_what_a_dead_gateway_reserved_is_charged_as_estimated_and_nothing_stays_reserved(
    pair: tuple[Gateway, Gateway], upstream: Upstream
) -> None:
    first, second = pair
    each = estimate(first)
    key = first.new_key(max_budget=3.5 * each)
    assert ask(second, key).status_code == 200
    _wait(first)
    with holding(upstream, pool := ThreadPoolExecutor(4)):
        for _ in range(3):
            pool.submit(ask, second, key)
        wait_until(lambda: len(upstream.requests) == 4, "three under way")
        assert ask(first, key).status_code == 422
        second.server.kill()
    wait_until(lambda: settled(first), "the dead gateway's calls are sealed")
    assert reserved(first) == 0
    assert spend_of(first, key) == pytest.approx(COST + 3 * each, abs=1e-12)
    assert ledger_usd(first, key) == pytest.approx(COST + 3 * each, abs=1e-12)
    record = [line["data"] for line in first.lines() if line["data"].get("error") == "gateway_died"][-1]
    assert (record["status"], record["cost_source"]) == ("partial", "estimated")
    second.start()


def reconcile(gateway: Gateway, *options: str) -> tuple[int, dict[str, Any]]:
    """Run `gatehouse spend reconcile` as an operator does; return its exit code and what it says."""
    command = [Path(sys.executable).parent / "gatehouse", "spend", "reconcile", "--json", *options]
    environ = {**gateway.server.env, "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    assert ended.returncode in (0, 1), ended.stderr
    return ended.returncode, json.loads(ended.stdout)


def test_spend_that_differs_from_the_ledger_is_found_and_repaired(
    pair: tuple[Gateway, Gateway], upstream: Upstream
) -> None:
    first, _ = pair
    key = first.new_key(max_budget=1)
    calls = [ask(first, key).headers["x-gatehouse-call-id"] for _ in range(3)]
    _wait(first)
    logged = """select count(*) = 3 from "LiteLLM_SpendLogs" where litellm_call_id = any(%s)"""
    # The provider gives each of its answers the same id, and LiteLLM's log is keyed by it.
    for call in calls:
        execute(first, """delete from "LiteLLM_SpendLogs" where litellm_call_id = %s""", call)
    execute(first, "update gatehouse.calls set settled_at = settled_at - interval '2 minutes'")
    token = "where token = encode(sha256(%s::bytea), 'hex')"
    execute(first, f'update "LiteLLM_VerificationToken" set spend = spend - 0.000005 {token}', key)
    code, found = reconcile(first, "--dry-run")
    assert (code, found["repaired"]) == (1, False)
    assert spend_of(first, key) == pytest.approx(3 * COST - 5e-6, abs=1e-12)
    found = reconcile(first)[1]
    differing = {each["table"]: each for each in found["differences"]}
    assert differing["key"]["usd"] == pytest.approx(5e-6)
    assert {each["what"] for each in found["differences"] if each["table"] == "spend logs"} >= set(calls)
    assert spend_of(first, key) == pytest.approx(3 * COST, abs=1e-12)
    assert query(first, logged, calls)
    assert reconcile(first, "--dry-run") == (0, {"repaired": False, "differences": []})


def test_a_spend_that_an_administrator_set_stays(pair: tuple[Gateway, Gateway], upstream: Upstream) -> None:
    first, _ = pair
    key = first.new_key(max_budget=1)
    assert ask(first, key).status_code == 200
    _wait(first)
    with first.client() as admin:
        assert admin.post("/key/update", json={"key": key, "spend": 0}).status_code == 200
    reconcile(first)
    assert spend_of(first, key) == 0
    assert ask(first, key).status_code == 200
    _wait(first)
    reconcile(first)
    assert spend_of(first, key) == pytest.approx(COST, abs=1e-12)


def test_an_attempt_that_may_be_billed_and_the_next_one_both_have_room(
    postgres: Postgres, own_redis: Redis, upstream: Upstream, upstream_config: Path, tmp_path: Path
) -> None:
    config = yaml.safe_load(upstream_config.read_text())
    config["router_settings"]["num_retries"] = 1
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    gateway = Gateway(postgres.create_database(), own_redis.port, config=path).start()
    try:
        each = estimate(gateway)
        key, rich = gateway.new_key(max_budget=1.5 * each), gateway.new_key(max_budget=2.5 * each)
        upstream.delay_s = 3.0
        assert ask(gateway, key, timeout=1).status_code == 422
        assert len(upstream.requests) == 1
        assert ask(gateway, rich, timeout=1).status_code != 422
        assert len(upstream.requests) == 3
        _wait(gateway)
        assert reserved(gateway) == 0
        # The provider may charge for what it read.
        assert 0 < spend_of(gateway, key) < spend_of(gateway, rich)
    finally:
        gateway.close()


def test_a_model_behind_an_address_costs_what_its_base_model_costs_and_without_a_price_there_is_none(
    postgres: Postgres, own_redis: Redis, upstream: Upstream, upstream_config: Path, tmp_path: Path
) -> None:
    config = yaml.safe_load(upstream_config.read_text())
    for name, info in (("based", {"base_model": "gpt-4o"}), ("unknown", {}), ("free", {"base_model": "gpt-4o"})):
        params = {"model": f"openai/{name}-model", "api_base": upstream.url, "api_key": "sk-upstream"}
        config["model_list"].append({"model_name": name, "litellm_params": params, "model_info": info})
    path, policy = tmp_path / "config.yaml", tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(config))
    policy.write_text("version: 1\nlimits: {allow_unpriced_models: [unknown-but-named]}\n")
    gateway = Gateway(postgres.create_database(), own_redis.port, config=path, policy=policy).start()
    try:
        key, free = gateway.new_key(max_budget=1), gateway.new_key()
        call = ask(gateway, key, model="based").headers["x-gatehouse-call-id"]
        _wait(gateway)
        usd = 3 * 2.5e-6 + 2 * 1e-5
        assert gateway.calls()[call]["record"]["data"]["cost_usd"] == pytest.approx(usd)
        assert spend_of(gateway, key) == pytest.approx(usd)
        refused = ask(gateway, key, model="unknown")
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "limit_exceeded")
        assert "allow_unpriced_models" in refused.text
        call = ask(gateway, free, model="unknown").headers["x-gatehouse-call-id"]
        _wait(gateway)
        record = gateway.calls()[call]["record"]["data"]
        assert (record["cost_source"], record.get("cost_usd")) == ("no_price", None)
    finally:
        gateway.close()


def test_a_stop_is_seen_in_readiness_and_waits_for_running_calls(
    postgres: Postgres, own_redis: Redis, upstream: Upstream, upstream_config: Path
) -> None:
    environ = constants({"gatehouse.gateway.draining_server:DRAIN_S": 4})
    gateway = Gateway(postgres.create_database(), own_redis.port, config=upstream_config, environ=environ).start()
    try:
        key = gateway.new_key()
        with holding(upstream, pool := ThreadPoolExecutor(2)) as answered:
            asked = pool.submit(ask, gateway, key)
            wait_until(lambda: len(upstream.requests) == 1, "a call is under way")
            gateway.server.send(signal.SIGTERM)
            wait_until(lambda: _status(gateway) in (503, 0), "it is not ready any more")
            answered.set()
            assert asked.result().status_code == 200
        wait_until(lambda: not gateway.server.running, "it has stopped")
        assert settled(gateway)
    finally:
        gateway.close()


def test_a_stop_seals_the_calls_that_it_cuts_off(
    postgres: Postgres, own_redis: Redis, upstream: Upstream, upstream_config: Path
) -> None:
    environ = constants({"gatehouse.gateway.draining_server:DRAIN_S": 2})
    gateway = Gateway(postgres.create_database(), own_redis.port, config=upstream_config, environ=environ).start()
    try:
        with holding(upstream, pool := ThreadPoolExecutor(2)):
            pool.submit(ask, gateway, gateway.new_key())
            wait_until(lambda: len(upstream.requests) == 1, "a call is under way")
            gateway.server.send(signal.SIGTERM)
            wait_until(lambda: not gateway.server.running, "it has stopped")
        (row,) = gateway.calls().values()
        record = row["record"]["data"]
        assert (record["status"], record["cost_source"]) == ("partial", "estimated")
        assert record["error"] == "gateway_stopped"
    finally:
        gateway.close()


def _status(gateway: Gateway) -> int:
    try:
        return httpx.get(f"{gateway.url}/health/readiness", timeout=5).status_code
    except httpx.HTTPError:
        return 0


def test_an_answer_that_was_delivered_is_sealed_as_delivered_though_its_gateway_was_killed(
    postgres: Postgres, own_redis: Redis, upstream: Upstream, upstream_config: Path
) -> None:
    writer = "gatehouse.ledger.settlement_writer"
    late = constants({f"{writer}:_LINGER_S": 60.0, f"{writer}:HEARTBEAT_S": 60.0})
    url = postgres.create_database()
    doomed = Gateway(url, own_redis.port, config=upstream_config, environ=late).start()
    # Longer than the calls take, because the heart of the other one beats once a minute.
    soon = constants({"gatehouse.ledger.recovery:DEAD_AFTER_S": 10.0, f"{writer}:HEARTBEAT_S": 0.5})
    other = Gateway(url, own_redis.port, config=upstream_config, folder=doomed.folder, environ=soon).start()
    try:
        key = other.new_key(max_budget=1)
        plain = ask(doomed, key).headers["x-gatehouse-call-id"]
        stream = ask(doomed, key, stream=True).headers["x-gatehouse-call-id"]
        doomed.server.kill()
        wait_until(lambda: settled(other), "the dead gateway's calls are sealed")
        other.wait_settled()
        for call in (plain, stream):
            record = other.calls()[call]["record"]["data"]
            assert (record["status"], record["http_status"], record.get("error")) == ("success", 200, None)
            assert record["cost_source"] == "estimated"
            assert 0 < record["cost_usd"] <= estimate(other)
        assert spend_of(other, key) == pytest.approx(ledger_usd(other, key), abs=1e-12)
    finally:
        other.close()
        doomed.close()
