"""The gateway keeps LiteLLM's counters in Redis true, goes on while Redis is away, and says where it may drop them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from gatehouse.proxy import redis_counters
from gatehouse.proxy.parallel_slots import LEASE_S, RENEW_SLOTS, SlotLeases
from gatehouse.proxy.rate_windows import MAKE_MARK
from gatehouse.proxy.redis_counters import RedisCounters
from litellm.proxy.hooks import parallel_request_limiter_v3 as limiter_v3
from redis.exceptions import NoPermissionError

RATE = {"key": "api_key", "value": "a", "rate_limit": {"requests_per_unit": 10}}


class Redis:
    """Stands for LiteLLM's cache in Redis."""

    def __init__(self, **memory: Any) -> None:
        self.memory = memory
        self.mark = "first"
        self.away = False
        self.tells = True
        self.renewed: list[Any] = []
        self.turn = asyncio.Event()

    def async_register_script(self, script: str) -> Any:
        return {MAKE_MARK: self._mark, RENEW_SLOTS: self._renew}[script]

    async def _mark(self, keys: Sequence[str], args: Sequence[str]) -> str:
        self.turn.set()
        if self.away:
            raise ConnectionError
        return self.mark

    async def _renew(self, keys: Sequence[str], args: Sequence[Any]) -> None:
        self.renewed.append(args)

    def init_async_client(self) -> Any:
        async def info(section: str) -> dict[str, Any]:
            assert section == "memory"
            if not self.tells:
                raise NoPermissionError
            return self.memory

        return SimpleNamespace(info=info)

    async def turns(self) -> None:
        """Wait until the gateway has come by twice, so that one whole turn lies between."""
        for _ in range(2):
            self.turn.clear()
            await self.turn.wait()


class Limiter:
    """Stands for LiteLLM's limiter."""

    window_size = 60

    def __init__(self, redis: Redis | None) -> None:
        memory = SimpleNamespace(flush_cache=lambda: None)
        self.internal_usage_cache = SimpleNamespace(
            dual_cache=SimpleNamespace(redis_cache=redis, in_memory_cache=memory)
        )
        self.parallel_acquire_script = self.parallel_release_script = None if redis is None else object()

    async def _build_request_rate_limit_descriptors(self, call: str) -> list[dict[str, Any]]:
        return [RATE] if call == "a call" else []


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that starts the counters with a limiter."""
    monkeypatch.setattr(redis_counters, "RENEW_S", 0.01)
    monkeypatch.setattr(limiter_v3, "PARALLEL_REQUEST_SLOT_TTL_SECONDS", 3600)

    def start(limiter: Limiter | None) -> tuple[RedisCounters, SlotLeases]:
        monkeypatch.setattr(redis_counters, "limiter_in_use", lambda: limiter)
        leases = SlotLeases()
        counters = RedisCounters(leases)
        counters.start()
        return counters, leases

    return start


@pytest.mark.parametrize("limiter", [None, Limiter(None)], ids=["no limiter", "no Redis"])
async def test_without_redis_nothing_changes(started: Any, limiter: Limiter | None) -> None:
    counters, _ = started(limiter)
    assert limiter_v3.PARALLEL_REQUEST_SLOT_TTL_SECONDS == 3600
    counters.stop()


async def test_slots_are_renewed_and_limits_halved_once_redis_lost_its_data(started: Any) -> None:
    redis = Redis()
    limiter = Limiter(redis)
    counters, leases = started(limiter)
    leases.held["slot"] = ["gauge"]
    await redis.turns()
    assert redis.renewed[0] == [LEASE_S, "slot"]
    assert limiter_v3.PARALLEL_REQUEST_SLOT_TTL_SECONDS == LEASE_S
    assert await limiter._build_request_rate_limit_descriptors("a call") == [RATE]
    redis.mark = "second"
    assert await limiter._build_request_rate_limit_descriptors(call="a call") == [
        RATE | {"rate_limit": {"requests_per_unit": 5}}
    ]
    assert await limiter._build_request_rate_limit_descriptors("another") == []
    counters.stop()


async def test_a_redis_that_is_away_is_asked_again_and_logged_once(
    started: Any, caplog: pytest.LogCaptureFixture
) -> None:
    redis = Redis()
    redis.away = True
    counters, leases = started(Limiter(redis))
    leases.held["slot"] = ["gauge"]
    await redis.turns()
    await redis.turns()
    redis.away = False
    await redis.turns()
    assert redis.renewed
    assert [record.levelno for record in caplog.records if record.name == "gatehouse.redis"] == [logging.WARNING]
    counters.stop()


@pytest.mark.parametrize(
    ("memory", "warns"),
    [
        ({"maxmemory": 1000, "maxmemory_policy": "allkeys-lru"}, True),
        ({"maxmemory": 1000, "maxmemory_policy": "volatile-ttl"}, True),
        ({"maxmemory": 1000, "maxmemory_policy": "noeviction"}, False),
        ({"maxmemory": 0, "maxmemory_policy": "allkeys-lru"}, False),  # it has no bound at which it would drop any
        ({}, False),
    ],
)
async def test_a_redis_that_may_drop_counters_is_named_once(
    started: Any, caplog: pytest.LogCaptureFixture, memory: dict[str, Any], warns: bool
) -> None:
    redis = Redis(**memory)
    counters, _ = started(Limiter(redis))
    await redis.turns()
    await redis.turns()
    assert sum("Set it to noeviction" in record.getMessage() for record in caplog.records) == warns
    counters.stop()


async def test_a_redis_that_does_not_say_how_it_is_set_up_is_left_alone(
    started: Any, caplog: pytest.LogCaptureFixture
) -> None:
    redis = Redis(maxmemory=1000, maxmemory_policy="allkeys-lru")
    redis.tells = False
    counters, _ = started(Limiter(redis))
    await redis.turns()
    assert [record for record in caplog.records if record.name == "gatehouse.redis"] == []
    counters.stop()
