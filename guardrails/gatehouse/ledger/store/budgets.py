"""The SQL of `gatehouse.budgets`: what calls may cost is reserved with their intents, what they did cost is charged.

The functions of migration 0011 do it in one statement each, so that no lock is held while a gateway thinks.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Final
from uuid import UUID

import psycopg

from gatehouse.ledger.bills import Charge, payers_of
from gatehouse.ledger.rows import IntentRow
from gatehouse.storage.connection import Connection, Pool

log = logging.getLogger("gatehouse.spend")

_PATIENCE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Full:
    """A budget without room for a call, in US dollars."""

    kind: str
    id: str
    spent: Decimal
    reserved: Decimal
    limit: Decimal


async def open_intents(
    connection: Connection, gateway_id: UUID, intents: Sequence[IntentRow], *, anyhow: bool = False
) -> dict[str, Full]:
    """Commit each intent whose budgets all have room for it, and reserve what it may cost.

    Args:
        anyhow: commit them without room too, because they were let through already.

    Returns:
        The refused ones by call id, with the first budget that has no room.
    """
    payers, places = payers_of(intents)
    rows = [{**intent, "at": at} for intent, at in zip(intents, places, strict=True)]
    cursor = await connection.execute(
        "select * from gatehouse.open_intents(%s, %s::jsonb, %s::jsonb, %s)",
        (gateway_id, json.dumps(payers), json.dumps(rows), anyhow),
        prepare=True,
    )
    return {call_id: Full(*rest) for call_id, *rest in await cursor.fetchall()}


async def reserve_more(pool: Pool, call_id: UUID, usd: float) -> Full | None:
    """Reserve more for a call under way; return the first budget that has no room, where there is one.

    Raises:
        TimeoutError, psycopg.Error, OSError: it may or may not be reserved.
    """
    async with asyncio.timeout(_PATIENCE_S), pool.connection() as connection:
        cursor = await connection.execute(
            "select * from gatehouse.reserve_more(%s, %s::numeric)", (call_id, repr(usd)), prepare=True
        )
        row = await cursor.fetchone()
    return None if row is None else Full(*row)


async def charge(connection: Connection, charges: Sequence[Charge]) -> None:
    """Charge payers for their calls, here and in LiteLLM's tables, and give back what was reserved for the calls."""
    if charges:
        rows = json.dumps([asdict(each) for each in charges], default=str)
        await connection.execute("select gatehouse.charge(%s::jsonb)", (rows,), prepare=True)


async def spend_of(pool: Pool, kind: str, name: str, of: str) -> float | None:
    """Return what LiteLLM's tables say that a payer has spent; None where there is no such row, or no answer."""
    try:
        async with asyncio.timeout(_PATIENCE_S), pool.connection() as connection:
            cursor = await connection.execute(
                "select spend::float8 from gatehouse.litellm_budget(%s, %s, %s)", (kind, name, of), prepare=True
            )
            row = await cursor.fetchone()
    except (TimeoutError, psycopg.Error, OSError):
        return None
    return None if row is None else row[0]


async def forget(pool: Pool, names: Sequence[str]) -> None:
    """Take LiteLLM's spend of these payers for right from now on: an administrator has set it."""
    try:
        async with asyncio.timeout(_PATIENCE_S), pool.connection() as connection:
            await connection.execute("update gatehouse.budgets set settled = null where id = any(%s)", (list(names),))
    except (TimeoutError, psycopg.Error, OSError) as error:
        log.warning("the spend that an administrator set may be set back to the ledger's (%s)", type(error).__name__)
