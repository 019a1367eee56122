"""The time limit of the scan of one text, and matching that ends with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

from gatehouse.core.reasons import Reason
from gatehouse.guards.findings import ScanFailed


@dataclass(frozen=True, slots=True)
class Deadline:
    """Hold the point on the monotonic clock by which the scan of one text must have ended."""

    at: float

    def left(self) -> float:
        """Return the seconds left.

        Raises:
            ScanFailed: none are left.
        """
        seconds = self.at - monotonic()
        if seconds <= 0:
            raise ScanFailed(Reason.TIMEOUT)
        return seconds


def matches(pattern: Any, text: str, deadline: Deadline) -> Iterator[Any]:
    """Yield the pattern's matches.

    Raises:
        ScanFailed: the time ran out before the end of the text.
    """
    try:
        yield from pattern.finditer(text, timeout=deadline.left())
    except TimeoutError:
        raise ScanFailed(Reason.TIMEOUT) from None
