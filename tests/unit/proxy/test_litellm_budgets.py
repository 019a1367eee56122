"""For governed calls the ledger reserves, charges and has the last word; for all others LiteLLM does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import HTTPException
from gatehouse.core.call import Payer
from gatehouse.gateway.management import sets_spend_of
from gatehouse.proxy import litellm_budgets
from gatehouse.proxy.litellm_budgets import by_ledger, entrust, payer_of
from gatehouse.proxy.payers import payers_of
from litellm.proxy import proxy_server
from litellm.proxy.db.db_transaction_queue.spend_update_queue import SpendUpdateQueue
from litellm.proxy.spend_tracking import budget_reservation

KEY, MEMBER = Payer("key", "k"), Payer("team_member", "u", "t")


class Engine:
    """Holds what a call's payers are, what Postgres says, and what LiteLLM counted."""

    def __init__(self) -> None:
        self.payers: Iterable[Payer] | None = ()
        self.spent: float | None = 0.25
        self.counted: float | HTTPException = 1.0
        self.set: list[tuple[str, float]] = []


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    found = Engine()

    async def counters(**_: Any) -> list[Any]:
        kinds = [("Key", None), ("Key", "window"), ("Model access group", None)]
        return [SimpleNamespace(entity_type=kind, window_start=start) for kind, start in kinds]

    async def current(counter_key: str, fallback_spend: float, max_budget: float | None = None, **_: Any) -> float:
        if isinstance(found.counted, HTTPException):
            raise found.counted
        return found.counted

    async def spend_of(*_: str) -> float | None:
        return found.spent

    async def note(key: str, usd: float) -> None:
        found.set.append((key, usd))

    monkeypatch.setattr(budget_reservation, "_get_budget_counters", counters)
    monkeypatch.setattr(SpendUpdateQueue, "add_update", SpendUpdateQueue.add_update)
    monkeypatch.setattr(proxy_server, "get_current_spend", current)
    monkeypatch.setattr(litellm_budgets, "_set", note)
    entrust(lambda: found.payers, spend_of)
    return found


async def current(key: str = "spend:key:k", **fields: Any) -> float:
    return float(await proxy_server.get_current_spend(counter_key=key, fallback_spend=0.0, **fields))


async def test_litellm_reserves_only_what_the_ledger_does_not(engine: Engine) -> None:
    assert len(await budget_reservation._get_budget_counters()) == 2
    engine.payers = None
    assert len(await budget_reservation._get_budget_counters()) == 3


@pytest.mark.parametrize(
    ("kind", "name", "queued"),
    [
        ("key", "k", False),
        ("key", "other", True),
        ("team_member", "team_id::t::user_id::u", False),
        ("agent", "k", True),
    ],
)
async def test_litellm_charges_only_whom_the_ledger_does_not(
    engine: Engine, kind: str, name: str, queued: bool
) -> None:
    engine.payers = (KEY, MEMBER)
    queue = SpendUpdateQueue()
    await queue.add_update({"entity_type": kind, "entity_id": name, "response_cost": 1.0})
    assert queue.update_queue.qsize() == queued


async def test_a_cost_that_the_ledger_charges_reaches_no_table_of_payers(engine: Engine) -> None:
    engine.payers, queue = None, SpendUpdateQueue()

    async def told() -> None:
        by_ledger.set(True)
        for kind in ("key", "user", "tag", "model_access_group"):
            await queue.add_update({"entity_type": kind, "entity_id": "x", "response_cost": 1.0})

    await asyncio.create_task(told())
    assert queue.update_queue.qsize() == 1


async def test_a_counter_that_says_too_much_is_set_right_and_refuses_nobody(engine: Engine) -> None:
    assert await current(max_budget=1.0) == 0.25
    assert engine.set == [("spend:key:k", 0.25)]


@pytest.mark.parametrize("spent", [None, 1.0, 2.0])
async def test_a_counter_that_postgres_agrees_with_or_cannot_tell_counts(engine: Engine, spent: float | None) -> None:
    engine.spent = spent
    assert await current(max_budget=1.0) == 1.0
    assert engine.set == []


async def test_postgres_is_asked_only_before_a_refusal_of_a_governed_call(engine: Engine) -> None:
    assert await current(max_budget=1.5) == 1.0
    assert await current() == 1.0
    assert await current(max_budget=1.0, window_start="now") == 1.0
    engine.payers = None
    assert await current(max_budget=1.0) == 1.0


async def test_without_redis_a_governed_call_is_the_ledgers_to_refuse(engine: Engine) -> None:
    engine.counted = HTTPException(503)
    assert await current(max_budget=1.0) == 0.0
    engine.payers = None
    with pytest.raises(HTTPException):
        await current(max_budget=1.0)


def test_a_counters_name_says_whose_it_is() -> None:
    assert payer_of("spend:key:a:b") == ("key", "a:b", "")
    assert payer_of("spend:team_member:u:v:t") == ("team_member", "u:v", "t")
    assert payer_of("spend:org:o") == ("organization", "o", "")
    assert payer_of("spend:key:") is None
    assert payer_of("else:key:k") is None


def test_everybody_whom_litellm_would_charge_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"api_key": "a" * 64, "token": "a" * 64, "user_id": "u", "team_id": "t", "org_id": "o", "project_id": "p"}
    key = proxy_server.UserAPIKeyAuth(**fields, metadata={"end_user_budget_id": "b"})
    found = payers_of(key, {"metadata": {"tags": ["one", 2]}, "litellm_metadata": {"tags": ["two"]}}, "customer")
    assert set(found) == {
        Payer("key", "a" * 64),
        Payer("user", "u", limited=False),
        Payer("team", "t"),
        MEMBER,
        Payer("organization", "o"),
        Payer("project", "p"),
        Payer("end_user", "customer", "b"),
        Payer("tag", "one"),
        Payer("tag", "two"),
    }
    monkeypatch.setattr("litellm.max_budget", 5.0)
    assert Payer("user", "litellm-proxy-budget") in payers_of(key, {}, None)


def test_a_management_request_that_sets_a_spend_says_whose() -> None:
    assert sets_spend_of("/key/update", b'{"key": "plain", "spend": 0}') == ("plain",)
    assert sets_spend_of("/user/update", b'{"user_id": "u", "spend": 1}') == ("u",)
    assert sets_spend_of("/team/a%20b/reset_spend", b'{"reset_to": 0}') == ("a b",)
    assert sets_spend_of("/key/update", b'{"key": "plain"}') == ()
    assert sets_spend_of("/key/update", b"") == ()
    assert sets_spend_of("/key/update", b"[1]") == ()
