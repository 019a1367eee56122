"""After Redis lost its counters, the rest of a window counts as used by half; a Redis that was away changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from gatehouse.proxy import rate_windows
from gatehouse.proxy.rate_windows import RateWindows

WINDOW_S = 60.0
CALL = [
    {"key": "api_key", "value": "a", "rate_limit": {"requests_per_unit": 10, "tokens_per_unit": None}},
    {"key": "team", "value": "b", "rate_limit": {"tokens_per_unit": 1001, "window_size": 300}},
    {"key": "user", "value": "c", "rate_limit": {"max_parallel_requests": 4, "requests_per_unit": 1}},
]
HALF = [
    {"key": "api_key", "value": "a", "rate_limit": {"requests_per_unit": 5, "tokens_per_unit": None}},
    {"key": "team", "value": "b", "rate_limit": {"tokens_per_unit": 501, "window_size": 300}},
    {"key": "user", "value": "c", "rate_limit": {"max_parallel_requests": 4, "requests_per_unit": 1}},
]


class Redis:
    """Keeps a mark until it loses it."""

    def __init__(self) -> None:
        self.mark: str | None = None
        self.away = False
        self.asked = 0
        self.forgotten = 0

    async def make_mark(self, keys: Sequence[str], args: Sequence[str]) -> str:
        self.asked += 1
        if self.away:
            raise ConnectionError
        self.mark = self.mark or args[0]
        return self.mark

    def lose(self) -> None:
        self.mark = None

    def forget(self) -> None:
        self.forgotten += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    time = [1000.0]
    monkeypatch.setattr(rate_windows, "monotonic", lambda: time[0])
    return time


def gateway(redis: Redis) -> RateWindows:
    return RateWindows(redis.make_mark, WINDOW_S, redis.forget)


async def test_a_new_redis_gives_the_whole_limit(clock: list[float]) -> None:
    windows = gateway(Redis())
    assert [await windows.limits(CALL) for _ in range(2)] == [CALL, CALL]


async def test_a_redis_that_lost_its_data_gives_half_for_as_long_as_a_window(clock: list[float]) -> None:
    redis = Redis()
    windows = gateway(redis)
    await windows.look()
    redis.lose()
    assert await windows.limits(CALL) == HALF
    clock[0] += WINDOW_S - 1
    assert await windows.limits(CALL) == HALF
    clock[0] += 1
    assert await windows.limits(CALL) == [CALL[0], HALF[1], CALL[2]]
    clock[0] += 300 - WINDOW_S
    assert await windows.limits(CALL) == CALL


async def test_every_gateway_learns_it_whichever_comes_first(clock: list[float]) -> None:
    redis = Redis()
    gateways = [gateway(redis) for _ in range(3)]
    for each in gateways:
        await each.look()
    redis.lose()
    assert [await each.limits(CALL) for each in gateways] == [HALF] * 3
    assert redis.forgotten == 3


async def test_a_loss_is_noticed_without_a_call_too(clock: list[float]) -> None:
    redis = Redis()
    windows = gateway(redis)
    await windows.look()
    redis.lose()
    await windows.look()
    clock[0] += WINDOW_S
    assert (await windows.limits(CALL))[0] == CALL[0]


async def test_a_redis_that_was_away_and_kept_its_data_changes_nothing(clock: list[float]) -> None:
    redis = Redis()
    windows = gateway(redis)
    await windows.look()
    redis.away = True
    assert await windows.limits(CALL) == CALL
    redis.away = False
    assert await windows.limits(CALL) == CALL
    assert redis.forgotten == 0


async def test_what_has_no_rate_is_not_asked_for(clock: list[float]) -> None:
    redis = Redis()
    windows = gateway(redis)
    for call in ([], [{"key": "k", "value": "v", "rate_limit": None}], [{"rate_limit": {"max_parallel_requests": 2}}]):
        assert await windows.limits(call) == call
    assert redis.asked == 0
