"""How often a key may be tried at the console's sign-in: counted in Redis for all gateways, else in this process.

Promises: a network has ten refused keys in five minutes, and all networks together have a hundred, for addresses can be
changed. Redis learns no address. While Redis is away each gateway counts for itself.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any, Final

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gatehouse.core.keys import Purpose
from gatehouse.core.settings import Settings

_OF_ONE: Final = RateLimitItemPerMinute(10, 5, "gatehouse-sign-in")
# Of all addresses together. A machine that is guessing may close the door for others, never open it.
_OF_ALL: Final = RateLimitItemPerMinute(100, 5, "gatehouse-sign-in")
# Seconds that a Redis which hangs may cost somebody who signs in.
_REDIS_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class SignInAttempt:
    """A key that is being tried: where it was counted, and as whose."""

    counted: FixedWindowRateLimiter
    network: str


class Attempts:
    """Keys that were refused lately."""

    def __init__(self, settings: Settings) -> None:
        self._key = settings.keys.key(Purpose.SIGN_IN)
        self._counters = [FixedWindowRateLimiter(MemoryStorage())]
        if settings.redis_host:
            options: dict[str, Any] = {
                "host": settings.redis_host,
                "port": settings.redis_port,
                "password": settings.redis_password,
                "socket_timeout": _REDIS_S,
                "socket_connect_timeout": _REDIS_S,
                "retry": Retry(NoBackoff(), 0),
            }
            redis = RedisStorage("async+redis://", wrap_exceptions=True, implementation="redispy", **options)
            self._counters.insert(0, FixedWindowRateLimiter(redis))

    async def begin(self, address: str) -> SignInAttempt | None:
        """Let this address try a key, which counts as refused until it opens something; None where it has to wait."""
        network = self._key.mac(_network_of(address)).hex()
        for counter in self._counters:
            with suppress(StorageError):  # the next one counts
                # What has to wait is not counted, but by those who came at the same moment.
                if not (await counter.test(_OF_ONE, network) and await counter.test(_OF_ALL)):
                    return None
                if not (await counter.hit(_OF_ONE, network) and await counter.hit(_OF_ALL)):
                    return None
                return SignInAttempt(counter, network)
        return None

    async def forget(self, attempt: SignInAttempt) -> None:
        """Take it back: the key was right, or nobody could look."""
        with suppress(StorageError):  # it is over in five minutes
            await attempt.counted.hit(_OF_ONE, attempt.network, cost=-1)
            await attempt.counted.hit(_OF_ALL, cost=-1)


def _network_of(address: str) -> str:
    """What one party has: an IPv4 address, or the 64 bits that an IPv6 network gives to each of its customers."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(IPv6Network((parsed.packed[:8] + bytes(8), 64)))
    return str(parsed)
