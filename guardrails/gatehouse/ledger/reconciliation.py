"""Compares LiteLLM's tables of money with the ledger and repairs them: on request, each hour, and when a gateway died.

Promises: the ledger's costs are the truth. What LiteLLM has too much of is lowered only for payers, and only where no
call can cost something outside the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import psycopg

from gatehouse.core import metrics
from gatehouse.core.clock import first_id, now
from gatehouse.ledger.store import spend
from gatehouse.ledger.store.spend import Difference
from gatehouse.storage.connection import Connection, Pool

log = logging.getLogger("gatehouse.spend")

EVERY_S = 3600.0
DAYS: Final = 2
"""How many days back the gateway looks, today included. What it could not repair until then, the command can."""


def first_call_of(today: datetime, days: int) -> UUID:
    """Return the smallest id of a call of the last `days` days (UTC), today included."""
    midnight = today.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return first_id(midnight - timedelta(days=days - 1))


async def reconcile(
    connection: Connection, *, repair: bool, only_raise: bool, logged: bool, days: int = DAYS
) -> list[Difference] | None:
    """Compare, and repair if that is wanted.

    Args:
        only_raise: calls that are not governed may cost something, so payers may have spent more than the ledger says.
        logged: LiteLLM keeps a log of each call's spend.

    Returns:
        What differed before; None where another gateway is at it.
    """
    first = first_call_of(now(), days)
    async with spend.turn(connection) as mine:
        if not mine:
            return None
        found = await spend.reservations(connection, repair=repair)
        found += await spend.payers(connection, repair=repair, only_raise=only_raise)
        if logged:
            found += await spend.logs(connection, first, repair=repair)
        return found + await spend.days(connection, first, repair=repair)


class Reconciler:
    """One gateway's schedule.

    Args:
        only_raise: see `reconcile`; may change with policy.yaml.
        logged: see `reconcile`.
    """

    def __init__(self, pool: Pool, only_raise: Callable[[], bool], logged: Callable[[], bool]) -> None:
        self._pool = pool
        self._only_raise = only_raise
        self._logged = logged
        self._due = asyncio.Event()

    def look(self) -> None:
        """Look soon, because a gateway died."""
        self._due.set()

    async def run(self) -> None:
        """Look each hour, until cancelled; a failure is logged and tried again."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._due.wait()
            self._due.clear()
            try:
                await self._look()
            except (psycopg.Error, OSError, TimeoutError) as error:
                log.warning("LiteLLM's spend was not compared with the ledger (%s)", type(error).__name__)

    async def _look(self) -> None:
        async with self._pool.connection() as connection:
            found = await reconcile(connection, repair=True, only_raise=self._only_raise(), logged=self._logged())
        if found is None:
            return
        totals = by_table(found)
        for table in TABLES:
            metrics.spend_drift.labels(table).set(totals.get(table, 0.0))
        if found:
            log.warning("LiteLLM's spend differed from the ledger and was repaired: %s", said(totals))


TABLES: Final = ("payers", "reserved", "spend logs", "daily")
"""The groups of tables that the metric tells apart."""


def by_table(found: Sequence[Difference]) -> dict[str, float]:
    """Return by how many dollars LiteLLM's tables differ, in groups."""
    totals: dict[str, float] = defaultdict(float)
    for each in found:
        group = each.table.partition(":")[0]
        totals[group if group in TABLES else "payers"] += each.usd
    return totals


def said(totals: dict[str, float]) -> str:
    """Return the groups with their dollars, for a log."""
    return ", ".join(f"{table} by ${usd:.6g}" for table, usd in sorted(totals.items()))
