"""Limits how often people may try keys at the console's sign-in. Redis counts for all gateways, else this process does.

Promises: one network may try ten wrong keys in five minutes, and all networks together a hundred, because an attacker
can change addresses. Redis learns no address. While Redis is away each gateway counts by itself.
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
# The limit of all addresses together. An attacker who guesses may lock others out, but never gets in.
_OF_ALL: Final = RateLimitItemPerMinute(100, 5, "gatehouse-sign-in")
# A Redis that hangs delays a sign-in by so many seconds.
_REDIS_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class SignInAttempt:
    """Name the counter that counted a try of a key, and the network that it counted for."""

    counted: FixedWindowRateLimiter
    network: str


class Attempts:
    """Count the keys that were refused lately."""

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
        """Count a try of a key as refused, until `forget`. Return None when the address must wait."""
        network = self._key.mac(_network_of(address)).hex()
        for counter in self._counters:
            with suppress(StorageError):  # the next one counts
                # A try that must wait is not counted, except when several come at the same moment.
                if not (await counter.test(_OF_ONE, network) and await counter.test(_OF_ALL)):
                    return None
                if not (await counter.hit(_OF_ONE, network) and await counter.hit(_OF_ALL)):
                    return None
                return SignInAttempt(counter, network)
        return None

    async def forget(self, attempt: SignInAttempt) -> None:
        """Take the count back: the key was right, or the database was away."""
        with suppress(StorageError):  # the count ends in five minutes anyway
            await attempt.counted.hit(_OF_ONE, attempt.network, cost=-1)
            await attempt.counted.hit(_OF_ALL, cost=-1)


def _network_of(address: str) -> str:
    """Return what one customer of a network has: an IPv4 address, or the first 64 bits of an IPv6 address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(IPv6Network((parsed.packed[:8] + bytes(8), 64)))
    return str(parsed)
