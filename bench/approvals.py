"""`python -m bench approvals`: the time from a reviewer's decision to the request at the model, for many calls that
three gateways on one database hold, decided in random order.

Votes go through the HTTP API of a random gateway, at a steady pace, without waiting for the previous one. All times are
of one machine's clock: when the vote's request is sent, when its transaction commits (from Postgres), and when the
model's server has read the request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
import uvloop
import yaml

from bench import report
from bench.gateways import MASTER_KEY, OURS, Variant, make_key, start_gateways
from bench.load import Connection
from bench.measure import Gateway
from bench.services import Services, start_services

REVIEWER = "grace"
POLICY = {
    "version": 1,
    # All of the calls belong to one key.
    "approvals": {"max_open_per_key": 100_000},
    "rules": [
        {
            "id": "held",
            "when": 'agent.id == "held"',
            "then": "require_approval",
            "approvers": {"users": [REVIEWER], "hold": 600.0},
        }
    ],
}
WANTED_P99_MS = 100
WARM_UP = 10  # calls for each gateway that are held and released first, and not counted
ASKED_AT_ONCE = 16
SETTLE_S = 3.0  # between the last call that is held and the first vote
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Released:
    """Hold one approved call's milliseconds to its request at the model, from the vote's request and its commit."""

    from_request_ms: float
    from_commit_ms: float


@dataclass(frozen=True)
class Outcome:
    """Hold the results of all decisions: how often each request arrived, by its decision.

    Attributes:
        again: votes that were answered 503 and sent again.
        cpu_ms: processor time of all gateways for each decision: the vote, and the call that continues.
    """

    released: list[Released]
    approved: list[int]
    rejected: list[int]
    again: int
    cpu_ms: float


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench approvals", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=500, help="calls that wait (500)")
    parser.add_argument("--gateways", type=int, default=3, help="gateways that hold them (3)")
    parser.add_argument("--rate", type=float, default=20.0, help="decisions a second (20)")
    parser.add_argument("--rejected", type=float, default=0.1, metavar="SHARE", help="of them rejected (0.1)")
    parser.add_argument("--seed", type=int, default=1, help="of order, voters' gateways and rejections (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every sample there")
    chosen = parser.parse_args(argv)
    if chosen.calls < 1 or chosen.gateways < 1 or chosen.rate <= 0 or not 0 <= chosen.rejected < 1:
        parser.error("--calls, --gateways and --rate must be above 0, --rejected a share from 0 up to 1")
    return chosen


class Trial:
    """Hold calls and vote on them.

    Args:
        gateways: all on one database.
        keys: the caller's and the reviewer's.
    """

    def __init__(self, gateways: Sequence[Gateway], services: Services, keys: tuple[str, str]) -> None:
        self._gateways = gateways
        self._services = services
        self._caller, self._reviewer = keys
        self._serial = 0
        self.again = 0

    async def run(self, calls: int, rate: float, rejected: float, dice: random.Random) -> Outcome:
        """Hold so many calls, decide on all of them, and check what arrives; SystemExit where anything goes wrong."""
        self._serial += 1
        self.again = 0
        names = [f"{self._serial}-{number}" for number in range(calls)]
        held: list[asyncio.Task[int]] = []
        for number, name in enumerate(names):
            held.append(asyncio.create_task(self._ask(self._gateways[number % len(self._gateways)], name)))
            await self._until_held(number + 1 - ASKED_AT_ONCE, held)
        await self._until_held(calls, held)
        ids = self._ids(f"{self._serial}-%")
        wanted = {name: dice.random() >= rejected for name in names}
        order = dice.sample(names, calls)
        await asyncio.sleep(SETTLE_S)
        begin, sent, cpu = time.monotonic(), dict[str, float](), -self._cpu_seconds()

        async def decide(number: int, name: str) -> None:
            gateway = dice.choice(self._gateways)
            await asyncio.sleep(max(0.0, begin + number / rate - time.monotonic()))
            sent[name] = await self._vote(gateway, ids[name], approve=wanted[name])

        async with asyncio.timeout(PATIENCE_S + calls / rate):
            await asyncio.gather(*(decide(number, name) for number, name in enumerate(order)))
            statuses = dict(zip(names, await asyncio.gather(*held), strict=True))
        cpu += self._cpu_seconds()
        if wrong := {name: said for name, said in statuses.items() if said != (200 if wanted[name] else 403)}:
            raise SystemExit(f"error: bench: {len(wrong)} calls were answered otherwise than decided: {wrong}")
        arrived, committed = await asyncio.to_thread(self._arrived), self._committed()
        return Outcome(
            [
                Released(1000 * (arrived[name][0] - sent[name]), 1000 * (arrived[name][0] - committed[ids[name]]))
                for name in names
                if wanted[name] and name in arrived
            ],
            [len(arrived.get(name, ())) for name in names if wanted[name]],
            [len(arrived.get(name, ())) for name in names if not wanted[name]],
            self.again,
            1000 * cpu / calls,
        )

    def _cpu_seconds(self) -> float:
        return sum(gateway.process.cpu_seconds() for gateway in self._gateways)

    async def _ask(self, gateway: Gateway, name: str) -> int:
        """Send a request that is held, and return the status of its answer."""
        body = {"model": "bench", "messages": [{"role": "user", "content": f"Question {name}: why is the sky blue?"}]}
        headers = f"x-gatehouse-agent: held\r\nx-gatehouse-session: {name}\r\n"
        connection = await _connected(gateway)
        status = await connection.exchange(_request("/v1/chat/completions", self._caller, body, headers))
        connection.transport.close()
        return status

    async def _vote(self, gateway: Gateway, approval: str, *, approve: bool) -> float:
        """Vote on an open connection, and return when the request was first sent, in seconds of the epoch."""
        connection = await _connected(gateway)
        sent = time.time()
        body = {"decision": "approve" if approve else "reject"}
        request = _request(f"/governance/v1/approvals/{approval}/votes", self._reviewer, body)
        while (status := await connection.exchange(request)) == 503:
            self.again += 1
            await asyncio.sleep(0.1)
        if status != 200:
            raise SystemExit(f"error: bench: a vote was answered {status}: {connection.body[:300]!r}")
        connection.transport.close()
        return sent

    async def _until_held(self, calls: int, tasks: Sequence[asyncio.Task[int]]) -> None:
        """Wait until so many requests for approval of this trial are recorded."""
        async with asyncio.timeout(PATIENCE_S):
            while calls > 0 and await asyncio.to_thread(lambda: len(self._ids(f"{self._serial}-%"))) < calls:
                if over := [task for task in tasks if task.done()]:
                    raise SystemExit(f"error: bench: a call was not held, but answered {over[0].result()}.")
                await asyncio.sleep(0.05)

    def _ids(self, names: str) -> dict[str, str]:
        with psycopg.connect(self._services.database_url) as connection:
            rows = connection.execute(
                "select summary ->> 'session', id::text from gatehouse.approvals where summary ->> 'session' like %s",
                (names,),
            ).fetchall()
        return dict(rows)

    def _committed(self) -> dict[str, float]:
        """Return when each vote was committed, by Postgres's own record, in seconds of the epoch."""
        with psycopg.connect(self._services.database_url) as connection:
            rows = connection.execute(
                """select approval_id::text, extract(epoch from pg_xact_commit_timestamp(xmin))::float8
                     from gatehouse.approval_votes"""
            ).fetchall()
        return dict(rows)

    def _arrived(self) -> dict[str, list[float]]:
        """Return when each request was at the model, in seconds of the epoch."""
        found: dict[str, list[float]] = {}
        with urllib.request.urlopen(f"http://127.0.0.1:{self._services.upstream_port}/", timeout=60) as answer:
            for at, body in json.load(answer):
                if said := re.search(r"Question (\d+-\d+):", body):
                    found.setdefault(said[1], []).append(at)
        return found


