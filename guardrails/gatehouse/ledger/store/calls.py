"""The SQL of `gatehouse.calls` and `gatehouse.gateways`: what the recorder and the recovery say to Postgres, a function
each.

Batches go as one JSON parameter, which costs the event loop less than arrays of adapted values.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from gatehouse.core.call import AuditLine
from gatehouse.ledger.rows import DecisionRow, IntentRow, PayerRow, RequestRow, SettlementRow
from gatehouse.storage.connection import Connection


@dataclass(frozen=True, slots=True)
class OpenCall:
    """An intent whose gateway died: what is known of the call, and the most that an answer was estimated to cost."""

    call_id: UUID
    started_at: datetime
    request: RequestRow
    decision: DecisionRow | None
    may_cost_usd: float | None


@dataclass(frozen=True, slots=True)
class SettledCall:
    """A call that is settled already: its settle sequence, and its capsule's chain, sequence, hash and key."""

    settle_seq: int
    chain: str
    sequence: int
    hash: str
    signed_by: str

    @property
    def place(self) -> tuple[str, int, str, str]:
        """Return where its capsule lies, its hash, and the key that signed it."""
        return self.chain, self.sequence, self.hash, self.signed_by


async def insert_intents(connection: Connection, gateway_id: UUID, intents: Sequence[IntentRow]) -> None:
    """Commit one row for each intent; one that is there already stays. A report's time begins now, by the database's
    clock."""
    await connection.execute(
        """insert into gatehouse.calls (call_id, gateway_id, started_at, request, decision, prompt,
                                        expires_at, seal_after, payers, reserved)
           select (r->>'call_id')::uuid, %s, (r->>'started_at')::timestamptz, r->'request', r->'decision', r->'prompt',
                  due, due, r->'payers', (r->>'reserve')::numeric
             from jsonb_array_elements(%s::jsonb) r,
                  lateral (select clock_timestamp() + (r->>'report_within_s')::float8 * interval '1 second') d(due)
           on conflict (call_id) do nothing""",
        (gateway_id, json.dumps(intents)),
        prepare=True,
    )


@dataclass(frozen=True, slots=True)
class Ended:
    """A call that was just settled: its settle sequence, who pays for it, and whose budgets held how much for it."""

    settle_seq: int
    payers: Sequence[PayerRow] | None
    held: Sequence[PayerRow] | None
    reserved: Decimal | None


async def settle(connection: Connection, gateway_id: UUID, settlements: Sequence[SettlementRow]) -> dict[str, Ended]:
    """Write down how calls ended.

    A call whose intent never arrived gets its whole row. A row that is settled, or that another gateway has taken over,
    is left alone: each call is settled once.

    Returns:
        The calls that this settled, by their ids.
    """
    cursor = await connection.execute(
        """insert into gatehouse.calls as c
                  (call_id, gateway_id, started_at, request, decision, settled_at, settle_seq, record, prompt_salt,
                   payers)
           select (r->>'call_id')::uuid, %s, (r->>'started_at')::timestamptz, r->'request', r->'decision', now(),
                  nextval('gatehouse.settle_seq'), r->'record', decode(r->>'salt', 'hex'),
                  r->'payers'
             from jsonb_array_elements(%s::jsonb) r
           on conflict (call_id) do update
              set settled_at = excluded.settled_at, settle_seq = excluded.settle_seq, record = excluded.record,
                  prompt_salt = excluded.prompt_salt, prompt = null, reported = c.reported - 'answer'
            where c.gateway_id = excluded.gateway_id and c.settled_at is null
           returning call_id, settle_seq, payers, held, reserved""",
        (gateway_id, json.dumps(settlements)),
        prepare=True,
    )
    return {str(call_id): Ended(*rest) for call_id, *rest in await cursor.fetchall()}


async def settled_before(connection: Connection, gateway_id: UUID, call_ids: Sequence[str]) -> dict[str, SettledCall]:
    """Which of these calls this gateway has settled: a batch is said again when the answer to it was lost."""
    cursor = await connection.execute(
        """select c.call_id::text, c.settle_seq, s.chain, s.sequence, s.hash, s.signed_by
             from gatehouse.calls c join gatehouse.capsules s on s.id = c.call_id
            where c.gateway_id = %s and c.settled_at is not null and c.call_id = any(%s::uuid[])""",
        (gateway_id, list(call_ids)),
    )
    return {call_id: SettledCall(*rest) for call_id, *rest in await cursor.fetchall()}


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
    """Take over every unsettled call of ended gateways; each is given to one adopter only.

    Those of library mode go on without the gateway that decided on them; `library.take_due` finds them in their time.
    """
    cursor = await connection.execute(
        """update gatehouse.calls set gateway_id = %s
            where settled_at is null and seal_after is null
              and gateway_id in (select gateway_id from gatehouse.gateways where ended_at is not null)
           returning call_id, started_at, request, decision, reserved::float8""",
        (me,),
    )
    return [OpenCall(*row) for row in await cursor.fetchall()]


async def adopt_unlogged(connection: Connection, me: UUID, log_id: UUID) -> dict[str, tuple[SettledCall, AuditLine]]:
    """Take over settled calls of ended gateways on the same log folder whose lines may not be in the file.

    Returns:
        call id to what is settled and its line; its settle sequence is this gateway's own from now on.
    """
    cursor = await connection.execute(
        """with ended as (
               update gatehouse.gateways set log_complete = true
                where ended_at is not null and not log_complete and log_id = %s and gateway_id <> %s
               returning gateway_id, logged_through)
           update gatehouse.calls c set gateway_id = %s, settle_seq = nextval('gatehouse.settle_seq')
             from ended, gatehouse.capsules s
            where c.gateway_id = ended.gateway_id and c.settle_seq > ended.logged_through and s.id = c.call_id
           returning c.call_id::text, c.record, c.settle_seq, s.chain, s.sequence, s.hash, s.signed_by""",
        (log_id, me, me),
    )
    return {call_id: (SettledCall(*settled), record) for call_id, record, *settled in await cursor.fetchall()}


async def owned(connection: Connection, gateway_id: UUID, call_ids: Sequence[str]) -> set[str]:
    """Which of these calls belong to this gateway and were not taken over by another."""
    cursor = await connection.execute(
        "select call_id::text from gatehouse.calls where gateway_id = %s and call_id = any(%s::uuid[])",
        (gateway_id, list(call_ids)),
    )
    return {call_id for (call_id,) in await cursor.fetchall()}


async def reopen_log(connection: Connection, gateway_id: UUID) -> None:
    """Say that an ended gateway got settled calls whose lines are still to be written."""
    await connection.execute("update gatehouse.gateways set log_complete = false where gateway_id = %s", (gateway_id,))


async def count_open(connection: Connection) -> int:
    """Calls without an ending, on all gateways."""
    cursor = await connection.execute("select count(*) from gatehouse.calls where settled_at is null")
    row = await cursor.fetchone()
    return int(row[0]) if row else 0
