"""The circuit breaker: a gateway that fails again and again is left alone for a while, and then asked once.

Pure: the caller brings the time. A refusal is an answer, so a 4xx never counts as a failure.
"""

from __future__ import annotations

import httpx

from gatehouse_adapter.errors import CircuitOpen, ConnectionFailed, GatehouseError, TimedOut


class Breaker:
    """Closed while calls succeed; open after so many failures in a row; half-open for one probe after that.

    Args:
        threshold: failures in a row after which nothing is sent.
        recovery: seconds until one call may try again.
    """

    def __init__(self, threshold: int, recovery: float) -> None:
        self._threshold = threshold
        self._recovery = recovery
        self._failures = 0
        self._again_at = 0.0
        self._probing = False

    def enter(self, now: float) -> bool:
        """Let a call begin; True where it is the one that tries again.

        Raises:
            CircuitOpen: not now; nothing was sent.
        """
        if self._failures < self._threshold:
            return False
        wait = self._again_at - now
        if wait > 0 or self._probing:
            wait = max(wait, 0.0)
            raise CircuitOpen(
                f"The gateway failed {self._failures} times in a row, so nothing was sent. "
                + (f"Try again in {wait:.0f} s." if wait else "Another call is trying now; try again soon."),
                retry_after=wait,
            )
        self._probing = True
        return True

    def leave(self, *, probe: bool, failed: bool | None, now: float) -> None:
        """A call that could begin has ended; `failed` is None where it was given up before anybody knew."""
        if probe:
            self._probing = False
        if failed:
            self._failures += 1
            self._again_at = now + self._recovery
        elif failed is not None:
            self._failures = 0


def is_failure(error: GatehouseError) -> bool:
    """Whether the gateway failed, rather than refused, or than this side had no connection free."""
    if isinstance(error.__cause__, httpx.PoolTimeout):
        return False
    return isinstance(error, ConnectionFailed | TimedOut) or (error.status is not None and error.status >= 500)