async def _connected(gateway: Gateway) -> Connection:
    return (await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", gateway.port))[1]


def _request(path: str, key: str, body: dict[str, Any], headers: str = "") -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n{headers}"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def make_keys(gateway: Gateway) -> tuple[str, str]:
    """Return the caller's key and the key of the reviewer whom the rule names."""

    def post(path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{gateway.port}{path}",
            method="POST",
            headers={"Authorization": f"Bearer {MASTER_KEY}", "Content-Type": "application/json"},
            data=json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    post("/user/new", {"user_id": REVIEWER, "user_role": "internal_user", "auto_create_key": False})
    reviewer = post("/key/generate", {"user_id": REVIEWER})["key"]
    return make_key(gateway), reviewer


def text(outcome: Outcome, chosen: argparse.Namespace) -> str:
    """Return the report for people."""
    approved, rejected = outcome.approved, outcome.rejected
    lines = [
        f"{chosen.calls} calls held by {chosen.gateways} gateways on one database, decided on in random order "
        f"(seed {chosen.seed}), {chosen.rate:g} decisions a second",
        f"  approved {len(approved)}: released exactly once {approved.count(1)}, "
        f"never {approved.count(0)}, more than once {sum(count > 1 for count in approved)}",
        f"  rejected {len(rejected)}: released {sum(count > 0 for count in rejected)}",
        f"  votes sent again after a 503: {outcome.again}; gateways' processor time for each decision and its call: "
        f"{outcome.cpu_ms:.0f} ms",
        f"  to the request at the model, in ms (wanted: p99 under {WANTED_P99_MS})       p50      p99      max",
    ]
    for title, values in (
        ("from the commit of the vote", [each.from_commit_ms for each in outcome.released]),
        ("from the request that votes", [each.from_request_ms for each in outcome.released]),
    ):
        found = sorted(values) or [float("nan")]
        p50, p99 = (found[min(len(found) - 1, len(found) * share // 100)] for share in (50, 99))
        lines.append(f"    {title:<56} {p50:8.1f} {p99:8.1f} {found[-1]:8.1f}")
    return "\n".join([*lines, "  ".join(f"{name}={value}" for name, value in report.environment().items())])


def main(argv: Sequence[str]) -> None:
    chosen = arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stack below is unwound
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gatehouse-bench-")))
        _say("starting Postgres, Redis and the upstream ...")
        # Makes Postgres record when a transaction was committed.
        services = start_services(
            stack,
            folder,
            postgres_options=("-c", "track_commit_timestamp=on", "-c", "max_connections=200"),
            upstream_options=("--keep",),
        )
        policy = folder / "policy.yaml"
        policy.write_text(yaml.safe_dump(POLICY))
        variants = [Variant(f"gatehouse-{number + 1}", OURS, policy) for number in range(chosen.gateways)]
        gateways = start_gateways(stack, folder, services, variants, _say)
        outcome = uvloop.run(_measure(Trial(gateways, services, make_keys(gateways[0])), chosen))
    if chosen.json:
        document = {"environment": report.environment(), **asdict(outcome)}
        chosen.json.write_text(json.dumps(document, indent=1) + "\n")
    print(text(outcome, chosen))


async def _measure(trial: Trial, chosen: argparse.Namespace) -> Outcome:
    dice = random.Random(chosen.seed)
    _say("a few calls to warm up ...")
    await trial.run(WARM_UP * chosen.gateways, chosen.rate, 0.0, dice)
    _say(f"holding {chosen.calls} calls and deciding on them, load of the machine {os.getloadavg()[0]:.1f} ...")
    return await trial.run(chosen.calls, chosen.rate, chosen.rejected, dice)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
