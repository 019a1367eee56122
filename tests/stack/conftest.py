"""Real servers for the tests of what touches them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.gateway import Gateway
from tests.support.postgres import Postgres
from tests.support.redis_server import Redis


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


@pytest.fixture(scope="session")
def gateway(postgres: Postgres, redis_server: Redis) -> Iterator[Gateway]:
    """One gateway for the tests that break nothing; the others start their own."""
    server = Gateway(postgres.create_database(), redis_server.port).start()
    yield server
    server.close()
