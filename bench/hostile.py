"""`python -m bench hostile`: how a well-behaved key is served while 64 callers attack the gateway.

The well-behaved key asks short questions at a steady rate, without waiting for the previous answer. It is measured
alone first, then beside the hostile callers (`bench/hostile_callers.py`), who have their own keys or none. All of it,
callers, model and Postgres included, shares one machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import uvloop
import yaml

from bench import report
from bench.gateways import OURS, Variant, make_key, start_gateways
from bench.hostile_callers import CALLERS
from bench.load import Connection, questions, request
from bench.measure import Gateway
from bench.pipeline_gateways import POLICY
from bench.processes import Process
from bench.services import ROOT, start_services

_WARM_UP_S = 3.0
_BEFORE_S = 3.0  # until all hostile callers have started


@dataclass(frozen=True)
class Served:
    """Hold how the well-behaved key was served: milliseconds since each question was due, and every other answer."""

    latencies_ms: list[float]
    failures: list[str]

    def quantile(self, share: float) -> float:
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench hostile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=25.0, help="how long, alone and again beside them (25)")
    parser.add_argument("--rate", type=float, default=4.0, help="questions a second of the well-behaved key (4)")
    chosen = parser.parse_args(argv)
    if chosen.seconds <= 0 or chosen.rate <= 0:
        parser.error("--seconds and --rate must be above 0")
    return chosen


def ask(port: int, key: str, rate: float, seconds: float) -> Served:
    """Ask at a steady rate, each time on the first free connection."""
    return uvloop.run(_ask(port, key, rate, seconds))


async def _ask(port: int, key: str, rate: float, seconds: float) -> Served:
    served, free, bodies = Served([], []), list[Connection](), questions()
    loop = asyncio.get_running_loop()

    async def one(due: float) -> None:
        connection = free.pop() if free else (await loop.create_connection(Connection, "127.0.0.1", port))[1]
        try:
            status = await connection.exchange(request(port, key, next(bodies)))
        except ConnectionError as error:
            served.failures.append(str(error))
            return
        if status == 200:
            served.latencies_ms.append(1000 * (time.perf_counter() - due))
        else:
            served.failures.append(f"{status}: {connection.body[:300].decode(errors='replace')}")
        free.append(connection)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as asked:
        for number in range(int(rate * seconds)):
            due = begun + number / rate
            await asyncio.sleep(max(0, due - time.perf_counter()))
            if free and free[-1].transport.is_closing():  # it was idle for too long
                free.clear()
            asked.create_task(one(due))
    return served


@contextmanager
def peak_of(process: Process) -> Iterator[list[float]]:
    """Yield a list of one number: the most memory that a process has while this is open, in MB."""
    peak, over = [process.resident_mb()], threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            peak[0] = max(peak[0], process.resident_mb())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def text(quiet: Served, beside: Served, memory: tuple[float, float], answers: dict[str, dict[str, int]]) -> str:
    """Return the report for people."""
    lines = [
        "",
        f"The well-behaved key, alone and beside {sum(CALLERS.values())} hostile callers",
        "             answered   errors   p50 ms   p99 ms   gateway's memory at most, MB",
    ]
    for name, served, peak in (("alone", quiet, memory[0]), ("beside them", beside, memory[1])):
        lines.append(
            f"{name:<12} {len(served.latencies_ms):>8} {len(served.failures):>8} {served.quantile(0.5):8.0f} "
            f"{served.quantile(0.99):8.0f} {peak:10.0f}"
        )
    ratios = [beside.quantile(share) / quiet.quantile(share) for share in (0.5, 0.99)]
    lines.append(f"beside them / alone: p50 {ratios[0]:.1f}, p99 {ratios[1]:.1f}")
    lines += [f"error: {failure}" for failure in beside.failures[:5]]
    lines += ["", "What the hostile callers were answered"]
    lines += [
        f"{kind:<6} {CALLERS[kind]:>3} callers   " + ", ".join(f"{status}: {count}" for status, count in seen.items())
        for kind, seen in answers.items()
    ]
    lines += ["", f"{datetime.now(UTC):%Y-%m-%d}  " + "  ".join(f"{k}={v}" for k, v in report.environment().items())]
    return "\n".join(lines)


def run(gateway: Gateway, seconds: float, rate: float) -> str:
    key, hostile = make_key(gateway), [make_key(gateway) for _ in CALLERS]
    _say("warming up ...")
    ask(gateway.port, key, rate, _WARM_UP_S)
    _say("the well-behaved key alone ...")
    with peak_of(gateway.process) as quiet_peak:
        quiet = ask(gateway.port, key, rate, seconds)
    _say("beside the hostile callers ...")
    argv = [sys.executable, "-m", "bench.hostile_callers", str(gateway.port), ",".join(hostile)]
    with (
        peak_of(gateway.process) as peak,
        subprocess.Popen([*argv, str(_BEFORE_S + seconds)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as callers,
    ):
        try:
            time.sleep(_BEFORE_S)
            beside = ask(gateway.port, key, rate, seconds)
            said, _ = callers.communicate(timeout=120)
        finally:
            callers.kill()
    return text(quiet, beside, (quiet_peak[0], peak[0]), json.loads(said))


def main(argv: Sequence[str]) -> None:
    chosen = arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stack below is unwound
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gatehouse-bench-")))
        policy = folder / "policy.yaml"
        # Without a limit of tokens, which would refuse texts before they are scanned.
        unlimited = {name: section for name, section in POLICY.items() if name != "limits"}
        policy.write_text(yaml.safe_dump(unlimited, sort_keys=False))
        _say("starting Postgres, Redis and the constant upstream ...")
        services = start_services(stack, folder)
        (gateway,) = start_gateways(stack, folder, services, [Variant(OURS, OURS, policy)], _say)
        print(run(gateway, chosen.seconds, chosen.rate))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
