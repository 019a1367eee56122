"""Computes precision, recall and F1, and prints a table of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Score:
    """Count the results of one scanner on one set of cases.

    Attributes:
        found: right findings.
        missed: what was not found but should be.
        wrong: what was found but should not be.
    """

    found: int = 0
    missed: int = 0
    wrong: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(self.found + other.found, self.missed + other.missed, self.wrong + other.wrong)

    @property
    def precision(self) -> float:
        """Return the share of right findings, 0 to 1; 1 where nothing was found."""
        return _share(self.found, self.wrong)

    @property
    def recall(self) -> float:
        """Return the share of cases that were found, 0 to 1; 1 where there are none."""
        return _share(self.found, self.missed)

    @property
    def f1(self) -> float:
        """Return the harmonic mean of both."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def _share(part: int, rest: int) -> float:
    return part / (part + rest) if part + rest else 1.0


def score_table(title: str, scores: Sequence[tuple[str, Score]]) -> str:
    """Return a line for each score, as every evaluation prints it."""
    width = max([len(title), *(len(name) for name, _ in scores)])
    lines = [f"{title:<{width}}  precision  recall     F1   found  missed  wrong"]
    lines += [
        f"{name:<{width}}  {each.precision:9.3f}  {each.recall:6.3f}  {each.f1:5.3f}"
        f"  {each.found:6}  {each.missed:6}  {each.wrong:5}"
        for name, each in scores
    ]
    return "\n".join(lines)
