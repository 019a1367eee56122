"""Keeps LiteLLM's counters in Redis true while the gateway runs: slots of parallel calls are leases, and rate limits
hold over a Redis that lost its data.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any, Final

from redis.exceptions import ResponseError

from gatehouse.proxy.parallel_slots import RENEW_SLOTS, SlotLeases, limiter_in_use
from gatehouse.proxy.rate_windows import MAKE_MARK, RateWindows

log = logging.getLogger("gatehouse.redis")

RENEW_S: Final = 5.0

_DROPS: Final = (
    "Redis: its maxmemory-policy is %s, so it may drop the counters of budgets, rate limits and parallel calls. "
    "Set it to noeviction."
)


class RedisCounters:
    """Renew the slots of this process, and watch whether Redis lost its data. Without a Redis, do nothing."""

    def __init__(self, leases: SlotLeases) -> None:
        self._leases = leases
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, once LiteLLM has made its limiter."""
        limiter = limiter_in_use()
        if limiter is None or limiter.parallel_acquire_script is None:
            return
        cache = limiter.internal_usage_cache.dual_cache
        redis, forget = cache.redis_cache, cache.in_memory_cache.flush_cache
        windows = RateWindows(redis.async_register_script(MAKE_MARK), limiter.window_size, forget)
        build = limiter._build_request_rate_limit_descriptors

        async def descriptors(*args: Any, **kwargs: Any) -> list[dict[str, Any]]:
            return await windows.limits(await build(*args, **kwargs))

        limiter._build_request_rate_limit_descriptors = descriptors
        self._leases.in_redis(redis.async_register_script(RENEW_SLOTS), limiter)
        self._task = asyncio.create_task(self._run(redis, windows), name="gatehouse-redis-counters")

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self, redis: Any, windows: RateWindows) -> None:
        failing, asked = False, False
        while True:
            try:
                await windows.look()
                await self._leases.renew()
                failing = False
                if not asked:
                    asked = True
                    await _check_policy(redis)
            except Exception as error:  # Redis is away; slots that are not given back there by then lapse
                if not failing:
                    log.warning("Redis: slots and rate limits cannot be kept up (%s)", type(error).__name__)
                failing = True
            await asyncio.sleep(RENEW_S)


async def _check_policy(redis: Any) -> None:
    """Warn where Redis is set up as a cache. A Redis that does not say how it is set up is left alone."""
    with contextlib.suppress(ResponseError):
        memory = await redis.init_async_client().info("memory")
        _warn(memory)


def _warn(memory: Mapping[str, Any]) -> None:
    policy = memory.get("maxmemory_policy", "noeviction")
    if memory.get("maxmemory") and policy != "noeviction":
        log.warning(_DROPS, policy)
