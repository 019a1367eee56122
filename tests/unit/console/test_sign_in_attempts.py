"""Guessing keys at the console's sign-in is slow, for one address and for many."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from gatehouse.console.attempts import Attempts
from gatehouse.core.settings import Settings, load_settings
from limits.aio.storage import memory

from tests.support.process import free_port


def settings(**environ: str) -> Settings:
    return load_settings({"DATABASE_URL": "postgresql://", "GATEHOUSE_SECRET": "s" * 32, **environ})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return a clock whose `at` is the present time in seconds."""
    made = SimpleNamespace(at=1_800_000_000.0)
    made.time = lambda: made.at
    monkeypatch.setattr(memory, "time", made)
    return made


@pytest.fixture
def attempts(clock: SimpleNamespace) -> Attempts:
    return Attempts(settings())


async def tried(attempts: Attempts, addresses: list[str]) -> int:
    """Return how many of these refused attempts were let through."""
    return sum([await attempts.begin(address) is not None for address in addresses])


async def test_an_address_may_guess_ten_keys_in_five_minutes(attempts: Attempts, clock: SimpleNamespace) -> None:
    assert await tried(attempts, ["192.0.2.1"] * 30) == 10
    assert await tried(attempts, ["192.0.2.2"] * 3) == 3
    clock.at += 299
    assert await tried(attempts, ["192.0.2.1"]) == 0
    clock.at += 1
    assert await tried(attempts, ["192.0.2.1"] * 30) == 10


async def test_another_address_alone_does_not_help(attempts: Attempts, clock: SimpleNamespace) -> None:
    assert await tried(attempts, [f"192.0.{number // 256}.{number % 256}" for number in range(2_000)]) == 100
    clock.at += 299
    assert await tried(attempts, ["203.0.113.1"]) == 0
    clock.at += 1
    assert await tried(attempts, ["203.0.113.1"]) == 1


async def test_addresses_of_one_ipv6_network_are_one(attempts: Attempts) -> None:
    assert await tried(attempts, [f"2001:db8:0:1::{number:x}" for number in range(30)]) == 10
    assert await tried(attempts, ["2001:db8:0:2::1", "::ffff:192.0.2.1", "192.0.2.2", "", "unix"]) == 5


async def test_attempts_that_are_under_way_count_and_right_keys_do_not(attempts: Attempts) -> None:
    begun = [await attempts.begin("192.0.2.1") for _ in range(10)]
    assert await attempts.begin("192.0.2.1") is None
    for each in begun:
        assert each is not None
        await attempts.forget(each)
    assert await tried(attempts, ["192.0.2.1"] * 12) == 10


async def test_while_redis_is_away_a_gateway_counts_for_itself(clock: SimpleNamespace) -> None:
    attempts = Attempts(settings(REDIS_HOST="127.0.0.1", REDIS_PORT=str(free_port())))
    first = await attempts.begin("192.0.2.1")
    assert first is not None
    await attempts.forget(first)
    assert await tried(attempts, ["192.0.2.1"] * 12) == 10
