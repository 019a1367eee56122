"""The parts of a gateway share few connections, and each one is good, also after Postgres was away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from gatehouse.storage.connection import POOL_CONNECTIONS, Pool, shared

from tests.support.postgres import Postgres


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """Start a Postgres of this module's own, because the tests stop it."""
    own = Postgres()
    yield own
    own.close()


@pytest.fixture
async def pool(server: Postgres) -> AsyncIterator[Pool]:
    server.start()
    async with shared(server.url) as made:
        await made.wait()  # or the first to ask would have a second connection opened
        yield made


async def backend(pool: Pool) -> int:
    async with pool.connection() as connection:
        return connection.info.backend_pid


async def test_however_many_ask_the_connections_stay_few(pool: Pool) -> None:
    backends: set[int] = set()
    busy, most = 0, 0

    async def ask() -> None:
        nonlocal busy, most
        async with pool.connection() as connection:
            busy += 1
            most = max(most, busy)
            backends.add(connection.info.backend_pid)
            await connection.execute("select pg_sleep(0.01)")
            busy -= 1

    await asyncio.gather(*(ask() for _ in range(40)))
    assert len(backends) == most == POOL_CONNECTIONS


async def test_a_connection_that_broke_while_nobody_used_it_is_given_to_nobody(pool: Pool, server: Postgres) -> None:
    first = await backend(pool)
    with psycopg.connect(server.url, autocommit=True) as other:
        other.execute("select pg_terminate_backend(%s, 5000)", (first,))
    assert await backend(pool) != first


async def test_while_postgres_is_away_asking_fails_as_connecting_does_and_works_again_after(
    pool: Pool, server: Postgres
) -> None:
    await backend(pool)
    await asyncio.to_thread(server.stop)
    with pytest.raises(psycopg.OperationalError):
        await backend(pool)
    server.start()
    assert await backend(pool)


async def test_an_error_in_the_middle_undoes_its_transaction_and_costs_no_connection(pool: Pool) -> None:
    async def fail() -> None:
        async with pool.connection() as connection, connection.transaction():
            await connection.execute("create table undone ()")
            raise ZeroDivisionError

    first = await backend(pool)
    with pytest.raises(ZeroDivisionError):
        await fail()
    async with pool.connection() as connection:
        assert connection.info.backend_pid == first
        assert await (await connection.execute("select to_regclass('undone')")).fetchone() == (None,)


async def test_closing_ends_its_connections_and_refuses_whoever_asks_later(server: Postgres) -> None:
    server.start()
    async with shared(server.url) as pool:
        mine = await backend(pool)
    with pytest.raises(psycopg.OperationalError):
        await backend(pool)
    with psycopg.connect(server.url, autocommit=True) as other:
        # Postgres lets go of a connection a moment after its client did.
        assert other.execute("select pg_terminate_backend(%s, 5000)", (mine,)).fetchone() is not None
        assert other.execute("select count(*) from pg_stat_activity where pid = %s", (mine,)).fetchone() == (0,)
