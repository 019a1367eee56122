"""Reads the clock, as the only module that does, and makes call ids that contain the time."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from uuid import UUID


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Return seconds from a clock that never runs backwards, to measure durations."""
    return time.monotonic()


def new_call_id() -> UUID:
    """Return a UUID of version 7 (RFC 9562 section 5.7). The time comes first, so the calls' index grows at its end."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)


def first_id(since: datetime) -> UUID:
    """Return the smallest id that a call of that time can have: version 7 begins with milliseconds (RFC 9562)."""
    return UUID(int=max(0, int(since.timestamp() * 1000)) << 80)
