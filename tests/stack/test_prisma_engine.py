"""LiteLLM's own database client works on the WASM engine and a real Postgres, and fails as it should."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from gatehouse.storage import prisma_engine
from gatehouse.storage.litellm_schema import apply_litellm_migrations

from tests.support.postgres import Postgres

pytestmark = pytest.mark.asyncio(loop_scope="module")

REPOSITORY = Path(__file__).resolve().parents[2]
_numbers = count(1)
Client = Any


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    prisma_engine.install(REPOSITORY, prisma_engine.EngineKind.WASM, print)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in prisma_engine.engine_environment(REPOSITORY).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def url(postgres: Postgres) -> str:
    address = postgres.create_database()
    apply_litellm_migrations(address)
    return address


@pytest.fixture(scope="module")
async def db(environment: None, url: str) -> AsyncIterator[Client]:
    from prisma import Prisma

    client = Prisma(datasource={"url": url})
    await client.connect()
    yield client
    await client.disconnect()


@pytest.fixture
def name() -> str:
    """Return an id that no other test uses."""
    return f"id-{next(_numbers)}"


def budget(name: str, **fields: Any) -> dict[str, Any]:
    return {"budget_id": name, "created_by": "me", "updated_by": "me", **fields}


async def test_every_model_of_litellm_can_be_read(db: Client) -> None:
    from prisma import models

    tables = [model.lower() for model in dir(models) if model.startswith("LiteLLM_")]
    assert len(tables) > 90
    for table in tables:
        await getattr(db, table).find_first()


async def test_values_come_back_as_they_were_written(db: Client, name: str) -> None:
    from prisma import Json

    now = datetime.now(UTC).replace(microsecond=123000)
    limits = {"a": {"$type": "x", "value": 1}, "π": 'x"y\\ {} \n', "list": [1, None, 1.5, True]}
    await db.litellm_budgettable.create(
        data=budget(
            name,
            max_budget=1e-7,
            tpm_limit=2**60 + 1,
            model_max_budget=Json(limits),
            allowed_models=["m1", 'm"2'],
            budget_reset_at=now,
        )
    )
    row = await db.litellm_budgettable.find_unique(where={"budget_id": name})
    assert (row.max_budget, row.tpm_limit, row.model_max_budget) == (1e-7, 2**60 + 1, limits)
    assert (row.allowed_models, row.budget_reset_at, row.soft_budget) == (["m1", 'm"2'], now, None)


async def test_json_is_stored_as_json_and_found_by_its_content(db: Client, name: str) -> None:
    from prisma import Json

    table = db.litellm_budgettable
    await table.create(data=budget(name, model_max_budget=Json({"in": {"k": name}})))
    statement = 'select jsonb_typeof(model_max_budget) as t from "LiteLLM_BudgetTable" where budget_id = $1'
    assert await db.query_raw(statement, name) == [{"t": "object"}]
    assert (await table.find_first(where={"model_max_budget": {"equals": Json({"in": {"k": name}})}})).budget_id == name
    by_path = {"model_max_budget": {"path": ["in", "k"], "equals": Json(name)}}
    assert (await table.find_first(where=by_path)).budget_id == name


async def test_related_rows_are_written_and_read_in_one_call(db: Client, name: str) -> None:
    nested = {"create": budget(name, model_max_budget='{"k":[1,null]}')}
    key = await db.litellm_verificationtoken.create(
        data={"token": name, "litellm_budget_table": nested}, include={"litellm_budget_table": True}
    )
    assert key.litellm_budget_table.model_max_budget == {"k": [1, None]}
    assert key.created_at.tzinfo is not None
    again = await db.litellm_verificationtoken.create(
        data={"token": name + "b", "litellm_budget_table": {"connect": {"budget_id": name}}},
        include={"litellm_budget_table": True},
    )
    assert again.litellm_budget_table.budget_id == name


async def test_a_duplicate_names_the_fields(db: Client, name: str) -> None:
    from prisma.errors import UniqueViolationError

    await db.litellm_budgettable.create(data=budget(name))
    with pytest.raises(
        UniqueViolationError, match=r"Unique constraint failed on the fields: \(`budget_id`\)"
    ) as caught:
        await db.litellm_budgettable.create(data=budget(name))
    assert (caught.value.code, caught.value.meta) == ("P2002", {"target": ["budget_id"]})


async def test_mistakes_have_the_errors_of_the_native_engine(db: Client, name: str) -> None:
    from prisma import errors

    with pytest.raises(errors.ForeignKeyViolationError):
        await db.litellm_verificationtoken.create(data={"token": name, "budget_id": "nope"})
    with pytest.raises(errors.RecordNotFoundError):
        await db.litellm_usertable.find_unique_or_raise(where={"user_id": name})
    with pytest.raises(errors.FieldNotFoundError, match="nofield"):
        await db.litellm_usertable.find_many(where={"nofield": 1})
    with pytest.raises(errors.MissingRequiredValueError):
        await db.litellm_budgettable.create(data={"budget_id": name})
    with pytest.raises(errors.RawQueryError, match='relation "nope" does not exist') as caught:
        await db.query_raw("select * from nope")
    assert caught.value.meta["code"] == "42P01"
    with pytest.raises(errors.RawQueryError, match="void"):
        await db.query_raw("select pg_sleep(0)")


async def test_what_is_not_there_is_none(db: Client, name: str) -> None:
    assert await db.litellm_usertable.find_unique(where={"user_id": name}) is None
    assert await db.litellm_usertable.update(where={"user_id": name}, data={"spend": {"increment": 1.5}}) is None
    assert await db.litellm_usertable.delete(where={"user_id": name}) is None


async def test_upsert_creates_then_updates(db: Client, name: str) -> None:
    data = {"create": {"user_id": name, "spend": 0.1}, "update": {"spend": {"increment": 1e-7}}}
    assert (await db.litellm_usertable.upsert(where={"user_id": name}, data=data)).spend == 0.1
    assert (await db.litellm_usertable.upsert(where={"user_id": name}, data=data)).spend == pytest.approx(0.1000001)


async def test_many_rows_are_written_counted_grouped_and_found(db: Client, name: str) -> None:
    users = db.litellm_usertable
    rows = [{"user_id": f"{name}-{i}", "user_role": name, "spend": float(i), "models": []} for i in range(3)]
    assert await users.create_many(data=rows) == 3
    assert await users.create_many(data=[*rows, {"user_id": f"{name}-3", "user_role": name}], skip_duplicates=True) == 1
    mine = {"user_role": name}
    assert await users.count(where=mine) == 4
    assert await users.count(where={**mine, "spend": {"gt": 0}}) == 2
    assert (
        await users.update_many(where={"user_id": {"in": [f"{name}-1", f"{name}-2"]}}, data={"spend": {"increment": 1}})
        == 2
    )
    assert await users.group_by(by=["user_role"], where=mine, sum={"spend": True}, count=True) == [
        {"user_role": name, "_sum": {"spend": 5.0}, "_count": {"_all": 4}}
    ]
    found = await users.find_many(
        where={"OR": [{"user_id": {"contains": name.upper() + "-", "mode": "insensitive"}}]},
        order={"spend": "desc"},
        take=2,
    )
    assert [user.user_id for user in found] == [f"{name}-2", f"{name}-1"]
    assert await users.delete_many(where=mine) == 4


async def test_a_batch_is_written_whole_or_not_at_all(db: Client, name: str) -> None:
    from prisma.errors import UniqueViolationError

    async with db.batch_() as batch:
        batch.litellm_usertable.create(data={"user_id": name})
        batch.litellm_usertable.update_many(where={"user_id": name}, data={"spend": {"increment": 2}})
    assert (await db.litellm_usertable.find_unique(where={"user_id": name})).spend == 2

    batch = db.batch_()
    batch.litellm_usertable.create(data={"user_id": f"{name}-other"})
    batch.litellm_usertable.create(data={"user_id": name})
    with pytest.raises(UniqueViolationError):
        await batch.commit()
    assert await db.litellm_usertable.find_unique(where={"user_id": f"{name}-other"}) is None


async def test_a_transaction_is_seen_outside_only_when_committed(db: Client, name: str) -> None:
    async with db.tx() as tx:
        await tx.litellm_usertable.create(data={"user_id": name})
        assert await db.litellm_usertable.find_unique(where={"user_id": name}) is None
        changed = await tx.execute_raw('update "LiteLLM_UserTable" set spend = $1 where user_id = $2', 3.25, name)
        assert changed == 1
    assert (await db.litellm_usertable.find_unique(where={"user_id": name})).spend == 3.25


async def test_a_transaction_that_raises_leaves_nothing(db: Client, name: str) -> None:
    async def write_and_fail() -> None:
        async with db.tx() as tx:
            await tx.litellm_usertable.create(data={"user_id": name})
            async with tx.batch_() as batch:
                batch.litellm_usertable.create(data={"user_id": f"{name}-b"})
            raise LookupError

    with pytest.raises(LookupError):
        await write_and_fail()
    assert await db.litellm_usertable.count(where={"user_id": {"in": [name, f"{name}-b"]}}) == 0


async def test_a_transaction_past_its_time_is_refused_and_rolled_back(db: Client, name: str) -> None:
    from prisma.errors import TransactionExpiredError

    async def linger() -> None:
        async with db.tx(timeout=timedelta(milliseconds=300)) as tx:
            await tx.litellm_usertable.create(data={"user_id": name})
            await asyncio.sleep(0.6)
            await tx.litellm_usertable.count()

    with pytest.raises(TransactionExpiredError):
        await linger()
    assert await db.litellm_usertable.find_unique(where={"user_id": name}) is None


async def test_raw_results_have_python_types(db: Client) -> None:
    (row,) = await db.query_raw(
        """select 1 as a, 2::bigint as b, (2^60)::bigint as big, 1.5::float8 as f, 2.25::numeric as n, true as t,
        '{"x":[1]}'::jsonb as j, array['a','b'] as arr, null as nothing, $1::text as p, 'x'::name as nm,
        array['x']::name[] as nms, 'c'::"char" as c, gen_random_uuid() is not null as u""",
        'pé\n"q"',
    )
    assert row == {
        "a": 1, "b": 2, "big": 2**60, "f": 1.5, "n": 2.25, "t": True, "j": {"x": [1]}, "arr": ["a", "b"],
        "nothing": None, "p": 'pé\n"q"', "nm": "x", "nms": ["x"], "c": "c", "u": True,
    }  # fmt: skip


async def test_raw_times_are_utc_whatever_the_server_thinks(db: Client, url: str) -> None:
    (row,) = await db.query_raw(
        """select $1::timestamptz as given, '2026-01-02 03:04:05+02'::timestamptz as fixed,
        array['2026-01-02 03:04:05.5+02'::timestamptz] as list, current_setting('TimeZone') as zone""",
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )
    assert row["given"].startswith("2026-01-02T03:04:05")
    assert row["fixed"] == "2026-01-02T01:04:05+00:00"
    assert row["list"] == ["2026-01-02T01:04:05.500+00:00"]
    assert row["zone"] == "UTC"


async def test_raw_parameters_of_every_kind_arrive(db: Client) -> None:
    (row,) = await db.query_raw(
        "select $1::int as i, $2::text[] as l, $3::jsonb as j, $4::float8 as f, $5::bool as b, $6::text as n",
        5, ["a", "b"], '{"a":1}', 0.1, False, None,
    )  # fmt: skip
    assert row == {"i": 5, "l": ["a", "b"], "j": {"a": 1}, "f": 0.1, "b": False, "n": None}


async def test_many_calls_at_once_are_all_answered(db: Client, name: str) -> None:
    await db.litellm_usertable.create(data={"user_id": name})
    calls = [
        db.litellm_usertable.update_many(where={"user_id": name}, data={"spend": {"increment": 1}}) for _ in range(60)
    ]
    assert await asyncio.gather(*calls) == [1] * 60
    assert (await db.litellm_usertable.find_unique(where={"user_id": name})).spend == 60


async def test_the_client_can_ask_for_metrics(db: Client) -> None:
    metrics = await db.get_metrics()
    assert metrics.counters == []
