"""Starts real servers for the tests that need them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import REPOSITORY, Gateway, config_with_upstream
from tests.support.postgres import Postgres
from tests.support.prefork import constants
from tests.support.redis_server import Redis
from tests.support.strict_provider import StrictProvider
from tests.support.upstream import Upstream


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    server = Redis()
    yield server
    server.close()


@pytest.fixture(scope="module")
def own_redis() -> Iterator[Redis]:
    """Start a Redis for one module: to stop, or to look at all that is in it."""
    server = Redis()
    yield server
    server.close()


@pytest.fixture(scope="session")
def gateway(postgres: Postgres, redis_server: Redis) -> Iterator[Gateway]:
    """The gateway as shipped, for the tests that break nothing; it signs and looks who is still there more often."""
    often = constants({"gatehouse.ledger.checkpointer:EVERY_S": 2.0, "gatehouse.api.approvals:_HEARTBEAT_S": 1.0})
    policy = REPOSITORY / "policy.yaml"
    server = Gateway(postgres.create_database(), redis_server.port, policy=policy, environ=often).start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def recording_upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.close()


@pytest.fixture
def upstream(recording_upstream: Upstream) -> Iterator[Upstream]:
    """Yield the recording provider, which behaves well and is empty when each test starts."""
    recording_upstream.reset()
    yield recording_upstream
    recording_upstream.reset()


@pytest.fixture(scope="session")
def running_strict_provider() -> Iterator[StrictProvider]:
    server = StrictProvider()
    yield server
    server.close()


@pytest.fixture
def strict(running_strict_provider: StrictProvider) -> StrictProvider:
    """Return the strict provider without a script, which has refused nothing."""
    running_strict_provider.plays()
    return running_strict_provider


@pytest.fixture(scope="session")
def upstream_config(
    recording_upstream: Upstream, running_strict_provider: StrictProvider, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return config_with_upstream(recording_upstream.url, tmp_path_factory.mktemp("config"), running_strict_provider.url)


@pytest.fixture(scope="session")
def upstream_gateway(postgres: Postgres, redis_server: Redis, upstream_config: Path) -> Iterator[Gateway]:
    """Start a gateway whose `up-*` models are the recording provider's, and `strict-*` the strict provider's."""
    environ = {"GATEHOUSE_SETTLE_GRACE_SECONDS": "1"}
    server = Gateway(postgres.create_database(), redis_server.port, config=upstream_config, environ=environ).start()
    yield server
    server.close()


_POLICY = """
version: 1
limits: {max_tokens_per_request: 500000, max_cost_per_request_usd: 5, allow_unpriced_models: ["up-*"]}
screens:
  blocked_content: {weapons: [forbidden fruit]}
  secrets: block
  prompt_injection: observe
pii: {mode: mask, entities: {EMAIL_ADDRESS: mask, PHONE_NUMBER: mask, US_SSN: block}}
rules:
  - id: interns-stay-out
    when: caller.key_alias.startsWith("intern")
    then: deny
    reason: Interns ask a colleague.
  - id: careful-agents-ask
    when: agent.id == "careful"
    then: require_approval
    approvers: {users: [margaret], hold: 60s}
  - id: mail-is-noted
    mode: observe
    when: pii.EMAIL_ADDRESS > 0
    then: deny
"""


@pytest.fixture(scope="session")
def governed(
    postgres: Postgres, redis_server: Redis, upstream_config: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Start a gateway with every stage on, whose models are those of `upstream_gateway`."""
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text(_POLICY)
    environ = {"GATEHOUSE_SETTLE_GRACE_SECONDS": "1"}
    server = Gateway(
        postgres.create_database(), redis_server.port, config=upstream_config, policy=policy, environ=environ
    ).start()
    yield server
    server.close()
