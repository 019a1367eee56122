"""The report of `python -m bench pipeline`: one line for each goal, then the numbers behind them, then the machine.

Every figure is the median of the rounds, with the least and the most of any round beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench import report
from bench.gateways import BARE, OURS
from bench.measure import Sample, of
from bench.pipeline_gateways import LEAN, PLAIN, PRESIDIO

PAIRS = (
    (OURS, PLAIN, "0.75 or more"),
    (OURS, BARE, "0.75 or more"),
    (OURS, PRESIDIO, "3 or more"),
    (OURS, LEAN, ""),
    # What governance that takes no time would reach against it, on the same LiteLLM.
    (BARE, PRESIDIO, ""),
)

LastTurn = Mapping[str, Mapping[int, Sequence[float]]]
"""Latencies in milliseconds, by gateway and round."""
Turns = Mapping[str, Mapping[int, float]]
"""Turns of conversations a second, by gateway and round."""


@dataclass(frozen=True)
class Figure:
    """Hold one figure: `values` has one for each round; `wanted` is the goal, if there is one."""

    title: str
    unit: str
    values: list[float]
    wanted: str = ""

    def __str__(self) -> str:
        middle = statistics.median(self.values)
        digits = 3 if abs(middle) < 1 else 2
        numbers = f"{middle:.{digits}f} [{min(self.values):.{digits}f} .. {max(self.values):.{digits}f}] {self.unit}"
        return f"  {self.title:<70} {numbers:<32} {f'(wanted: {self.wanted})' if self.wanted else ''}".rstrip()


def figures(
    rules: Sequence[float], samples: Sequence[Sample], last: LastTurn, turns: Turns, connections: Sequence[int]
) -> list[Figure]:
    """Return all figures for which there are samples."""
    found = [Figure("facts and 100 rules, p50", "ms", list(rules), "under 0.3")]
    for one, other, wanted in PAIRS:
        for count in connections:
            ours, theirs = of(samples, one, count), of(samples, other, count)
            both = sorted(ours.keys() & theirs.keys())
            if not both:
                continue
            title = f"{one} / {other}, requests/s, {count} connection{'s' * (count > 1)}"
            promised = wanted if count > 1 else ""
            found.append(Figure(title, "", [ours[n].rps / theirs[n].rps for n in both], promised))
            if count == 1:
                extra = [_p50(ours[n].latencies_ms) - _p50(theirs[n].latencies_ms) for n in both]
                found.append(Figure(f"{one} - {other}, p50, 1 connection", "ms", extra))
    for other, wanted in ((PLAIN, ""), (PRESIDIO, "3 or more")):
        if both := sorted(turns.get(OURS, {}).keys() & turns.get(other, {}).keys()):
            values = [turns[OURS][n] / turns[other][n] for n in both]
            found.append(Figure(f"{OURS} / {other}, turns of conversations/s", "", values, wanted))
    for other, wanted in ((PLAIN, "3 or less"), (BARE, "3 or less"), (PRESIDIO, "")):
        if both := sorted(last.get(OURS, {}).keys() & last.get(other, {}).keys()):
            # The n-th conversations of both follow each other closely.
            extra = [_p50([a - b for a, b in zip(last[OURS][n], last[other][n], strict=True)]) for n in both]
            found.append(Figure(f"{OURS} - {other}, p50, last of 20 turns", "ms", extra, wanted))
    return found


def text(
    rules: Sequence[float], samples: Sequence[Sample], last: LastTurn, turns: Turns, connections: Sequence[int]
) -> str:
    """Return the report for people."""
    lines = ["", "Median of the rounds [least .. most]"]
    lines += map(str, figures(rules, samples, last, turns, connections))
    if samples:
        lines += ["", "gateway                connections    req/s [least .. most]      p50 ms   p99 ms"]
    for name in dict.fromkeys(sample.gateway for sample in samples):
        for count in connections:
            here = of(samples, name, count).values()
            rps = [sample.rps for sample in here]
            p50, p99 = report.quantiles(here)
            spread = f"{statistics.median(rps):8.1f} [{min(rps):.1f} .. {max(rps):.1f}]"
            lines.append(f"{name:<23} {count:>10} {spread:<30} {p50:5.2f} {p99:8.2f}")
        if name in last:
            p50s = [_p50(latencies) for latencies in last[name].values()]
            spread = f"{statistics.median(p50s):.2f} [{min(p50s):.2f} .. {max(p50s):.2f}]"
            lines.append(f"{name:<23}  last of 20 turns, p50 ms: {spread}")
    lines += ["", "  ".join(f"{name}={value}" for name, value in report.environment().items())]
    return "\n".join(lines)


def _p50(values: Sequence[float]) -> float:
    return statistics.median(values)
