"""64 callers over three gateways against one budget, while gateways, Redis and Postgres die: nothing is overspent."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import redis

from tests.support.gateway import Gateway
from tests.support.postgres import Postgres
from tests.support.prefork import constants
from tests.support.process import wait_until
from tests.support.redis_server import PASSWORD, Redis
from tests.support.upstream import Upstream

pytestmark = [pytest.mark.long, pytest.mark.timeout(7200)]

BODY = {"model": "up-chat", "max_tokens": 2, "messages": [{"role": "user", "content": "What does it cost?"}]}
COST = 7e-6  # the recording provider counts 3 tokens in and 2 out
CALLERS = 64
SOON = constants({"gatehouse.ledger.recovery:DEAD_AFTER_S": 5.0, "gatehouse.ledger.settlement_writer:HEARTBEAT_S": 1.0})


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    server = Redis()
    yield server
    server.close()


class Callers:
    """Threads that call one gateway after another, until as many calls as wanted were answered or refused."""

    def __init__(self, gateways: list[Gateway], key: str, wanted: int) -> None:
        self.codes: Counter[int] = Counter()
        self._gateways = gateways
        self._key = key
        self._wanted = wanted
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(CALLERS)]

    @property
    def done(self) -> int:
        return sum(self.codes.values())

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _call(self, number: int) -> None:
        while self.done < self._wanted:
            number += 1
            code = ask(self._gateways[number % len(self._gateways)], self._key)
            with self._lock:
                self.codes[code] += 1
            if code == 0:
                time.sleep(0.2)  # that one is dead


def ask(gateway: Gateway, key: str) -> int:
    try:
        with gateway.client(key) as client:
            return client.post("/v1/chat/completions", json=BODY).status_code
    except httpx.HTTPError:
        return 0


def query(url: str, statement: str, *values: object) -> Any:
    with psycopg.connect(url) as connection:
        row = connection.execute(statement.encode(), values).fetchone()
        assert row is not None
        return row[0]


@pytest.mark.parametrize("wanted", [400, 10_000])
def test_nothing_is_overspent_and_nothing_refused_without_need(
    own_postgres: Postgres, own_redis: Redis, upstream: Upstream, upstream_config: Path, wanted: int
) -> None:
    url = own_postgres.create_database()
    first = Gateway(url, own_redis.port, config=upstream_config, environ=SOON).start()
    others = [
        Gateway(url, own_redis.port, config=upstream_config, folder=first.folder, environ=SOON).start()
        for _ in range(2)
    ]
    gateways = [first, *others]
    budget = wanted * COST / 2
    key = first.new_key(max_budget=budget)
    callers = Callers(gateways, key, wanted)
    dice = random.Random()
    troubles = sorted(dice.sample(range(wanted // 20, wanted), 8))
    callers.start()
    try:
        while troubles and callers.done < wanted:
            if callers.done >= troubles[0]:
                troubles.pop(0)
                _trouble(dice, gateways, own_redis, own_postgres)
            time.sleep(0.02)
        callers.join()
        for gateway in gateways:
            gateway.start()
        open_calls = "select count(*) = 0 from gatehouse.calls where settled_at is null"
        wait_until(lambda: query(url, open_calls), "every call is sealed", 120)
        spend = float(query(url, _SPEND, key))
        ledger = float(
            query(url, "select coalesce(sum((record->'data'->>'cost_usd')::numeric), 0) from gatehouse.calls")
        )
        assert spend == pytest.approx(ledger, abs=1e-9)
        assert len(upstream.requests) * COST <= ledger + 1e-9
        assert ledger <= budget + 1e-9
        assert float(query(url, "select coalesce(sum(reserved), 0) from gatehouse.budgets")) == 0
        # It is served exactly as long as there is room.
        with first.client() as client:
            each = float(client.post("/governance/v1/estimate", json=BODY).json()["estimated_cost_usd"])
        assert ask(first, key) == (200 if spend + each <= budget else 422)
    finally:
        for gateway in gateways:
            gateway.close()


_SPEND = """select spend from "LiteLLM_VerificationToken" where token = encode(sha256(%s::bytea), 'hex')"""


def _trouble(dice: random.Random, gateways: list[Gateway], server: Redis, database: Postgres) -> None:
    match dice.choice(["gateway", "gateway", "flush", "redis", "postgres"]):
        case "gateway":
            victim = dice.choice(gateways)
            victim.server.kill()
            victim.start()
        case "flush":
            redis.Redis(port=server.port, password=PASSWORD).flushall()
        case "redis":
            server.kill()
            server.start()
        case _:
            database.kill()
            database.start()
