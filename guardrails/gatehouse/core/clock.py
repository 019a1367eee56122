"""The one place that reads the clock, and the call ids that carry its time."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from uuid import UUID


def now() -> datetime:
    """Wall clock, UTC."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds that never run backwards, for durations."""
    return time.monotonic()


def new_call_id() -> UUID:
    """A UUID of version 7 (RFC 9562 section 5.7): time first, so that the index of calls grows at one end."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)
