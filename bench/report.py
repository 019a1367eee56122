"""The report of a run: the ratios, then the numbers behind them, then the machine."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from bench.gateways import BARE, OURS, PIP
from bench.measure import Sample, of

# The gateway's goals: how many requests per second it serves for each one of the other's.
WANTED = {BARE: 0.85, PIP: 1.2}
TITLES = {
    BARE: "gatehouse / the same gateway without the plugin",
    PIP: "gatehouse / litellm[proxy] as pip installs it",
}


def ratios(samples: Sequence[Sample], other: str, connections: int, field: str) -> list[float]:
    """Return Gatehouse's values over the other's, one ratio per round."""
    ours, theirs = of(samples, OURS, connections), of(samples, other, connections)
    return [getattr(ours[number], field) / getattr(theirs[number], field) for number in ours if number in theirs]


def middle_half(values: Sequence[float]) -> str:
    """Return the first and the third quartile; values outside come from the machine's other users."""
    if len(values) < 2:
        return "one round"
    low, _, high = statistics.quantiles(values, n=4)
    return f"{low:.2f} .. {high:.2f}"


def quantiles(samples: Iterable[Sample]) -> tuple[float, float]:
    """Return median and 99th percentile of all latencies, in milliseconds."""
    pooled = sorted(latency for sample in samples for latency in sample.latencies_ms)
    return pooled[len(pooled) // 2], pooled[min(len(pooled) - 1, len(pooled) * 99 // 100)]


def environment() -> dict[str, object]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load_average": [round(each, 2) for each in os.getloadavg()],
        "python": platform.python_version(),
        **{name: version(name) for name in ("litellm", "uvicorn", "uvloop", "httptools")},
    }


def text(samples: Sequence[Sample], connections: Sequence[int], memory: Mapping[str, float]) -> str:
    """Return the report for people."""
    names = list(dict.fromkeys(sample.gateway for sample in samples))
    lines = ["", "Requests per second, median of the rounds' ratios [the middle half of them]"]
    for other in (BARE, PIP):
        if OURS not in names or other not in names:
            continue
        lines.append(f"  {TITLES[other]} (wanted: {WANTED[other]} or more)")
        for count in connections:
            found = ratios(samples, other, count, "rps")
            cpu = statistics.median(ratios(samples, other, count, "cpu_ms"))
            lines.append(
                f"    {count:>2} connections  {statistics.median(found):5.2f} [{middle_half(found)}]"
                f"   processor time per request {cpu:.2f}"
            )
    lines += ["", "gateway           connections    req/s   p50 ms   p99 ms   cpu ms/request   resident MB"]
    for name in names:
        for count in connections:
            found_here = of(samples, name, count).values()
            rps = statistics.median(sample.rps for sample in found_here)
            cpu = statistics.median(sample.cpu_ms for sample in found_here)
            p50, p99 = quantiles(found_here)
            lines.append(f"{name:<18} {count:>10} {rps:8.1f} {p50:8.2f} {p99:8.2f} {cpu:16.2f} {memory[name]:13.0f}")
    lines += ["", "  ".join(f"{name}={value}" for name, value in environment().items())]
    return "\n".join(lines)
