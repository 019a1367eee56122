"""The SQL of `gatehouse.calls` and `gatehouse.gateways`: what the recorder and the recovery say to Postgres, a function
each.

Batches go as one JSON parameter, which costs the event loop less than arrays of adapted values.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

Connection = AsyncConnection[tuple[Any, ...]]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OpenCall:
    """An intent whose gateway died: what is known of the call."""

    call_id: UUID
    request: Row


async def insert_intents(connection: Connection, gateway_id: UUID, intents: Sequence[Row]) -> None:
    """Commit one row for each intent: `{call_id, started_at, request}`."""
    await connection.execute(
        """insert into gatehouse.calls (call_id, gateway_id, started_at, request)
           select (r->>'call_id')::uuid, %s, (r->>'started_at')::timestamptz, r->'request' from
           jsonb_array_elements(%s::jsonb) r""",
        (gateway_id, json.dumps(intents)),
        prepare=True,
    )


async def settle(connection: Connection, gateway_id: UUID, settlements: Sequence[Row]) -> dict[str, int]:
    """Commit how calls ended: `{call_id, started_at, request, record}`.

    A call whose intent never arrived gets its whole row. A row that another gateway has taken over is left alone.
    Saying the same again after a lost connection is harmless, for only the gateway that owns a row may settle it.

    Returns:
        call id to settle sequence, for the rows that are ours and now settled.
    """
    cursor = await connection.execute(
        """insert into gatehouse.calls as c (call_id, gateway_id, started_at, request, settled_at, settle_seq, record)
           select (r->>'call_id')::uuid, %s, (r->>'started_at')::timestamptz, r->'request', now(),
                  nextval('gatehouse.settle_seq'), r->'record' from jsonb_array_elements(%s::jsonb) r
           on conflict (call_id) do update
              set settled_at = excluded.settled_at, settle_seq = excluded.settle_seq, record = excluded.record
            where c.gateway_id = excluded.gateway_id
           returning call_id, settle_seq""",
        (gateway_id, json.dumps(settlements)),
        prepare=True,
    )
    return {str(call_id): seq for call_id, seq in await cursor.fetchall()}


async def beat(connection: Connection, gateway_id: UUID, log_id: UUID, logged_through: int) -> None:
    """Say that this gateway lives, and how far its lines are in the file; the first beat registers it.

    A gateway that was declared dead by mistake (it was paused) comes back so; the calls taken from it stay taken.
    """
    await connection.execute(
        """insert into gatehouse.gateways as g (gateway_id, log_id) values (%s, %s)
           on conflict (gateway_id) do update set heartbeat = g.heartbeat + 1, ended_at = null, log_complete = false,
              logged_through = greatest(g.logged_through, %s)""",
        (gateway_id, log_id, logged_through),
    )


async def end_gateway(connection: Connection, gateway_id: UUID) -> None:
    """Say that this gateway stopped with every call settled and every line written."""
    await connection.execute(
        "update gatehouse.gateways set ended_at = now(), log_complete = true where gateway_id = %s", (gateway_id,)
    )


async def live_gateways(connection: Connection, me: UUID) -> dict[UUID, int]:
    """Other gateways that nobody has declared dead, with their heartbeats."""
    cursor = await connection.execute(
        "select gateway_id, heartbeat from gatehouse.gateways where ended_at is null and gateway_id <> %s", (me,)
    )
    return dict(await cursor.fetchall())


async def declare_dead(connection: Connection, gateway_id: UUID, heartbeat: int) -> None:
    """End a gateway whose heartbeat still stands where it was seen."""
    await connection.execute(
        "update gatehouse.gateways set ended_at = now() where gateway_id = %s and heartbeat = %s and ended_at is null",
        (gateway_id, heartbeat),
    )


async def adopt_open_calls(connection: Connection, me: UUID) -> list[OpenCall]:
    """Take over every unsettled call of ended gateways; each is given to one adopter only."""
    cursor = await connection.execute(
        """update gatehouse.calls set gateway_id = %s
            where settled_at is null
              and gateway_id in (select gateway_id from gatehouse.gateways where ended_at is not null)
           returning call_id, request""",
        (me,),
    )
    return [OpenCall(call_id, request) for call_id, request in await cursor.fetchall()]


async def adopt_unlogged(connection: Connection, me: UUID, log_id: UUID) -> list[Row]:
    """Take over settled calls of ended gateways on the same log folder whose lines may not be in the file.

    Returns:
        `{call_id, seq, record}`; seq is this gateway's own from now on.
    """
    cursor = await connection.execute(
        """with ended as (
               update gatehouse.gateways set log_complete = true
                where ended_at is not null and not log_complete and log_id = %s and gateway_id <> %s
               returning gateway_id, logged_through)
           update gatehouse.calls c set gateway_id = %s, settle_seq = nextval('gatehouse.settle_seq')
             from ended where c.gateway_id = ended.gateway_id and c.settle_seq > ended.logged_through
           returning c.call_id::text, c.settle_seq, c.record""",
        (log_id, me, me),
    )
    return [{"call_id": call_id, "seq": seq, "record": record} for call_id, seq, record in await cursor.fetchall()]


async def count_open(connection: Connection) -> int:
    """Calls without an ending, on all gateways."""
    cursor = await connection.execute("select count(*) from gatehouse.calls where settled_at is null")
    row = await cursor.fetchone()
    return int(row[0]) if row else 0
