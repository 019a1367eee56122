"""Three writers, 64 callers, random kill -9, two restarts of Postgres: one capsule for every intent."""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from gatehouse.capsule import keys
from gatehouse.capsule.seal import SealedCapsule
from gatehouse.core.clock import now

from tests.support.capsules import verify_chain
from tests.support.gateway import REPOSITORY
from tests.support.postgres import Postgres, apply_migrations
from tests.support.process import Server, wait_until

CALLERS = (22, 21, 21)


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


def count(url: str, query: str) -> int:
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            row = connection.execute(query.encode()).fetchone()
            return int(row[0]) if row else 0
    except psycopg.OperationalError:
        return -1


@pytest.fixture
def started() -> Iterator[list[Server]]:
    servers: list[Server] = []
    yield servers
    for server in servers:
        server.stop(signal.SIGKILL)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("wanted", [8_000, pytest.param(20_000, marks=pytest.mark.long)])
def test_one_capsule_for_every_intent(
    own_postgres: Postgres, started: list[Server], tmp_path: Path, wanted: int
) -> None:
    url = own_postgres.create_database()
    apply_migrations(url)
    keyring = keys.create(tmp_path / "keys", now()).keyring

    def writer(callers: int) -> Server:
        command = [sys.executable, "-m", "tests.support.ledger_writer", url, tmp_path, str(callers)]
        server = Server(command, tmp_path / f"output-{len(started)}", cwd=REPOSITORY)
        server.start()
        started.append(server)
        return server

    writers = [writer(callers) for callers in CALLERS]
    dice = random.Random()
    restarts = [wanted // 3, 2 * wanted // 3]
    kills = sorted(dice.sample(range(wanted // 20, wanted), 8))
    while (seen := count(url, "select count(*) from gatehouse.calls")) < wanted or kills or restarts:
        if restarts and seen >= restarts[0]:
            restarts.pop(0)
            (own_postgres.kill if restarts else own_postgres.stop)()
            time.sleep(1)
            own_postgres.start()
        if kills and seen >= kills[0]:
            kills.pop(0)
            victim = dice.randrange(len(writers))
            writers[victim].kill()
            writers[victim] = writer(CALLERS[victim])
        time.sleep(0.05)
    for server in writers:  # one that was started last may not yet know what SIGTERM means
        wait_until((tmp_path / f"opened-{server.pid}").exists, "the writer takes calls", 120)
    for server in writers[1:]:
        assert server.stop(seconds=120) == 0, server.log.read_text()[-3000:]
    # The one that is left finds what the dead left, once it has watched them for long enough.
    wait_until(lambda: count(url, "select count(*) from gatehouse.gateways where ended_at is null") == 1, "buried", 120)
    assert writers[0].stop(seconds=120) == 0, writers[0].log.read_text()[-3000:]

    with psycopg.connect(url) as connection:
        calls = dict(connection.execute("select call_id::text, settled_at from gatehouse.calls").fetchall())
        query = """select id::text, sequence, previous_hash, canonical, hash, signature, signed_by, signed_at
                     from gatehouse.capsules order by sequence"""
        capsules = [SealedCapsule(*row) for row in connection.execute(query)]
    assert all(calls.values())
    assert Counter(capsule.id for capsule in capsules) == Counter(list(calls))
    head = verify_chain(iter(capsules), keyring, chain="calls")
    assert head.sequence == len(calls) - 1 >= wanted - 1
    opened = {line for path in tmp_path.glob("opened-*") for line in path.read_text().split("\n")[:-1]}
    assert opened <= set(calls)
    lines = [json.loads(line) for path in (tmp_path / "logs").glob("*.jsonl*") for line in path.open()]
    assert Counter(line["data"]["call_id"] for line in lines) == Counter(list(calls))
    by_id = {capsule.id: (capsule.sequence, capsule.hash) for capsule in capsules}
    assert all(
        by_id[line["data"]["call_id"]] == (line["data"]["capsule"]["sequence"], line["data"]["capsule"]["hash"])
        for line in lines
    )
    statuses = Counter(line["data"]["status"] for line in lines)
    assert statuses["partial"] > 0
