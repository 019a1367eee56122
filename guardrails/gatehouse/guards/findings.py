"""The result of a scan: findings, or the reason why a text could not be scanned."""

from __future__ import annotations

from dataclasses import dataclass

from gatehouse.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class Finding:
    """Locate personal data in a text: `text[start:end]` is an `entity`, with a score between 0 and 1."""

    entity: str
    start: int
    end: int
    score: float


class ScanFailed(Exception):
    """Report a text that could not be scanned to its end; the caller must block, never skip.

    Attributes:
        reason: never any part of the text.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason
