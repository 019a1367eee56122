"""Lets a caller have half of its rate limits while a window runs in which Redis lost its counters.

LiteLLM counts requests and tokens in windows of a minute, in Redis, for all gateways. Where Redis comes back without
its data, each window would begin anew, and a caller could have its limit twice. A mark in Redis tells: it is made once,
and a gateway that knows one and finds another knows that Redis lost its data. The calls of the lost part of the window
cannot be counted any more, so the window counts as used by half.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from uuid import uuid4

from gatehouse.core.clock import monotonic

Script = Callable[..., Awaitable[Any]]
Descriptors = list[dict[str, Any]]

MARK: Final = "gatehouse:counters"
# Returns the mark, and makes one where there is none.
MAKE_MARK: Final = "redis.call('SET', KEYS[1], ARGV[1], 'NX') return redis.call('GET', KEYS[1])"

_RATES: Final = ("requests_per_unit", "tokens_per_unit")


class RateWindows:
    """Know whether Redis lost its counters, and when.

    Args:
        make_mark: runs `MAKE_MARK` in Redis.
        window_s: how long LiteLLM's windows are.
        forget: drops what this process remembers of the lost counters.
    """

    def __init__(self, make_mark: Script, window_s: float, forget: Callable[[], None]) -> None:
        self._make_mark = make_mark
        self._window_s = window_s
        self._forget = forget
        self._known: Any = None
        self._lost_at = float("-inf")

    async def look(self) -> None:
        """Ask Redis for its mark."""
        mark = await self._make_mark(keys=[MARK], args=[uuid4().hex])
        if self._known not in (None, mark):
            self._lost_at = monotonic()
            self._forget()
        self._known = mark

    async def limits(self, descriptors: Descriptors) -> Descriptors:
        """Return the limits of a call as they are now."""
        if not any(_rate(each) for each in descriptors):
            return descriptors
        try:
            await self.look()
        except Exception:  # Redis is away; LiteLLM itself refuses the call, or counts in memory, as it is configured
            return descriptors
        return halved(descriptors, monotonic() - self._lost_at, self._window_s)


def halved(descriptors: Sequence[dict[str, Any]], since_s: float, window_s: float) -> Descriptors:
    """Return the limits with half of each rate, rounded up, whose window began before Redis lost its counters.

    Args:
        since_s: how long ago Redis lost them.
        window_s: how long the window is of a limit that does not say it.
    """
    return [
        each | {"rate_limit": {name: _half(name, value) for name, value in each["rate_limit"].items()}}
        if _rate(each) and since_s < (each["rate_limit"].get("window_size") or window_s)
        else each
        for each in descriptors
    ]


def _rate(descriptor: dict[str, Any]) -> bool:
    limit = descriptor.get("rate_limit") or {}
    return any(limit.get(name) is not None for name in _RATES)


def _half(name: str, value: Any) -> Any:
    return (int(value) + 1) // 2 if name in _RATES and value is not None else value
