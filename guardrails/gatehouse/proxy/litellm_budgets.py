"""Makes the ledger's budgets the ones that count for governed calls, in the three places where LiteLLM has its own.

LiteLLM reserves a call's cost in Redis, where a gateway that dies leaves it, and adds costs to its tables from memory,
which dies with the gateway. For governed calls the ledger does both, in Postgres. LiteLLM's counters stay as a first
look: what is exhausted by them is refused early, but only where its row in Postgres agrees.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Final

from fastapi import HTTPException
from litellm.proxy import proxy_server
from litellm.proxy.db.db_transaction_queue.spend_update_queue import SpendUpdateQueue
from litellm.proxy.spend_tracking import budget_reservation

from gatehouse.core.call import Payer

log = logging.getLogger("gatehouse.spend")

# What LiteLLM alone counts.
_MODEL_GROUP: Final = "Model access group"

CHARGED: Final = frozenset("key user team team_member organization project tag end_user".split())
"""The kinds of payers that the ledger charges."""

by_ledger: ContextVar[bool] = ContextVar("gatehouse_charged_by_ledger", default=False)
"""Is set where LiteLLM is told of a cost for which the ledger charges all payers."""

Payers = Callable[[], Iterable[Payer] | None]
ReadSpend = Callable[[str, str, str], Awaitable[float | None]]


def entrust(payers: Payers, spend_of: ReadSpend) -> None:
    """Let the ledger reserve and charge what LiteLLM would.

    Args:
        payers: returns who pays for the running call; None outside governed calls.
        spend_of: reads the spend of a payer from LiteLLM's tables, by kind, id and what it is of.
    """
    _leave_reservations(payers)
    _leave_charges(payers)
    _confirm_refusals(payers, spend_of)


def _leave_reservations(payers: Payers) -> None:
    counters = budget_reservation._get_budget_counters

    async def others(*args: Any, **kwargs: Any) -> list[Any]:
        found: list[Any] = await counters(*args, **kwargs)
        if payers() is None:
            return found
        return [each for each in found if each.window_start is not None or each.entity_type == _MODEL_GROUP]

    budget_reservation._get_budget_counters = others


def _leave_charges(payers: Payers) -> None:
    add = SpendUpdateQueue.add_update

    async def add_others(queue: Any, update: Mapping[str, Any]) -> None:
        kind = str(getattr(update["entity_type"], "value", update["entity_type"]))
        if by_ledger.get() and kind in CHARGED:
            return
        if (kind, update["entity_id"]) not in {_entity(payer) for payer in payers() or ()}:
            await add(queue, update)

    SpendUpdateQueue.add_update = add_others


def _entity(payer: Payer) -> tuple[str, str]:
    """Return a payer as LiteLLM's queue names it."""
    name = f"team_id::{payer.of}::user_id::{payer.id}" if payer.kind == "team_member" else payer.id
    return payer.kind, name


def _confirm_refusals(payers: Payers, spend_of: ReadSpend) -> None:
    current = proxy_server.get_current_spend

    async def confirmed(counter_key: str, *args: Any, max_budget: float | None = None, **kwargs: Any) -> float:
        ours = payers() is not None and kwargs.get("window_start") is None
        try:
            counted: float = await current(counter_key, *args, max_budget=max_budget, **kwargs)
        except HTTPException:  # neither Redis nor the database answered it in time
            if not ours:
                raise
            return 0.0
        if max_budget is None or counted < max_budget or not ours:
            return counted
        payer = payer_of(counter_key)
        spent = None if payer is None else await spend_of(*payer)
        if spent is None or spent >= counted:
            return counted
        log.warning("LiteLLM's counter of a %s was above its spend in Postgres; it is set right", counter_key[6:11])
        await _set(counter_key, spent)
        return spent

    proxy_server.get_current_spend = confirmed


_PREFIXES: Final = {"org": "organization"}


def payer_of(counter_key: str) -> tuple[str, str, str] | None:
    """Return kind, id and what it is of, for LiteLLM's name of a counter."""
    prefix, _, rest = counter_key.partition(":")
    kind, _, name = rest.partition(":")
    if prefix != "spend" or not name:
        return None
    if kind == "team_member":
        user, _, team = name.rpartition(":")
        return kind, user, team
    return _PREFIXES.get(kind, kind), name, ""


async def _set(counter_key: str, spent: float) -> None:
    cache = proxy_server.spend_counter_cache
    cache.in_memory_cache.set_cache(key=counter_key, value=spent)
    if cache.redis_cache is not None:
        await cache.redis_cache.async_set_cache(key=counter_key, value=spent)
