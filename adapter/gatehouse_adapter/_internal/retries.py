"""Decides which calls may be sent again, and when: only those that no gateway has begun to carry out. Pure.

These are calls without a connection, and those with a 503 that names a time in Retry-After. A bare 503 may come from a
provider that has already worked, and charged, for the call.
"""

from __future__ import annotations

import httpx

from gatehouse_adapter.errors import GatehouseError

MAX_RETRY_AFTER = 30.0
"""Seconds. A longer wait is left to the caller, who reads `error.retry_after`."""

_FIRST_BACKOFF = 0.5
_MAX_BACKOFF = 8.0


def delay(failure: GatehouseError, cause: BaseException | None, *, attempt: int, jitter: float) -> float | None:
    """Return the seconds until the next attempt; None: give up. `attempt` counts from 0, `jitter` is in [0.5, 1)."""
    backoff = min(_MAX_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(attempt, 10)) * jitter
    if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout):
        return backoff
    if failure.status == 503 and failure.retry_after is not None and failure.retry_after <= MAX_RETRY_AFTER:
        return failure.retry_after + backoff
    return None
