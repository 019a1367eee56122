"""A circuit breaker: after so many failures in a row no call is sent for a while, and then one call tries for all.

Pure: the caller passes the time in, and calls from one thread (the background loop's).

    closed     every call is sent; `threshold` failures in a row open it
    open       no call is sent, for `recovery` seconds
    half-open  the next call is sent, and meanwhile no other: its success closes, its failure opens again
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Permit(Enum):
    """Say what a call may do; the caller gives it back with the result."""

    ORDINARY = "ordinary"
    PROBE = "probe"


class Breaker:
    """Break the circuit to one endpoint.

    Args:
        threshold: failures in a row, at least 1.
        recovery: seconds.
    """

    def __init__(self, threshold: int, recovery: float) -> None:
        self._threshold = threshold
        self._recovery = recovery
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = False

    def state(self, now: float) -> State:
        """Return the state at `now`, in seconds on a clock that never goes back."""
        if self._opened_at is None:
            return State.CLOSED
        return State.HALF_OPEN if self._probing or now - self._opened_at >= self._recovery else State.OPEN

    def wait(self, now: float) -> float:
        """Return the seconds until it is no longer open."""
        return 0.0 if self._opened_at is None else max(0.0, self._opened_at + self._recovery - now)

    def enter(self, now: float) -> Permit | None:
        """Return a permit to send, or None."""
        state = self.state(now)
        if state is State.CLOSED:
            return Permit.ORDINARY
        if state is State.OPEN or self._probing:
            return None
        self._probing = True
        return Permit.PROBE

    def succeeded(self, permit: Permit) -> None:
        """Note that the endpoint answered, with whatever answer."""
        if permit is Permit.PROBE:
            self._probing = False
            self._opened_at = None
        if self._opened_at is None:  # an old call's answer says nothing about a breaker that has opened since
            self._failures = 0

    def failed(self, permit: Permit, now: float) -> bool:
        """Note a failure. Return whether it opened the breaker."""
        if permit is Permit.PROBE:
            self._probing = False
            self._opened_at = now
            return True
        if self._opened_at is not None:
            return False
        self._failures += 1
        if self._failures >= self._threshold:
            self._opened_at = now
            return True
        return False

    def left(self, permit: Permit) -> None:
        """Note that the caller left before there was an answer; the next call may try instead."""
        if permit is Permit.PROBE:
            self._probing = False
