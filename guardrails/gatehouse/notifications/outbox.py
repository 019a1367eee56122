"""Holds the SQL of `gatehouse.outbox`, a function per statement: which address is still to receive which event.

Promises: a committed event stays until it was sent or given up, and one that is rolled back leaves no row; two gateways
never hold the lease of one row at the same time. All times are the database's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from gatehouse.notifications.messages import Notice
from gatehouse.storage.connection import Connection

CHANNEL: Final = "gatehouse_outbox"
"""The channel of NOTIFY for new rows."""

GIVE_UP_AFTER_S: Final = 24 * 3600.0
"""After this time one last attempt is made."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Claim:
    """Describe an attempt that only this gateway makes while its lease lasts.

    Attributes:
        attempt: counted from 1.
        event: the JSON of `Notice.row`.
    """

    event_id: str
    address: str
    event: Row
    attempt: int
    lease: UUID


async def enqueue(connection: Connection, event: Notice, addresses: Iterable[str]) -> int:
    """Add an event for these addresses to the outbox, in the caller's transaction.

    Args:
        addresses: by their names. An address with this event's id is left as it is.

    Returns:
        The number of addresses for which the event is new.
    """
    cursor = await connection.execute(
        """with new as (
               insert into gatehouse.outbox (event_id, address, event)
               select %s, address, %s::jsonb from unnest(%s::text[]) address order by address
               on conflict do nothing returning address),
             told as (select pg_notify(%s, '') where exists (select from new))
           select count(*) from new left join told on true""",
        (event.id, json.dumps(event.row()), sorted(set(addresses)), CHANNEL),
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def told_of(connection: Connection, event_id: str) -> list[str]:
    """Return the addresses that have received, or will receive, an event."""
    cursor = await connection.execute("select address from gatehouse.outbox where event_id = %s", (event_id,))
    return [address for (address,) in await cursor.fetchall()]


async def claim(connection: Connection, free: Mapping[str, int], lease: UUID, lease_s: float) -> list[Claim]:
    """Claim due rows for `lease_s` seconds, also those that another gateway claimed and did not finish in time.

    Args:
        free: how many rows to claim at most for each address.
        lease: identifies the claim when its result is recorded.
    """
    cursor = await connection.execute(
        """with due as materialized (
               select o.event_id, o.address
                 from unnest(%s::text[], %s::integer[]) as mine(address, free)
                cross join lateral (
                      select event_id, address from gatehouse.outbox
                       where address = mine.address and state = 'pending' and next_attempt_at <= clock_timestamp()
                       order by next_attempt_at limit mine.free for update skip locked) o)
           update gatehouse.outbox o
              set lease = %s, attempts = attempts + 1, next_attempt_at = clock_timestamp() + make_interval(secs => %s)
             from due where o.event_id = due.event_id and o.address = due.address
           returning o.event_id, o.address, o.event, o.attempts, o.lease""",
        (list(free), list(free.values()), lease, lease_s),
    )
    return [Claim(*row) for row in await cursor.fetchall()]


async def sent(connection: Connection, claim: Claim) -> None:
    """Record that an event was sent, whoever holds the lease by now."""
    await connection.execute(
        """update gatehouse.outbox set state = 'sent', sent_at = clock_timestamp(), lease = null, last_error = null
            where event_id = %s and address = %s and state <> 'sent'""",
        (claim.event_id, claim.address),
    )


async def failed(connection: Connection, claim: Claim, error: str, again_in_s: float) -> str | None:
    """Record a failed attempt, and schedule the next one in so many seconds, at the latest when its day ends.

    Args:
        error: the reason, without any text of the receiver's.

    Returns:
        The row's state: `pending`, or `dead` when its day is over; None when another gateway has taken it over.
    """
    cursor = await connection.execute(
        """update gatehouse.outbox
              set last_error = %s, lease = null,
                  state = case when clock_timestamp() >= created_at + make_interval(secs => %s)
                               then 'dead' else 'pending' end,
                  next_attempt_at = least(clock_timestamp() + make_interval(secs => %s),
                                          greatest(created_at + make_interval(secs => %s), clock_timestamp()))
            where event_id = %s and address = %s and lease = %s and state = 'pending' returning state""",
        (error, GIVE_UP_AFTER_S, again_in_s, GIVE_UP_AFTER_S, claim.event_id, claim.address, claim.lease),
    )
    row = await cursor.fetchone()
    return str(row[0]) if row else None


async def give_up_unknown(connection: Connection, known: Iterable[str]) -> list[tuple[str, str]]:
    """Give up rows that have waited a day for an address that no gateway has; return event ids and addresses."""
    cursor = await connection.execute(
        """update gatehouse.outbox set state = 'dead', last_error = 'no gateway has an address of this name'
            where state = 'pending' and created_at < clock_timestamp() - make_interval(secs => %s)
              and next_attempt_at < clock_timestamp() - interval '1 hour' and not address = any(%s)
           returning event_id, address""",
        (GIVE_UP_AFTER_S, list(known)),
    )
    return [(event_id, address) for event_id, address in await cursor.fetchall()]
