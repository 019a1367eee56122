"""Interleaved rounds: every gateway in turn, at every number of connections, while the others are stopped.

On a shared machine only a ratio taken within seconds means something: a run has many short rounds, and a result is the
median of their ratios. Processor time per request varies less than the clock, but it varies too, because two busy
hyperthreads share one core.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.load import Load, apply_load
from bench.processes import Process

START_SECONDS = 4.0
WARM_UP_SECONDS = 0.4
DRAIN_SECONDS = 0.15
DRAIN_LOOKS = 20


@dataclass(frozen=True)
class Gateway:
    name: str
    process: Process
    port: int


@dataclass(frozen=True)
class Sample:
    """Hold one measurement of a gateway under load. `cpu_ms` is the gateway process's own processor time per request,
    with the logging and spend accounting after the answer."""

    gateway: str
    connections: int
    round: int
    rps: float
    cpu_ms: float
    latencies_ms: list[float]


def run_rounds(
    gateways: Sequence[Gateway],
    key: str,
    *,
    rounds: int,
    seconds: float,
    connections: Sequence[int],
    say: Callable[[str], None],
    bodies: Iterator[bytes] | None = None,
    during: Callable[[Gateway], None] = lambda _: None,
    after: Callable[[int], None] = lambda _: None,
) -> list[Sample]:
    """Measure with `bodies`, which never end; `during` is called when a gateway's measured load begins, `after` when a
    round ends and all gateways are stopped.

    It raises SystemExit when a gateway answers anything but 200.
    """
    samples = []
    for gateway in gateways:
        checked(gateway, apply_load(gateway.port, key, 8, START_SECONDS, bodies))
        gateway.process.freeze()
    for number in range(rounds):
        said = []
        for gateway in gateways if number % 2 == 0 else reversed(gateways):
            gateway.process.thaw()
            drain(gateway.process)
            for count in connections:
                checked(gateway, apply_load(gateway.port, key, count, WARM_UP_SECONDS, bodies))
                drain(gateway.process)
                during(gateway)
                cpu = gateway.process.cpu_seconds()
                load = checked(gateway, apply_load(gateway.port, key, count, seconds, bodies))
                drain(gateway.process)
                cpu = gateway.process.cpu_seconds() - cpu
                answered = len(load.latencies_ms)
                rps = answered / load.seconds
                samples.append(Sample(gateway.name, count, number, rps, 1000 * cpu / answered, load.latencies_ms))
                said.append(f"{gateway.name} x{count} {rps:.0f}")
            gateway.process.freeze()
        after(number)
        say(f"round {number + 1} of {rounds}, requests/s: {', '.join(sorted(said))}")
    return samples


def of(samples: Sequence[Sample], gateway: str, connections: int) -> dict[int, Sample]:
    """Return the samples of one gateway at one number of connections, by round."""
    return {s.round: s for s in samples if s.gateway == gateway and s.connections == connections}


def drain(process: Process) -> None:
    """Wait until the process has done its delayed work (logging, spend), so that the next load does not pay for it."""
    for _ in range(DRAIN_LOOKS):
        before = process.cpu_seconds()
        time.sleep(DRAIN_SECONDS)
        if process.cpu_seconds() - before < 0.2 * DRAIN_SECONDS:
            return


def checked(gateway: Gateway, load: Load) -> Load:
    """Return the load if every answer had status 200; else raise SystemExit."""
    if load.failures or not load.latencies_ms:
        first = load.failures[0] if load.failures else "nothing"
        raise SystemExit(f"error: bench: {gateway.name} answered {len(load.failures)} times not with 200: {first}")
    return load
