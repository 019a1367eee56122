"""Whichever part dies during many calls, every intent ends as exactly one line, and no call is answered without one."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
import yaml

from tests.support.gateway import MASTER_KEY, REPOSITORY, Gateway, query_engine_of
from tests.support.load import Result, call_many
from tests.support.postgres import Postgres
from tests.support.process import START_S, wait_until
from tests.support.redis_server import Redis
from tests.support.upstream import Upstream

pytestmark = pytest.mark.timeout(900)

CALLS = 200
BODY = {"model": "up-chat"}


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def servers(own_postgres: Postgres, own_redis: Redis) -> None:
    """Start both servers before each test, because the test before may have stopped them."""
    own_postgres.start()
    own_redis.start()


@pytest.fixture(scope="module")
def gateways(own_postgres: Postgres, own_redis: Redis, upstream_config: Path) -> Iterator[tuple[Gateway, Gateway]]:
    """Start two gateways on one database and one audit file."""
    environ = {"GATEHOUSE_SETTLE_GRACE_SECONDS": "1"}
    url = own_postgres.create_database()
    first = Gateway(url, own_redis.port, config=upstream_config, environ=environ)
    second = Gateway(url, own_redis.port, config=upstream_config, environ=environ, folder=first.folder)
    first.server.start()
    second.server.start()
    for gateway in (first, second):
        wait_until(gateway.ready, "both gateways start at once on an empty database", START_S)
    yield first, second
    second.close()
    first.close()


@pytest.fixture
def pair(servers: None, gateways: tuple[Gateway, Gateway]) -> tuple[Gateway, Gateway]:
    """Return both gateways, running and answering."""
    for gateway in gateways:
        gateway.start()
        wait_until(partial(answers, gateway), "calls are answered")
    return gateways


def in_the_middle(gateway: Gateway) -> None:
    """Wait until a good part of a test's calls are recorded, and some of them are not over."""
    before = len(gateway.calls())
    wait_until(lambda: len(gateway.calls()) >= before + CALLS // 5, "calls are under way")


def check_promises(gateway: Gateway, results: list[Result]) -> None:
    gateway.wait_settled()
    lines = Counter(line["data"]["call_id"] for line in gateway.lines())
    rows = gateway.calls()
    assert set(lines) == set(rows)
    assert set(lines.values()) == {1}
    answered = {result.call_id for result in results if result.status == 200}
    assert None not in answered
    assert answered <= set(lines)


async def test_a_gateway_killed_in_the_middle_leaves_no_call_without_an_ending(
    pair: tuple[Gateway, Gateway], upstream: Upstream
) -> None:
    victim, survivor = pair
    upstream.delay_s = 0.3

    async def kill() -> None:
        await asyncio.to_thread(in_the_middle, survivor)
        await asyncio.to_thread(victim.server.kill)

    results = await call_many(victim.url, MASTER_KEY, BODY, calls=CALLS, concurrent=64, meanwhile=kill)
    assert any(result.status is None or not result.complete for result in results)
    check_promises(survivor, results)
    unfinished = [row for row in survivor.calls().values() if row["record"]["data"]["status"] == "partial"]
    assert any(row["record"]["data"].get("error") == "gateway_died" for row in unfinished)


async def test_a_query_engine_killed_in_the_middle_comes_back(
    pair: tuple[Gateway, Gateway], upstream: Upstream
) -> None:
    gateway, _ = pair
    upstream.delay_s = 0.2

    async def kill() -> None:
        await asyncio.to_thread(in_the_middle, gateway)
        await asyncio.to_thread(lambda: query_engine_of(gateway.server.pid).kill())

    results = await call_many(gateway.url, MASTER_KEY, BODY, calls=CALLS, concurrent=32, meanwhile=kill)
    check_promises(gateway, results)
    wait_until(lambda: answers(gateway), "calls are answered again")
    wait_until(lambda: health(gateway)["query_engine"] == "up", "the query engine is back")


async def test_postgres_killed_in_the_middle_refuses_calls_until_it_is_back(
    pair: tuple[Gateway, Gateway], own_postgres: Postgres, upstream: Upstream
) -> None:
    gateway, _ = pair
    key = gateway.new_key()
    upstream.delay_s = 0.2

    async def kill() -> None:
        await asyncio.to_thread(in_the_middle, gateway)
        await asyncio.to_thread(own_postgres.kill)
        refused = await asyncio.to_thread(ask_until_refused, gateway)
        assert refused.status_code == 503, refused.text
        assert refused.json()["error"]["code"] == "governance_unavailable"
        assert refused.headers["retry-after"]
        await asyncio.to_thread(own_postgres.start)

    results = await call_many(gateway.url, MASTER_KEY, BODY, calls=CALLS, concurrent=32, meanwhile=kill)
    wait_until(lambda: answers(gateway), "calls are answered again")
    settled = {result for result in results if result.status == 200}
    assert settled
    refused = [f"call {n}" for n, result in enumerate(results) if "governance_unavailable" in result.said]
    assert refused
    sent = [text for text in refused if reached(upstream, text)]
    assert sent == [], "what was refused was sent to the model all the same"
    gateway.wait_settled()
    lines = Counter(line["data"]["call_id"] for line in gateway.lines())
    assert set(lines.values()) == {1}
    assert set(gateway.calls()) <= set(lines)
    assert {result.call_id for result in settled} <= set(lines)
    with gateway.client(key) as client:
        assert client.get("/key/info").status_code == 200


async def test_redis_killed_in_the_middle_costs_no_answer(
    pair: tuple[Gateway, Gateway], own_redis: Redis, upstream: Upstream
) -> None:
    gateway, _ = pair

    async def kill() -> None:
        await asyncio.to_thread(in_the_middle, gateway)
        await asyncio.to_thread(own_redis.kill)

    results = await call_many(gateway.url, MASTER_KEY, BODY, calls=CALLS, concurrent=32, meanwhile=kill)
    assert [result for result in results if result.status != 200] == []
    own_redis.start()
    gateway.wait_settled()
    wait_until(lambda: health(gateway)["cache"] == "up", "the cache is back")
    check_promises_of_lines(gateway)


async def test_without_redis_budgets_hold_and_have_room_because_postgres_has_them(
    pair: tuple[Gateway, Gateway], own_redis: Redis, upstream: Upstream
) -> None:
    gateway, _ = pair
    key, poor = gateway.new_key(max_budget=1000), gateway.new_key(max_budget=0.0000001)
    wait_until(lambda: ask(gateway, key, "before").status_code == 200, "a key with a budget is served")
    own_redis.kill()
    assert [ask(gateway, key, "without Redis").status_code for _ in range(5)] == [200] * 5
    refused = ask(gateway, poor, "too much")
    assert (refused.status_code, refused.json()["error"]["type"]) == (422, "budget_exceeded")
    assert not reached(upstream, "too much")
    own_redis.start()
    gateway.wait_settled()
    check_promises_of_lines(gateway)


def check_promises_of_lines(gateway: Gateway) -> None:
    lines = Counter(line["data"]["call_id"] for line in gateway.lines())
    assert set(lines.values()) == {1}


def ask(gateway: Gateway, key: str, text: str) -> httpx.Response:
    with gateway.client(key) as client:
        return client.post("/v1/chat/completions", json=BODY | {"messages": [{"role": "user", "content": text}]})


def ask_until_refused(gateway: Gateway) -> httpx.Response:
    """Call until a call is refused: a killed Postgres may still finish its running work first."""
    while (answer := ask(gateway, MASTER_KEY, "Is Postgres gone?")).status_code == 200:
        pass
    return answer


def reached(upstream: Upstream, text: str) -> bool:
    return any(json.dumps(text).encode() in body for _, body in upstream.requests)


def answers(gateway: Gateway) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return ask(gateway, MASTER_KEY, "still there?").status_code == 200
    return False


def health(gateway: Gateway) -> dict[str, str]:
    with gateway.client(None) as client:
        return dict(client.get("/governance/v1/health").json()["parts"])


def test_without_the_plugin_the_gateway_does_not_start(
    own_postgres: Postgres, own_redis: Redis, tmp_path: Path
) -> None:
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    config["litellm_settings"]["callbacks"] = ["prometheus"]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    gateway = Gateway(own_postgres.create_database(), own_redis.port, config=path)
    with pytest.raises(RuntimeError, match="the gateway ended"):
        gateway.start()
    last = gateway.output.read_text().splitlines()[-1]
    assert last.startswith("error: config.yaml: LiteLLM did not load the governance plugin. Keep")
    assert gateway.server.process is not None
    assert gateway.server.process.returncode == 1
    gateway.close()
