"""The result of a scan: findings, or the reason why a text could not be scanned."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from gatehouse.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class Finding:
    """Locate personal data in a text: `text[start:end]` is an `entity`, with a score between 0 and 1.

    Attributes:
        evidence: what speaks for it, such as a label or a check digit; for people, not for comparison.
    """

    entity: str
    start: int
    end: int
    score: float
    evidence: tuple[str, ...] = field(default=(), compare=False)


def merged(findings: Iterable[Finding], rank: Callable[[Finding], int]) -> list[Finding]:
    """Return findings none of which overlaps another; of those that do, one covers all, and the highest rank names it.

    Args:
        rank: how strict a finding is; of two that are equally so, the longer names both.
    """
    apart: list[Finding] = []
    for each in sorted(findings, key=lambda each: (each.start, each.end)):
        if not apart or each.start >= apart[-1].end:
            apart.append(each)
            continue
        best = max(apart[-1], each, key=lambda each: (rank(each), each.end - each.start))
        apart[-1] = replace(best, start=apart[-1].start, end=max(apart[-1].end, each.end))
    return apart


class ScanFailed(Exception):
    """Report a text that could not be scanned to its end; the caller must block, never skip.

    Attributes:
        reason: never any part of the text.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason
