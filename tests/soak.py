"""`python -m tests.soak --calls 20000`: three real gateways, 64 callers, random kill -9, two restarts of Postgres.

What tests/stack/test_ledger_under_fire.py does with bare writers, with everything around them; it takes minutes, so it
is not part of ./test.sh. Afterwards every intent must have exactly one capsule and one line, and the chain must verify.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import psycopg
from gatehouse.capsule import keys
from gatehouse.capsule.seal import SealedCapsule

from tests.support.capsules import verify_chain
from tests.support.gateway import MASTER_KEY, Gateway, config_with_upstream
from tests.support.load import Result, call_many
from tests.support.postgres import Postgres
from tests.support.process import wait_until
from tests.support.redis_server import Redis
from tests.support.upstream import Upstream

CALLERS = (22, 21, 21)
BODY = {"model": "up-chat"}


async def load(gateways: list[Gateway], postgres: Postgres, calls: int, kills: int) -> list[Result]:
    """Call all gateways while they and Postgres are killed; a gateway that died is started again."""
    done: list[Result] = []
    over = asyncio.Event()

    async def callers(gateway: Gateway, concurrent: int) -> None:
        while taken(done) < calls:
            if gateway.server.process is None or not await asyncio.to_thread(ready, gateway):
                await asyncio.sleep(0.5)
                continue
            done.extend(await call_many(gateway.url, MASTER_KEY, BODY, calls=concurrent * 4, concurrent=concurrent))

    async def reach(share: float) -> None:
        while taken(done) < calls * share and not over.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.2)

    async def killer() -> None:
        for number in range(kills):
            await reach((number + random.random()) / (kills + 1))
            victim = random.choice(gateways)
            await asyncio.to_thread(victim.server.kill)
            print(f"{taken(done)} calls: killed a gateway", flush=True)
            victim.server.start()

    async def restarter() -> None:
        for share, stop in ((0.33, postgres.kill), (0.66, postgres.stop)):
            await reach(share)
            await asyncio.to_thread(stop)
            await asyncio.sleep(1)
            await asyncio.to_thread(postgres.start)
            print(f"{taken(done)} calls: Postgres was restarted", flush=True)

    async with asyncio.TaskGroup() as group:
        group.create_task(killer())
        group.create_task(restarter())
        await asyncio.gather(*(callers(*pair) for pair in zip(gateways, CALLERS, strict=True)))
        over.set()
    return done


def taken(results: list[Result]) -> int:
    """Calls that were not refused because there was no database."""
    return sum(result.status != 503 for result in results)


def ready(gateway: Gateway) -> bool:
    try:
        return gateway.ready()
    except RuntimeError:
        return False


def check(gateway: Gateway, results: list[Result]) -> None:
    gateway.wait_settled(300)
    with psycopg.connect(gateway.database_url) as connection:
        query = """select id::text, sequence, previous_hash, canonical, hash, signature, signed_by, signed_at
                     from gatehouse.capsules order by sequence"""
        capsules = [SealedCapsule(*row) for row in connection.execute(query)]
    calls = gateway.calls()
    head = verify_chain(iter(capsules), keys.load(gateway.folder / "ledger" / "keys").keyring, chain="calls")
    assert Counter(capsule.id for capsule in capsules) == Counter(list(calls)), "one capsule for each intent"
    assert head.sequence == len(calls) - 1, "no gap"
    lines = Counter(line["data"]["call_id"] for line in gateway.lines())
    assert set(calls) <= set(lines), "a line for each intent"
    assert set(lines.values()) == {1}, "one line for each call"
    answered = {result.call_id for result in results if result.status == 200}
    assert answered <= set(calls), "no answer without an intent"
    statuses = Counter(row["record"]["data"]["status"] for row in calls.values())
    print(f"{len(results)} calls sent: {Counter(result.status for result in results)}")
    print(f"{len(calls)} intents, {len(capsules)} capsules, {sum(lines.values())} lines; {dict(statuses)}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=6)
    chosen = parser.parse_args()
    with ExitStack() as stack:
        postgres, redis, upstream = Postgres(), Redis(), Upstream()
        for server in (postgres, redis, upstream):
            stack.callback(server.close)
        config = config_with_upstream(upstream.url, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        url = postgres.create_database()
        gateways: list[Gateway] = []
        for _ in CALLERS:
            folder = gateways[0].folder if gateways else None
            gateways.append(Gateway(url, redis.port, config=config, folder=folder))
            stack.callback(gateways[-1].close)
        for gateway in gateways:
            gateway.server.start()
        for gateway in gateways:
            wait_until(gateway.ready, "the gateway answers", 300)
        begin = time.monotonic()
        results = asyncio.run(load(gateways, postgres, chosen.calls, chosen.kills))
        print(f"{time.monotonic() - begin:.0f} s", flush=True)
        for gateway in gateways:
            wait_until(lambda: ready(gateway), "the gateway is back", 300)  # noqa: B023
        check(gateways[0], results)


if __name__ == "__main__":
    main()
