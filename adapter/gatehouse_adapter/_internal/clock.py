"""The one place that reads a clock, waits, or rolls a die."""

from __future__ import annotations

import asyncio
import random
import time


def now() -> float:
    """Seconds since the Unix epoch, to compare with dates that a server sends."""
    return time.time()


def monotonic() -> float:
    """Seconds on the clock that event loops use, for deadlines."""
    return time.monotonic()


def jitter() -> float:
    """A number in [0.5, 1): spreads the retries of many agents that failed at the same moment."""
    return 0.5 + random.random() / 2  # noqa: S311  no secret depends on it


async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)
