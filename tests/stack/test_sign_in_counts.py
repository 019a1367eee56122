"""One Redis counts attempts to sign in for all gateways, and learns no address."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from gatehouse.console.attempts import Attempts
from gatehouse.core.settings import load_settings

from tests.support.redis_server import PASSWORD, Redis


@pytest.fixture
def server() -> Iterator[Redis]:
    """Start a Redis without any counts."""
    own = Redis()
    yield own
    own.close()


def gateway(server: Redis) -> Attempts:
    return Attempts(
        load_settings(
            {
                "DATABASE_URL": "postgresql://",
                "GATEHOUSE_SECRET": "s" * 32,
                "REDIS_HOST": "127.0.0.1",
                "REDIS_PORT": str(server.port),
                "REDIS_PASSWORD": PASSWORD,
            }
        )
    )


async def test_two_gateways_let_an_address_guess_ten_keys_together(server: Redis) -> None:
    one, other = gateway(server), gateway(server)
    begun = [await (one, other)[n % 2].begin("192.0.2.77") for n in range(12)]
    assert [each is not None for each in begun] == [True] * 10 + [False] * 2
    assert await other.begin("192.0.2.78") is not None
    assert begun[1] is not None
    await one.forget(begun[1])
    assert await other.begin("192.0.2.77") is not None
    assert await one.begin("192.0.2.77") is None
    with redis.Redis(host="127.0.0.1", port=server.port, password=PASSWORD) as direct:
        keys = [key.decode() for key in direct.keys("*gatehouse-sign-in*")]
        assert len(keys) == 3
        assert not any("192.0.2" in key for key in keys)
        assert all(0 < direct.ttl(key) <= 300 for key in keys)


async def test_a_redis_that_went_away_costs_an_attempt_nothing(server: Redis) -> None:
    one = gateway(server)
    begun = await one.begin("192.0.2.77")
    server.kill()
    assert begun is not None
    await one.forget(begun)
    assert sum([await one.begin("192.0.2.77") is not None for _ in range(12)]) == 10
