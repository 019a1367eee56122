"""The statements that reserve and charge, on a Postgres with LiteLLM's tables and without a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from gatehouse.core.clock import new_call_id, now
from gatehouse.ledger.bills import charges
from gatehouse.ledger.store import budgets, calls
from gatehouse.storage.connection import Connection, connect
from gatehouse.storage.litellm_schema import apply_litellm_migrations

from tests.support.postgres import Postgres, apply_migrations

ME = UUID(int=1)
KEY, USER, TEAM = (("key", "k", "", "limited"), ("user", "u", "", ""), ("team", "t", "", "limited"))


@pytest.fixture(scope="module")
def prepared(postgres: Postgres) -> str:
    url = postgres.create_database()
    apply_litellm_migrations(url)
    apply_migrations(url)
    return url


@pytest.fixture
def url(prepared: str) -> Iterator[str]:
    with psycopg.connect(prepared) as connection:
        connection.execute(
            'insert into "LiteLLM_VerificationToken" (token, max_budget, spend) values (%s, 1, 0.25)', ("k",)
        )
        connection.execute('insert into "LiteLLM_UserTable" (user_id, max_budget) values (%s, 0.001)', ("u",))
        connection.execute('insert into "LiteLLM_TeamTable" (team_id) values (%s)', ("t",))
    yield prepared
    with psycopg.connect(prepared) as connection:
        tables = '"LiteLLM_VerificationToken", "LiteLLM_UserTable", "LiteLLM_TeamTable"'
        connection.execute(f"truncate gatehouse.calls, gatehouse.budgets, {tables} cascade".encode())


def intent(usd: float | None, *payers: tuple[str, ...]) -> dict[str, Any]:
    ids = {"call_id": str(new_call_id()), "started_at": now().isoformat()}
    return {**ids, "request": {}, "decision": None, "payers": payers or (KEY, TEAM, USER), "reserve": usd}


async def opened(connection: Connection, *intents: dict[str, Any], anyhow: bool = False) -> list[int]:
    """Return the positions of those that were refused."""
    refused = await budgets.open_intents(connection, ME, intents, anyhow=anyhow)  # type: ignore[arg-type]
    return [place for place, each in enumerate(intents) if each["call_id"] in refused]


def run(url: str, work: Any) -> Any:
    async def connected() -> Any:
        async with await connect(url) as connection:
            return await work(connection)

    return asyncio.run(connected())


def set_to(url: str, statement: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode())


def one(url: str, statement: str) -> Any:
    with psycopg.connect(url) as connection:
        row = connection.execute(statement.encode()).fetchone()
        assert row is not None
        return row[0]


def test_a_commit_takes_what_has_room_in_order_and_refuses_the_rest(url: str) -> None:
    async def work(connection: Connection) -> list[int]:
        return await opened(connection, intent(0.5), intent(0.3), intent(0.25), intent(0.01))

    assert run(url, work) == [1, 3]
    assert one(url, "select count(*) from gatehouse.calls") == 2
    assert one(url, "select reserved from gatehouse.budgets where kind = 'key'") == Decimal("0.75")


def test_a_repeated_commit_reserves_once_and_refuses_nothing(url: str) -> None:
    first = intent(0.75)

    async def work(connection: Connection) -> list[int]:
        assert await opened(connection, first) == []
        return await opened(connection, first, intent(0.01))

    assert run(url, work) == [1]
    assert one(url, "select reserved from gatehouse.budgets where kind = 'key'") == Decimal("0.75")


def test_a_limit_counts_from_the_moment_that_it_is_set(url: str) -> None:
    async def work(connection: Connection) -> None:
        assert await opened(connection, intent(0.1)) == []
        set_to(url, "update \"LiteLLM_TeamTable\" set max_budget = 0.15 where team_id = 't'")
        assert await opened(connection, intent(0.1), intent(0.1)) == [1]
        set_to(url, "update \"LiteLLM_TeamTable\" set max_budget = null where team_id = 't'")
        assert await opened(connection, intent(0.1)) == []

    run(url, work)


def test_what_has_no_price_has_no_room_and_what_was_let_through_is_taken(url: str) -> None:
    async def work(connection: Connection) -> None:
        assert await opened(connection, intent(None), intent(None, USER), intent(2.0)) == [0, 2]
        assert await opened(connection, intent(2.0), anyhow=True) == []

    run(url, work)
    assert one(url, "select reserved from gatehouse.budgets where kind = 'key'") == Decimal("2.0")


def test_a_settlement_charges_everybody_here_and_at_litellm_and_gives_back_what_was_held(url: str) -> None:
    row = intent(0.5)

    async def work(connection: Connection) -> None:
        assert await opened(connection, row) == []
        assert await budgets.open_intents(connection, ME, [intent(0.3)])  # type: ignore[list-item]
        settlement = {**{name: row[name] for name in ("call_id", "started_at")}, "request": {}, "decision": None}
        ended = await calls.settle(connection, ME, [{**settlement, "record": {}, "salt": None}])  # type: ignore[list-item,typeddict-item]
        await budgets.charge(connection, charges([(ended[row["call_id"]], 0.125)]))

    run(url, work)
    assert one(url, "select spend from \"LiteLLM_VerificationToken\" where token = 'k'") == 0.375
    assert one(url, "select spend from \"LiteLLM_UserTable\" where user_id = 'u'") == 0.125
    assert one(url, "select sum(reserved) from gatehouse.budgets") == 0
    assert one(url, "select settled from gatehouse.budgets where kind = 'key'") == Decimal("0.375")


def test_a_new_period_begins_with_what_litellm_says(url: str) -> None:
    async def charge(connection: Connection) -> None:
        row = intent(0.1)
        assert await opened(connection, row) == []
        ended = calls.Ended(1, [KEY], [KEY], Decimal("0.1"))
        await budgets.charge(connection, charges([(ended, 0.1)]))

    key = "update \"LiteLLM_VerificationToken\" set {} where token = 'k'"
    set_to(url, key.format("budget_reset_at = now() at time zone 'utc' - interval '1 minute'"))
    run(url, charge)
    set_to(url, key.format("spend = 0, budget_reset_at = now() at time zone 'utc' + interval '1 hour'"))
    run(url, charge)
    assert one(url, "select settled from gatehouse.budgets where kind = 'key'") == Decimal("0.1")
    assert one(url, "select spend from \"LiteLLM_VerificationToken\" where token = 'k'") == pytest.approx(0.1)
