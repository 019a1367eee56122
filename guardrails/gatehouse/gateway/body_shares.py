"""Bounds how many bytes of bodies the gateway holds at once, in all and per sender.

Promises: bodies count from their first byte until their call is over; a sender who holds much leaves as much free for
others; and the beginnings of bodies, which for most is the whole, have room of their own that large bodies cannot fill.
"""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import Final, Self

from gatehouse.core.errors import GovernanceUnavailable, TooManyRequests

# The limit for all bodies together. LiteLLM makes several copies of each.
MAX_HELD: Final = 256 * 1024 * 1024
# The length of a beginning, and the room for all beginnings as a part of `MAX_HELD`.
BEGINNING: Final = 64 * 1024
_BEGINNINGS: Final = 4
# The part of the free room that one sender may hold: as much as is left free, and of beginnings far less.
_PART: Final = 1
_PART_OF_BEGINNINGS: Final = 8

_FULL: Final = "The gateway's memory for requests is full. Try again soon."
_YOURS: Final = (
    "Your running requests hold as many bytes as one caller may have. Wait for their answers, then send this one again."
)


class _Pot:
    """Share a number of bytes among senders."""

    def __init__(self, limit: int, part: int) -> None:
        self._limit, self._part = limit, part
        self.held: Counter[str] = Counter()
        self.total = 0

    def take(self, sender: str, size: int) -> bool:
        """Hold more for a sender; return whether there was room."""
        if (self.held[sender] + size) * self._part > self._limit - self.total - size:
            self.give_back(sender, 0)
            return False
        self.held[sender] += size
        self.total += size
        return True

    def give_back(self, sender: str, size: int) -> None:
        self.held[sender] -= size
        self.total -= size
        if not self.held[sender]:
            del self.held[sender]


class BodyShares:
    """Count the bytes that one gateway process holds.

    Args:
        max_held: the limit for all senders together, except for the beginnings of bodies.
    """

    def __init__(self, max_held: int = MAX_HELD) -> None:
        self.beginnings = _Pot(max_held // _BEGINNINGS, _PART_OF_BEGINNINGS)
        self.rest = _Pot(max_held, _PART)

    @property
    def total(self) -> int:
        """Return how many bytes are held."""
        return self.beginnings.total + self.rest.total

    def of(self, sender: str) -> Share:
        """Return the share of one body of a sender; `with` gives it back."""
        return Share(self, sender)


class Share:
    """Count the bytes of one body."""

    __slots__ = ("_beginning", "_rest", "_sender", "_shares")

    def __init__(self, shares: BodyShares, sender: str) -> None:
        self._shares, self._sender = shares, sender
        self._beginning = self._rest = 0

    @property
    def sender(self) -> str:
        """Return the sender of the body."""
        return self._sender

    def add(self, size: int) -> None:
        """Hold more of the body.

        Raises:
            TooManyRequests: the sender would hold more than is left for others.
            GovernanceUnavailable: others hold so much that not even one body fits.
        """
        first = min(size, BEGINNING - self._beginning)
        if first and self._shares.beginnings.take(self._sender, first):
            self._beginning += first
            size -= first
        rest = self._shares.rest
        if size and not rest.take(self._sender, size):
            raise (
                TooManyRequests(_YOURS) if rest.held.get(self._sender, 0) > self._rest else GovernanceUnavailable(_FULL)
            )
        self._rest += size

    def release(self) -> None:
        """Release everything that is held of the body."""
        self._shares.beginnings.give_back(self._sender, self._beginning)
        self._shares.rest.give_back(self._sender, self._rest)
        self._beginning = self._rest = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
