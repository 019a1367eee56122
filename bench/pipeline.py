"""`python -m bench pipeline`: the cost of rules, screens and masking, and the gateway's requests per second with them
for each one of LiteLLM's own Presidio guardrail, beside it in the same minutes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from bench import pipeline_gateways, pipeline_report, report
from bench.load import apply_load, chat
from bench.measure import Gateway, checked, drain, run_rounds
from bench.pipeline_gateways import LEAN
from bench.pipeline_rules import RULES, policy_p50_ms
from bench.prompts import TURNS, conversation, prompt, until_turn
from bench.services import start_services

CONNECTIONS = (1, 16)


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench pipeline", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="how often each gateway is measured (15)")
    parser.add_argument("--seconds", type=float, default=1.5, help="how long each time (1.5)")
    parser.add_argument("--conversations", type=int, default=8, help="conversations of 20 turns each time (8)")
    parser.add_argument("--calls", type=int, default=1000, help="evaluations of the rules each time (1000)")
    parser.add_argument("--rules-only", action="store_true", help="only the rules, in this process")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every sample there")
    chosen = parser.parse_args(argv)
    if min(chosen.rounds, chosen.conversations, chosen.calls) < 1 or chosen.seconds <= 0:
        parser.error("--rounds, --conversations, --calls and --seconds must be above 0")
    return chosen


def bodies() -> Iterator[bytes]:
    """Yield prompts without end, all different."""
    for number in itertools.count():
        yield chat({"role": "user", "content": prompt(number)})


class Conversations:
    """Measure agents' conversations of twenty turns, by gateway and round: turns a second up to the nineteenth over
    some connections at once, and milliseconds of the twentieth.

    In the twentieth the gateways take turns from one conversation to the next, so that the n-th of each are measured
    within a second.
    """

    def __init__(self, key: str, count: int) -> None:
        self.ms: dict[str, dict[int, list[float]]] = defaultdict(dict)
        self.rps: dict[str, dict[int, float]] = defaultdict(dict)
        self._key, self._count = key, count
        self._numbers = itertools.count()

    def measure(self, gateways: Sequence[Gateway], number: int) -> None:
        """Send the turns before the last first, so that each gateway has seen all messages but the two new ones."""
        last: dict[str, list[bytes]] = {}
        for gateway in gateways:
            said = [conversation(next(self._numbers)) for _ in range(self._count)]
            earlier = (chat(*until_turn(messages, turn)) for turn in range(1, TURNS) for messages in said)
            load = checked(gateway, apply_load(gateway.port, self._key, min(8, self._count), bodies=earlier))
            self.rps[gateway.name][number] = len(load.latencies_ms) / load.seconds
            drain(gateway.process)
            last[gateway.name] = [chat(*until_turn(messages, TURNS)) for messages in said]
            self.ms[gateway.name][number] = []
        for which in range(self._count):
            for gateway in gateways if which % 2 == 0 else reversed(gateways):
                load = apply_load(gateway.port, self._key, 1, bodies=iter([last[gateway.name][which]]))
                self.ms[gateway.name][number] += checked(gateway, load).latencies_ms


def main(argv: list[str]) -> None:
    chosen = arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stack below is unwound
    _say(f"evaluating {RULES} rules ...")
    rules = [policy_p50_ms(chosen.calls) for _ in range(chosen.rounds)]
    if chosen.rules_only:
        print(pipeline_report.text(rules, [], {}, {}, CONNECTIONS))
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gatehouse-bench-")))
        _say("starting Postgres, Redis and the constant upstream ...")
        services = start_services(stack, folder)
        gateways = pipeline_gateways.start(stack, folder, services, _say)
        key, check = pipeline_gateways.make_check(gateways, services)
        turns = Conversations(key, chosen.conversations)

        def after(number: int) -> None:
            for gateway in gateways:
                gateway.process.thaw()
                check(gateway)
            turns.measure([gateway for gateway in gateways if gateway.name != LEAN], number)
            for gateway in gateways:
                gateway.process.freeze()

        samples = run_rounds(
            gateways,
            key,
            rounds=chosen.rounds,
            seconds=chosen.seconds,
            connections=CONNECTIONS,
            say=_say,
            bodies=bodies(),
            after=after,
        )
    if chosen.json:
        document = {
            "environment": report.environment(),
            "figures": [
                asdict(figure) for figure in pipeline_report.figures(rules, samples, turns.ms, turns.rps, CONNECTIONS)
            ],
            "samples": [asdict(sample) for sample in samples],
            "last_turn_ms": turns.ms,
            "turns_per_second": turns.rps,
        }
        chosen.json.write_text(json.dumps(document, indent=1) + "\n")
    print(pipeline_report.text(rules, samples, turns.ms, turns.rps, CONNECTIONS))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
