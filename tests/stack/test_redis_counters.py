"""Slots of parallel calls come back however a call or its gateway ends; rates hold over a Redis that lost its data."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.support.gateway import Gateway
from tests.support.postgres import Postgres
from tests.support.prefork import constants
from tests.support.process import START_S, wait_until
from tests.support.redis_server import PASSWORD, Redis
from tests.support.upstream import Upstream

pytestmark = pytest.mark.timeout(900)

CHAT: dict[str, Any] = {"model": "up-chat", "messages": [{"role": "user", "content": "hello"}]}
LEASE_S = 6
SHORT = {
    "gatehouse.proxy.parallel_slots:LEASE_S": LEASE_S,
    "gatehouse.proxy.parallel_slots:KEPT_AFTER_LEAVING_S": 1.0,
    "gatehouse.proxy.redis_counters:RENEW_S": 0.5,
}


@pytest.fixture(scope="module")
def both(postgres: Postgres, own_redis: Redis, upstream_config: Path) -> Iterator[tuple[Gateway, Gateway]]:
    """Start two gateways on one database and one Redis."""
    environ = {"GATEHOUSE_SETTLE_GRACE_SECONDS": "1", **constants(SHORT)}
    url = postgres.create_database()
    first = Gateway(url, own_redis.port, config=upstream_config, environ=environ)
    second = Gateway(url, own_redis.port, config=upstream_config, environ=environ, folder=first.folder)
    for gateway in (first, second):
        gateway.server.start()
    for gateway in (first, second):
        wait_until(gateway.ready, "a gateway starts", START_S)
    yield first, second
    second.close()
    first.close()


@pytest.fixture
def pair(both: tuple[Gateway, Gateway], own_redis: Redis) -> tuple[Gateway, Gateway]:
    own_redis.start()
    for gateway in both:
        gateway.start()
    return both


def ask(gateway: Gateway, key: str, *, stream: bool = False, seconds: float = 60.0) -> int:
    with gateway.client(key) as client:
        return client.post("/v1/chat/completions", json=CHAT | {"stream": stream}, timeout=seconds).status_code


@contextmanager
def running(gateway: Gateway, upstream: Upstream, key: str, calls: int) -> Iterator[threading.Event]:
    """Keep so many plain calls at the provider until the event is set or the block ends."""
    upstream.holds = may_end = threading.Event()
    before = len(upstream.requests)
    with ThreadPoolExecutor(calls) as pool:
        try:
            for _ in range(calls):
                pool.submit(ask, gateway, key)
            wait_until(lambda: len(upstream.requests) == before + calls, "the calls are at the provider")
            upstream.holds = None
            yield may_end
        finally:
            may_end.set()


def test_a_slot_lasts_as_long_as_its_call_and_is_free_on_every_gateway_right_after(
    pair: tuple[Gateway, Gateway], own_redis: Redis, upstream: Upstream
) -> None:
    first, second = pair
    key = first.new_key(max_parallel_requests=2)
    store = redis.Redis(port=own_redis.port, password=PASSWORD)
    with running(first, upstream, key, 1), running(second, upstream, key, 1) as may_end:
        (name,) = store.keys("*max_parallel_requests")
        taken = set(store.zrange(name, 0, -1))
        scores = dict(store.zrange(name, 0, -1, withscores=True))
        # Each is renewed past the time at which it would have lapsed, also by a Redis that lost it meanwhile.
        store.delete(name)
        wait_until(lambda: set(store.zrange(name, 0, -1)) == taken, "both gateways tell Redis of their slots")
        wait_until(
            lambda: all(score > scores[slot] + LEASE_S for slot, score in store.zrange(name, 0, -1, withscores=True)),
            "the slots are renewed for longer than a lease",
        )
        assert set(store.zrange(name, 0, -1)) == taken
        assert [ask(first, key), ask(second, key)] == [429, 429]
        may_end.set()
        wait_until(lambda: len(store.zrange(name, 0, -1)) == 1, "the second gateway's call ends")
        assert ask(first, key) == 200


def test_slots_of_a_gateway_that_died_come_back(pair: tuple[Gateway, Gateway], upstream: Upstream) -> None:
    victim, survivor = pair
    key = survivor.new_key(max_parallel_requests=2)
    with running(victim, upstream, key, 2):
        assert ask(survivor, key) == 429
        victim.server.kill()
        # A refused call does not make the slots last longer.
        wait_until(lambda: ask(survivor, key) == 200, "the slots are free", 30 + LEASE_S)


def test_a_client_that_leaves_a_provider_that_never_answers_has_its_slot_back(
    pair: tuple[Gateway, Gateway], upstream: Upstream
) -> None:
    gateway, _ = pair
    key = gateway.new_key(max_parallel_requests=1)
    upstream.holds = may_end = threading.Event()
    try:
        for stream in (False, True):
            before = len(upstream.requests)
            with pytest.raises(httpx.TimeoutException):
                ask(gateway, key, stream=stream, seconds=3)
            assert len(upstream.requests) == before + 1
            upstream.holds = None
            wait_until(lambda: ask(gateway, key) == 200, "the slot is free", 30)
            upstream.holds = may_end
    finally:
        may_end.set()


@pytest.mark.parametrize("calls", [24, pytest.param(200, marks=pytest.mark.long)])
def test_all_slots_are_free_soon_after_calls_that_end_leave_time_out_or_lose_their_gateway(
    pair: tuple[Gateway, Gateway], upstream: Upstream, calls: int
) -> None:
    victim, survivor = pair
    limit = calls // 4
    key = survivor.new_key(max_parallel_requests=limit)
    upstream.delay_s, upstream.chunk_delay_s = 0.3, 0.05

    def one(number: int) -> str:
        patience = (60.0, 0.2, 0.6, 1.5)[number % 4]
        try:
            gateway = (victim, survivor)[number // 4 % 2]
            return str(ask(gateway, key, stream=number % 8 < 4, seconds=patience))
        except httpx.HTTPError as error:
            return type(error).__name__

    with ThreadPoolExecutor(limit) as pool:
        results = [pool.submit(one, number) for number in range(calls)]
        wait_until(lambda: sum(each.done() for each in results) > calls // 2, "half of the calls are over")
        victim.server.kill()
    seen = Counter(each.result() for each in results)
    assert len(seen) > 1, seen
    upstream.reset()

    def all_free() -> bool:
        with ExitStack() as stack:
            may_end = threading.Event()
            stack.callback(may_end.set)
            upstream.holds = may_end
            pool = stack.enter_context(ThreadPoolExecutor(limit))
            before = len(upstream.requests)
            waiting: list[Future[int]] = [pool.submit(ask, survivor, key) for _ in range(limit)]
            wait_until(
                lambda: len(upstream.requests) - before + sum(each.done() for each in waiting) >= limit,
                "each call is at the provider or refused",
            )
            may_end.set()
            return all(each.result() == 200 for each in waiting)

    wait_until(all_free, "all slots are free at once", 60)


def test_the_rest_of_a_window_counts_as_used_by_half_where_redis_lost_its_data(
    pair: tuple[Gateway, Gateway], own_redis: Redis, upstream: Upstream
) -> None:
    first, _ = pair
    key = first.new_key(rpm_limit=12)
    other = first.new_key(rpm_limit=12)
    assert [ask(pair[number % 2], key) for number in range(10)] == [200] * 10
    redis.Redis(port=own_redis.port, password=PASSWORD).flushall()
    assert Counter(ask(pair[number % 2], key) for number in range(12)) == {200: 6, 429: 6}
    assert Counter(ask(pair[number % 2], other) for number in range(12)) == {200: 6, 429: 6}
