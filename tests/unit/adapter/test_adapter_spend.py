"""The adapter reports spend as LiteLLM tells it: a key's own, all keys' with the master key, and never a guess."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import gatehouse_adapter as ga
import pytest
import pytest_asyncio
from gatehouse_adapter._internal import clock

from tests.support.byte_gateway import KEY, ByteGateway, answers_with, serving

INFO, LOGS, ALL = "/key/info", "/spend/logs", "/global/spend"
KEY_INFO = {"key": "hash-1", "info": {"spend": 3.0, "total_spend": 7.5, "max_budget": 10.0}}
DAYS = [
    {"startTime": "2026-11-20", "spend": 1.0, "users": {}, "models": {"a": 0.75, "b": 0.25}},
    {"startTime": "2026-11-21T00:00:00Z", "spend": 2.0, "models": {"a": 2.0}},
    {"startTime": "2026-11-22", "spend": 0, "models": {}},
]
UNKNOWN_KEY = answers_with({"error": {"message": "Key not found in database", "code": "404"}}, 404)


@pytest_asyncio.fixture
async def gateway(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ByteGateway]:
    monkeypatch.setattr(clock, "now", lambda: datetime(2026, 11, 21, 23, 59, tzinfo=UTC).timestamp())
    async with serving() as found:
        found.handlers |= {INFO: answers_with(KEY_INFO), LOGS: answers_with(DAYS)}
        found.handlers[ALL] = answers_with({"spend": 20.0, "max_budget": 0.0})
        yield found


@pytest_asyncio.fixture
async def adapter(gateway: ByteGateway) -> AsyncIterator[ga.LiteLLMAdapter]:
    async with ga.LiteLLMAdapter(base_url=gateway.url, api_key=KEY, timeout=30.0) as client:
        yield client


@pytest.mark.parametrize(
    ("limit", "within", "left", "counts"),
    [
        (None, True, 7.0, 10.0),
        (50.0, True, 7.0, 10.0),
        (4.0, True, 1.0, 4.0),
        (3.0, False, 0.0, 3.0),
        (0, False, 0.0, 0),
    ],
)
async def test_the_lower_of_the_keys_budget_and_the_limit_counts(
    adapter: ga.LiteLLMAdapter, limit: float | None, within: bool, left: float, counts: float
) -> None:
    found = await adapter.check_budget_limit(limit)
    assert (found.within_budget, bool(found), found.remaining_budget, found.limit) == (within, within, left, counts)
    assert (found["current_spend"], found.scope) == (3.0, "key")


async def test_a_key_without_a_budget_has_no_limit(gateway: ByteGateway, adapter: ga.LiteLLMAdapter) -> None:
    gateway.handlers[INFO] = answers_with({"key": "h", "info": {"spend": None, "max_budget": None}})
    found = await adapter.check_budget_limit()
    assert (found.within_budget, found.current_spend, found.remaining_budget, found.limit) == (True, 0.0, None, None)


async def test_the_master_key_is_told_of_all(gateway: ByteGateway, adapter: ga.LiteLLMAdapter) -> None:
    gateway.handlers[INFO] = UNKNOWN_KEY
    found = await adapter.check_budget_limit(25.0)
    assert (found.scope, found.current_spend, found.remaining_budget) == ("all", 20.0, 5.0)
    assert (await adapter.get_usage_stats()).scope == "all"
    assert "api_key" not in gateway.requests[-1][0]


async def test_usage_is_by_day_and_by_model_and_only_of_the_days_asked_for(
    gateway: ByteGateway, adapter: ga.LiteLLMAdapter
) -> None:
    found = await adapter.get_usage_stats(days=2)
    assert found.total_spend == 3.0
    assert found.by_day == {"2026-11-20": 1.0, "2026-11-21": 2.0}
    assert found.by_model == {"a": 2.75, "b": 0.25}
    assert (found.start, found.end, found.scope) == ("2026-11-20", "2026-11-21", "key")
    # LiteLLM's days end where they begin, so that today needs tomorrow.
    assert gateway.requests[-1][0] == f"{LOGS}?start_date=2026-11-20&end_date=2026-11-22&api_key=hash-1"
    assert (await adapter.get_usage_stats(days=1)).by_day == {"2026-11-21": 2.0}


async def test_of_a_key_that_belongs_to_nobody_the_total_is_known(
    gateway: ByteGateway, adapter: ga.LiteLLMAdapter
) -> None:
    gateway.handlers[LOGS] = answers_with({"error": {"message": "Only proxy admin", "code": "401"}}, 401)
    found = await adapter.get_usage_stats()
    assert (found.total_spend, found.by_model, found.by_day, found.start) == (7.5, None, None, None)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (INFO, {"key": "h"}),
        (INFO, {"key": "h", "info": {"spend": "3"}}),
        (INFO, {"key": "h", "info": {"spend": float("inf")}}),
        (INFO, {"key": "h", "info": {"spend": True}}),
        (INFO, {"info": {"spend": 1}}),
        (INFO, []),
        (LOGS, {}),
        (LOGS, [1]),
        (LOGS, [{"spend": 1}]),
        (LOGS, [{"startTime": "2026-11-21", "spend": "1"}]),
        (LOGS, [{"startTime": "2026-11-21", "spend": 1, "models": {"a": []}}]),
    ],
)
async def test_what_cannot_be_read_is_never_taken_for_nothing_spent(
    gateway: ByteGateway, adapter: ga.LiteLLMAdapter, path: str, answer: Any
) -> None:
    gateway.handlers[path] = answers_with(answer)
    with pytest.raises(ga.InvalidResponse):
        await adapter.get_usage_stats()


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_a_refusal_is_an_error_and_no_budget(
    gateway: ByteGateway, adapter: ga.LiteLLMAdapter, status: int
) -> None:
    gateway.handlers[INFO] = answers_with({"error": {"message": "No.", "code": str(status)}}, status)
    with pytest.raises(ga.GatehouseError):
        await adapter.check_budget_limit()
    with pytest.raises(ga.BadRequest, match="limit"):
        await adapter.check_budget_limit(float("nan"))
    for days in (0, 10**12):
        with pytest.raises(ga.BadRequest, match="days"):
            await adapter.get_usage_stats(days=days)
