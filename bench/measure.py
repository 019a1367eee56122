"""Interleaved rounds: every gateway in turn, at every number of connections, while the others stand still.

On a machine that others use too, only a ratio within one round means something; a run is therefore several short
rounds, a result the median of their ratios. The processor time a request costs moves much less than the clock does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from bench.processes import Process
from bench.services import ROOT

WARM_UP_SECONDS = 3.0


@dataclass(frozen=True)
class Sample:
    """One gateway under load once. Latencies in milliseconds; `cpu_ms` is the gateway process's own, per request."""

    gateway: str
    connections: int
    round: int
    rps: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Gateway:
    name: str
    process: Process
    port: int


def apply_load(gateway: Gateway, key: str, connections: int, seconds: float) -> dict[str, float]:
    """Run the load generator against `gateway`; any answer but 200 ends the whole run."""
    argv = [sys.executable, "-m", "bench.load", "127.0.0.1", str(gateway.port), key, str(connections), str(seconds)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode != 0:
        raise SystemExit(f"error: bench: the load on {gateway.name} broke off:\n{done.stderr[-1500:]}")
    result: dict[str, float] = json.loads(done.stdout)
    if result["failures"]:
        raise SystemExit(f"error: bench: {gateway.name} answered {result['failures']} times {result['first_failure']}")
    return result


def run_rounds(
    gateways: Sequence[Gateway],
    key: str,
    *,
    rounds: int,
    seconds: float,
    connections: Sequence[int],
    say: Callable[[str], None],
    during: Callable[[Gateway], None] = lambda _: None,
) -> list[Sample]:
    """Measure; `during` is called as a gateway's measured load begins."""
    samples = []
    for gateway in gateways:
        apply_load(gateway, key, 4, WARM_UP_SECONDS)
        gateway.process.freeze()
    for number in range(rounds):
        for gateway in gateways if number % 2 == 0 else reversed(gateways):
            gateway.process.thaw()
            apply_load(gateway, key, 2, 1.0)
            for count in connections:
                during(gateway)
                cpu = gateway.process.cpu_seconds()
                result = apply_load(gateway, key, count, seconds)
                cpu = gateway.process.cpu_seconds() - cpu
                sample = Sample(
                    gateway.name,
                    count,
                    number,
                    result["rps"],
                    result["p50_ms"],
                    result["p99_ms"],
                    1000 * cpu / result["requests"],
                )
                samples.append(sample)
                say(
                    f"  round {number + 1}  {gateway.name:<22} x{count:<3} {sample.rps:7.1f} req/s "
                    f"p50 {sample.p50_ms:7.2f}  p99 {sample.p99_ms:7.2f}  cpu {sample.cpu_ms:6.2f} ms"
                )
            gateway.process.freeze()
    return samples


def by_round(samples: Sequence[Sample], gateway: str, connections: int) -> Mapping[int, Sample]:
    return {s.round: s for s in samples if s.gateway == gateway and s.connections == connections}
