"""`python -m bench`: requests per second of the gateway for each one of the same gateway without the plugin, and of
LiteLLM as pip installs it, beside it on the same machine in the same minutes. `python -m bench ledger` measures the
ledger instead, `python -m bench pipeline` the policy, the screens and the masking of personal data, `python -m bench
approvals` how soon a held call continues after its approval, `python -m bench egress` the check of what is about to be
sent, `python -m bench hostile` how one key is served beside hostile callers, `python -m bench first_byte` how soon the
first text of a stream is passed on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from gatehouse.core.errors import SetupError

from bench import report
from bench.gateways import BARE, OURS, PIP, Variant, make_key, start_gateways
from bench.measure import Gateway, run_rounds
from bench.services import start_services

CONNECTIONS = (1, 16)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="how often each gateway is measured (20)")
    parser.add_argument("--seconds", type=float, default=1.5, help="how long each time (1.5)")
    parser.add_argument("--only", default=f"{OURS},{BARE},{PIP}", help="gateways to run, with commas (all three)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every sample there")
    parser.add_argument("--profile", type=Path, metavar="FOLDER", help="also record each gateway with py-spy, as SVG")
    chosen = parser.parse_args()
    chosen.only = chosen.only.split(",")
    if unknown := set(chosen.only) - {OURS, BARE, PIP}:
        parser.error(f"--only: {', '.join(sorted(unknown))}: there are {OURS}, {BARE} and {PIP}")
    return chosen


class Profiler:
    """Record each gateway's first measured load with py-spy, which must be on PATH."""

    def __init__(self, stack: ExitStack, folder: Path, seconds: float) -> None:
        self._stack, self._folder, self._seconds = stack, folder, seconds
        self._done: set[str] = set()
        self._program = shutil.which("py-spy")
        if self._program is None:
            raise SystemExit("error: --profile: py-spy is not on PATH. Install it with `uv tool install py-spy`.")
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, gateway: Gateway) -> None:
        if gateway.name in self._done:
            return
        self._done.add(gateway.name)
        target = self._folder / f"{gateway.name}.svg"
        argv = ["record", "--nonblocking", "--gil", "--pid", str(gateway.process.pid)]
        process = subprocess.Popen(
            [str(self._program), *argv, "--duration", str(max(1, int(self._seconds))), "--output", str(target)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._stack.callback(process.wait, 30)


def main() -> None:
    chosen = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stack below is unwound
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gatehouse-bench-")))
        say = _say
        say("starting Postgres, Redis and the constant upstream ...")
        services = start_services(stack, folder)
        gateways = start_gateways(stack, folder, services, [Variant(name, name) for name in chosen.only], say)
        profiler = Profiler(stack, chosen.profile, chosen.seconds) if chosen.profile else None
        samples = run_rounds(
            gateways,
            make_key(gateways[0]),
            rounds=chosen.rounds,
            seconds=chosen.seconds,
            connections=CONNECTIONS,
            say=say,
            during=profiler or (lambda _: None),
        )
        memory = {gateway.name: gateway.process.resident_mb() for gateway in gateways}
    print(report.text(samples, CONNECTIONS, memory))
    if chosen.json:
        document = {"environment": report.environment(), "samples": [asdict(sample) for sample in samples]}
        chosen.json.write_text(json.dumps(document, indent=1) + "\n")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        if sys.argv[1:2] == ["ledger"]:
            from bench import ledger

            ledger.main(sys.argv[2:])
        elif sys.argv[1:2] == ["pipeline"]:
            from bench import pipeline

            pipeline.main(sys.argv[2:])
        elif sys.argv[1:2] == ["egress"]:
            from bench import egress

            egress.main(sys.argv[2:])
        elif sys.argv[1:2] == ["approvals"]:
            from bench import approvals

            approvals.main(sys.argv[2:])
        elif sys.argv[1:2] == ["hostile"]:
            from bench import hostile

            hostile.main(sys.argv[2:])
        elif sys.argv[1:2] == ["first_byte"]:
            from bench import first_byte

            first_byte.main(sys.argv[2:])
        else:
            main()
    except SetupError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
