"""Reads a clock, waits, and draws random numbers, as the only module that does."""

from __future__ import annotations

import asyncio
import random
import time


def now() -> float:
    """Return seconds since the Unix epoch, to compare with dates that a server sends."""
    return time.time()


def monotonic() -> float:
    """Return seconds on the clock of event loops, for deadlines."""
    return time.monotonic()


def jitter() -> float:
    """Return a number in [0.5, 1), which spreads the retries of agents that failed at the same moment."""
    return 0.5 + random.random() / 2  # noqa: S311  no secret depends on it


async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)
