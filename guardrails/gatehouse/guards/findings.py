"""What a scan says: findings, or that the text could not be scanned."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """Personal data in a text: `text[start:end]` is an `entity`, with a score between 0 and 1."""

    entity: str
    start: int
    end: int
    score: float


class ScanFailed(Exception):
    """A text could not be scanned to its end; whoever asked must block, never skip.

    Attributes:
        reason: `timeout`, `too_long`, `worker_crashed`, `busy`, `crowded`, `closed` or
            `unavailable`. Never anything of the text.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
