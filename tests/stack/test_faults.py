"""Whatever dies amid many calls: every intent ends as exactly one line, and nothing is answered without one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.gateway import MASTER_KEY, REPOSITORY, Gateway, query_engine_of
from tests.support.load import Result, call_many
from tests.support.postgres import Postgres
from tests.support.process import wait_until
from tests.support.redis_server import Redis
from tests.support.upstream import Upstream

CALLS = 200
BODY = {"model": "up-chat"}


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="module")
def own_redis() -> Iterator[Redis]:
    server = Redis()
    yield server
    server.close()


@pytest.fixture(scope="module")
def pair(own_postgres: Postgres, own_redis: Redis, upstream_config: Path) -> Iterator[tuple[Gateway, Gateway]]:
    """Two gateways on one database and one audit file."""
    environ = {"GATEHOUSE_SETTLE_GRACE_SECONDS": "1"}
    url = own_postgres.create_database()
    first = Gateway(url, own_redis.port, config=upstream_config, environ=environ)
    second = Gateway(url, own_redis.port, config=upstream_config, environ=environ, folder=first.folder)
    first.server.start()
    second.server.start()
    for gateway in (first, second):
        wait_until(gateway.ready, "both gateways start at once on an empty database", 180)
    yield first, second
    second.close()
    first.close()


def in_the_middle(gateway: Gateway) -> None:
    """Wait until a good part of a test's calls have been taken down, and some of them are not over."""
    before = len(gateway.calls())
    wait_until(lambda: len(gateway.calls()) >= before + CALLS // 5, "calls are under way", 90)


def check_promises(gateway: Gateway, results: list[Result]) -> None:
    gateway.wait_settled(90)
    lines = Counter(line["data"]["call_id"] for line in gateway.lines())
    rows = gateway.calls()
    assert set(lines) == set(rows)
    assert set(lines.values()) == {1}
    answered = {result.call_id for result in results if result.status == 200}
    assert None not in answered
    assert answered <= set(lines)


@pytest.mark.timeout(400)
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
    partial = [row for row in survivor.calls().values() if row["record"]["data"]["status"] == "partial"]
    assert any(row["record"]["data"].get("error") == "gateway_died" for row in partial)
    victim.start(180)


@pytest.mark.timeout(400)
async def test_a_query_engine_killed_in_the_middle_comes_back(
    pair: tuple[Gateway, Gateway], upstream: Upstream
) -> None:
    gateway, _ = pair
    upstream.delay_s = 0.2

    async def kill() -> None:
        await asyncio.to_thread(in_the_middle, gateway)
        query_engine_of(gateway.server.pid).kill()

    results = await call_many(gateway.url, MASTER_KEY, BODY, calls=CALLS, concurrent=32, meanwhile=kill)
    check_promises(gateway, results)
    wait_until(lambda: answers(gateway), "calls are answered again")
    wait_until(lambda: health(gateway)["query_engine"] == "up", "the query engine is back")


@pytest.mark.timeout(400)
async def test_postgres_killed_in_the_middle_refuses_calls_until_it_is_back(
    pair: tuple[Gateway, Gateway], own_postgres: Postgres, upstream: Upstream
) -> None:
    gateway, _ = pair
    key = gateway.new_key()
    upstream.delay_s = 0.2

    async def kill() -> None:
        await asyncio.to_thread(in_the_middle, gateway)
        await asyncio.to_thread(own_postgres.kill)
        await asyncio.sleep(2)
        sent = len(upstream.requests)
        with gateway.client(MASTER_KEY) as client:
            refused = await asyncio.to_thread(
                client.post, "/v1/chat/completions", json=BODY | {"messages": [{"role": "user", "content": "x"}]}
            )
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "governance_unavailable"
        assert refused.headers["retry-after"]
        await asyncio.sleep(1)
        assert len(upstream.requests) == sent
        await asyncio.to_thread(own_postgres.start)

    results = await call_many(gateway.url, MASTER_KEY, BODY, calls=CALLS, concurrent=32, meanwhile=kill)
    wait_until(lambda: answers(gateway), "calls are answered again", 120)
    settled = {result for result in results if result.status == 200}
    assert settled
    gateway.wait_settled(90)
    lines = Counter(line["data"]["call_id"] for line in gateway.lines())
    assert set(lines.values()) == {1}
    assert set(gateway.calls()) <= set(lines)
    assert {result.call_id for result in settled} <= set(lines)
    with gateway.client(key) as client:
        assert client.get("/key/info").status_code == 200


@pytest.mark.timeout(400)
async def test_redis_killed_in_the_middle_costs_no_answer(
    pair: tuple[Gateway, Gateway], own_redis: Redis, upstream: Upstream
) -> None:
    gateway, _ = pair

    async def kill() -> None:
        await asyncio.to_thread(in_the_middle, gateway)
        await asyncio.to_thread(own_redis.kill)

    results = await call_many(gateway.url, MASTER_KEY, BODY, calls=CALLS, concurrent=32, meanwhile=kill)
    assert {result.status for result in results} == {200}
    own_redis.start()
    gateway.wait_settled(90)
    wait_until(lambda: health(gateway)["cache"] == "up", "the cache is back")
    check_promises_of_lines(gateway)


def check_promises_of_lines(gateway: Gateway) -> None:
    lines = Counter(line["data"]["call_id"] for line in gateway.lines())
    assert set(lines.values()) == {1}


def answers(gateway: Gateway) -> bool:
    with contextlib.suppress(Exception), gateway.client() as client:
        body = BODY | {"messages": [{"role": "user", "content": "still there?"}]}
        return client.post("/v1/chat/completions", json=body).status_code == 200
    return False


def health(gateway: Gateway) -> dict[str, str]:
    with gateway.client(None) as client:
        return dict(client.get("/governance/v1/health").json()["parts"])


@pytest.mark.timeout(200)
def test_without_the_plugin_the_gateway_does_not_start(
    own_postgres: Postgres, own_redis: Redis, tmp_path: Path
) -> None:
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    config["litellm_settings"]["callbacks"] = ["prometheus"]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    gateway = Gateway(own_postgres.create_database(), own_redis.port, config=path)
    with pytest.raises(RuntimeError, match="the gateway ended"):
        gateway.start(150)
    last = gateway.output.read_text().splitlines()[-1]
    assert last.startswith("error: config.yaml: LiteLLM did not load the governance plugin. Keep")
    assert gateway.server.process is not None
    assert gateway.server.process.returncode == 1
    gateway.close()
