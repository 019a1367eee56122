"""A Redis that failed is asked again soon, also where the call that asked it ended without an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from gatehouse.proxy import redis_breaker
from litellm.caching import redis_cache
from litellm.caching.redis_cache import RedisCircuitBreaker, RedisCircuitBreakerOpenError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

RECOVERY_S = 1


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    theirs = RedisCircuitBreaker.is_open
    redis_breaker.keep_asking()
    clock = Clock()
    monkeypatch.setattr(redis_breaker, "time", clock)
    monkeypatch.setattr(redis_cache, "time", clock)
    yield clock
    RedisCircuitBreaker.is_open = theirs


async def answers() -> None: ...


async def fails() -> None:
    raise RedisConnectionError


async def ask(breaker: RedisCircuitBreaker, redis: Callable[[], Awaitable[None]] = answers) -> str:
    """Return what became of a call that wants to ask Redis."""
    try:
        await redis_cache._run_under_circuit_breaker(breaker, "a call", redis)
    except RedisCircuitBreakerOpenError:
        return "not asked"
    except (RedisConnectionError, ResponseError) as error:
        return type(error).__name__
    return "answered"


@pytest.fixture
async def breaker(clock: Clock) -> RedisCircuitBreaker:
    """Return LiteLLM's breaker after it saw Redis fail often enough."""
    breaker = RedisCircuitBreaker(failure_threshold=5, recovery_timeout=RECOVERY_S)
    for _ in range(5):
        assert await ask(breaker, fails) == "ConnectionError"
    assert await ask(breaker) == "not asked"
    return breaker


async def test_a_redis_that_is_back_is_used_after_a_second(clock: Clock, breaker: RedisCircuitBreaker) -> None:
    clock.now += RECOVERY_S
    assert [await ask(breaker) for _ in range(3)] == ["answered"] * 3


async def test_one_call_a_second_asks_a_redis_that_still_fails(clock: Clock, breaker: RedisCircuitBreaker) -> None:
    for _ in range(3):
        clock.now += RECOVERY_S
        assert [await ask(breaker, fails) for _ in range(3)] == ["ConnectionError", "not asked", "not asked"]


async def test_a_call_that_leaves_while_it_asks_costs_one_more_second(
    clock: Clock, breaker: RedisCircuitBreaker
) -> None:
    asked = asyncio.Event()

    async def hangs() -> None:
        asked.set()
        await asyncio.Event().wait()

    clock.now += RECOVERY_S
    leaving = asyncio.create_task(ask(breaker, hangs))
    await asked.wait()
    assert await ask(breaker) == "not asked"
    leaving.cancel()
    await asyncio.wait([leaving])
    clock.now += RECOVERY_S
    assert [await ask(breaker) for _ in range(2)] == ["answered"] * 2


async def test_an_error_that_says_nothing_of_redis_health_costs_one_more_second(
    clock: Clock, breaker: RedisCircuitBreaker
) -> None:
    async def full() -> None:
        raise ResponseError("OOM command not allowed when used memory > 'maxmemory'.")

    clock.now += RECOVERY_S
    assert await ask(breaker, full) == "ResponseError"
    clock.now += RECOVERY_S
    assert await ask(breaker) == "answered"


async def test_an_answer_that_comes_after_its_turn_counts_all_the_same(
    clock: Clock, breaker: RedisCircuitBreaker
) -> None:
    back = asyncio.Event()

    async def slow() -> None:
        await back.wait()

    clock.now += RECOVERY_S
    first = asyncio.create_task(ask(breaker, slow))
    await asyncio.sleep(0)
    clock.now += RECOVERY_S
    second = asyncio.create_task(ask(breaker, slow))
    await asyncio.sleep(0)
    back.set()
    assert [await first, await second, await ask(breaker)] == ["answered"] * 3


async def test_a_clock_that_is_set_back_keeps_redis_away_no_longer(clock: Clock, breaker: RedisCircuitBreaker) -> None:
    clock.now -= 3600
    assert await ask(breaker) == "answered"


async def test_a_breaker_that_is_switched_off_lets_every_call_ask(clock: Clock) -> None:
    breaker = RedisCircuitBreaker(failure_threshold=1, recovery_timeout=RECOVERY_S, enabled=False)
    assert [await ask(breaker, fails), await ask(breaker)] == ["ConnectionError", "answered"]
