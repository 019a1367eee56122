"""`python -m bench ledger`: capsules stored per second by 16 writers in 3 processes, and the verification of many, each
beside the protocol's reference implementation (qp-capsule) with the same records, on the same Postgres, in one run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
from gatehouse.capsule import keys
from gatehouse.capsule.export import export_json
from gatehouse.capsule.seal import SealedCapsule, seal
from gatehouse.core.clock import new_call_id, now
from qp_capsule.storage_pg import PostgresCapsuleStorage

from bench import report
from bench.services import ROOT, start_services
from bench.writer import document
from tests.support.postgres import apply_migrations

WRITERS = (6, 5, 5)
OURS, THEIRS = "gatehouse", "qp-capsule"


@dataclass(frozen=True)
class Round:
    """Hold what one turn stored, in all processes together."""

    stored: int
    lost: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.stored / self.seconds


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench ledger", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (5)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each turn (5)")
    parser.add_argument(
        "--verify", type=int, default=100_000, metavar="N", help="capsules to verify (100000); 0 for none"
    )
    return parser.parse_args(argv)


def run(name: str, url: str, folder: Path, seconds: float) -> Round:
    """Let three processes write at once."""
    command = [sys.executable, "-m", "bench.writer", name, url, str(folder)]
    writers = [
        subprocess.Popen(
            [*command, str(n), str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
        )
        for n in WRITERS
    ]
    results = []
    try:
        for writer in writers:
            assert writer.stdout is not None
            if writer.stdout.readline() != "ready\n":
                raise SystemExit(f"error: bench: a writer of {name} did not start; see above.")
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        for writer in writers:
            assert writer.stdout is not None
            results.append(json.loads(writer.stdout.readline()))
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    return Round(
        sum(result["stored"] for result in results),
        sum(result["lost"] for result in results),
        max(result["seconds"] for result in results),
    )


def count(url: str, table: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(f"select count(*) from {table}".encode()).fetchone()
        return int(row[0]) if row else 0


def chain(records: int, folder: Path) -> Iterator[SealedCapsule]:
    """Yield a chain of so many records, sealed here."""
    signer, previous = keys.load(folder / "keys").signer, None
    for sequence in range(records):
        at = now()
        row = seal(document(new_call_id(), at), sequence=sequence, previous_hash=previous, signer=signer, at=at)
        previous = row.hash
        yield row


def timed(argv: list[str]) -> tuple[float, float]:
    """Return the seconds and the most memory (MB) of a command; it must succeed."""
    begin = time.perf_counter()
    # In its own process, because ru_maxrss is the largest of all children so far.
    code = (
        "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return time.perf_counter() - begin, int(done.stdout) / 1024


def verify(records: int, folder: Path) -> list[str]:
    """Let both verify the same export, with signatures."""
    path = folder / "export.json"
    with path.open("wb") as file:
        file.writelines(export_json(chain(records, folder)))
    public_key = keys.load(folder / "keys").keyring.active.public_key.hex()
    programs = Path(sys.executable).parent
    keyring = str(folder / "keys" / "keyring.json")
    our_s, our_mb = timed([str(programs / "gatehouse"), "audit", "verify", "--file", str(path), "--keyring", keyring])
    their_s, their_mb = timed([str(programs / "capsule"), "verify", "--pubkey", public_key, "--quiet", str(path)])
    return [
        f"Verifying an export of {records:,} capsules, signatures included",
        f"  {OURS:<12} {our_s:7.1f} s  {records / our_s:8,.0f}/s  at most {our_mb:6.0f} MB",
        f"  {THEIRS:<12} {their_s:7.1f} s  {records / their_s:8,.0f}/s  at most {their_mb:6.0f} MB",
        f"  {OURS} is {their_s / our_s:.1f} times as fast",
    ]


def main(argv: list[str]) -> None:
    chosen = arguments(argv)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gatehouse-bench-")))
        url = start_services(stack, folder).database_url
        apply_migrations(url)
        keys.create(folder / "keys", now())
        # Create its tables before three processes would do so at once.
        asyncio.run(PostgresCapsuleStorage(url).get_latest())
        rounds: dict[str, list[Round]] = {OURS: [], THEIRS: []}
        for number in range(chosen.rounds):
            for name, done in rounds.items():
                done.append(run(name, url, folder, chosen.seconds))
            said = ", ".join(f"{name} {done[-1].rate:,.0f}" for name, done in rounds.items())
            print(f"round {number + 1} of {chosen.rounds}, capsules/s: {said}", file=sys.stderr, flush=True)
        stored = {OURS: count(url, "gatehouse.capsules"), THEIRS: count(url, "quantumpipes_capsules")}
        for name, done in rounds.items():
            assert stored[name] >= sum(r.stored for r in done), f"{name} reports more than its table holds"
        verified = verify(chosen.verify, folder) if chosen.verify else []
        shutil.rmtree(folder / "logs", ignore_errors=True)
    ratios = [mine.rate / other.rate for mine, other in zip(rounds[OURS], rounds[THEIRS], strict=True)]
    print("Capsules stored per second, 16 writers in 3 processes, median of the rounds")
    print(
        f"  {OURS} / {THEIRS}   {statistics.median(ratios):.1f} [{min(ratios):.1f} .. {max(ratios):.1f}] (wanted: 10)"
    )
    for name, done in rounds.items():
        lost = sum(r.lost for r in done)
        share = lost / max(1, lost + sum(r.stored for r in done))
        print(f"  {name:<12} {statistics.median(r.rate for r in done):8,.0f}/s   lost {lost:,} ({share:.1%})")
    print("\n".join(verified))
    print(report.environment())
