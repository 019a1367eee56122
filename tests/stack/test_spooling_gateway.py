"""A gateway with `audit.on_error: spool` answers while its database is away; every answer is in the ledger later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import MASTER_KEY, Gateway
from tests.support.postgres import Postgres
from tests.support.process import wait_until
from tests.support.redis_server import Redis
from tests.support.upstream import Upstream


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def gateway(own_postgres: Postgres, redis_server: Redis, upstream_config: Path, tmp_path: Path) -> Iterator[Gateway]:
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\naudit: {on_error: spool}\n")
    server = Gateway(own_postgres.create_database(), redis_server.port, config=upstream_config, policy=policy)
    yield server.start(180)
    server.close()


def call(gateway: Gateway, key: str, text: str) -> str:
    """Return the id of a call that was answered."""
    with gateway.client(key) as client:
        body = {"model": "up-chat", "messages": [{"role": "user", "content": text}]}
        answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.headers["x-gatehouse-call-id"])


def health(gateway: Gateway) -> tuple[str, str]:
    with gateway.client(None) as client:
        page = client.get("/governance/v1/health").json()
    return page["status"], page["parts"]["ledger"]


@pytest.mark.timeout(500)
def test_calls_are_answered_without_a_database_and_sealed_when_it_is_back(
    gateway: Gateway, own_postgres: Postgres, upstream: Upstream
) -> None:
    key = gateway.new_key()
    answered = [call(gateway, MASTER_KEY, "before"), call(gateway, key, "before, with a key")]
    own_postgres.stop()
    wait_until(lambda: health(gateway)[1] == "spooling", "the ledger is known to be away", 60)
    answered += [call(gateway, MASTER_KEY, f"without a database {number}") for number in range(5)]
    sent = len(upstream.requests)
    assert sent == len(answered)
    own_postgres.start()
    wait_until(lambda: health(gateway) == ("ok", "up"), "the ledger is back", 120)
    gateway.wait_settled(120)
    assert set(answered) <= set(gateway.calls())
    for call_id in answered:
        assert gateway.capsule(call_id)["outcome"]["status"] == "success"
        assert len(gateway.lines_of(call_id)) == 1
    assert not list((gateway.folder / "ledger" / "spool").glob("*.jsonl"))
