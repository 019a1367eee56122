"""The SQL that the console reads with: people by their key, calls, spend, and what rules did. Nothing here writes.

Promises: a query gives up after `_PATIENCE`, so that a reader never holds up the database that calls need; a call's id
holds its time, so every question about a span of time reads the primary key and no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Query
from psycopg import errors

from gatehouse.approvals.model import Pending
from gatehouse.core.clock import first_id
from gatehouse.core.errors import GovernanceUnavailable
from gatehouse.ledger.store.capsules import Connection, reading
from gatehouse.storage.connection import Connection as SharedConnection

Text = Annotated[str, Query(max_length=256, pattern=r"^[^\x00]*$")]
Days = Annotated[int, Query(ge=1, le=90)]

PAGE: Final = 50
_PATIENCE: Final = "5s"
# Of a table that people read; what comes after is summed up by the total.
_MAX_ROWS: Final = 20


@dataclass(frozen=True, slots=True)
class Person:
    """Whose key it is, as LiteLLM's tables say now; `teams` are ids and aliases."""

    user_id: str | None
    role: str | None
    teams: frozenset[str]
    key_hash: str


@dataclass(frozen=True, slots=True)
class StoredCall:
    """A row of `gatehouse.calls`."""

    call_id: UUID
    started_at: datetime
    request: dict[str, Any]
    decision: dict[str, Any]
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Which calls to list; an empty text excludes none."""

    team: Text = ""
    model: Text = ""
    status: Text = ""
    verdict: Text = ""
    rule: Text = ""
    who: Text = ""
    days: Days = 7


@dataclass(frozen=True, slots=True)
class SpendTotal:
    """What one team, one model or one day cost."""

    name: str
    calls: int
    usd: Decimal


@dataclass(frozen=True, slots=True)
class Spend:
    """What a span of time cost; teams and models are the `_MAX_ROWS` dearest."""

    by_day: list[tuple[date, int, Decimal]]
    by_team: list[SpendTotal]
    by_model: list[SpendTotal]


@dataclass(frozen=True, slots=True)
class Past:
    """A request for approval, and what became of it."""

    id: UUID
    model: str | None
    at: datetime
    state: str


@contextmanager
def looking(database_url: str) -> Iterator[Connection]:
    """Open a connection for one page: its questions take longer than approvals should wait for a shared one.

    Raises:
        SetupError: as `reading`.
        GovernanceUnavailable: a query took too long.
    """
    try:
        with reading(database_url) as connection:
            connection.execute(f"set local statement_timeout = '{_PATIENCE}'".encode())
            yield connection
    except errors.QueryCanceled:
        raise GovernanceUnavailable("The question takes too long to answer. Ask about fewer days.") from None


async def person(connection: SharedConnection, key_hash: str) -> Person | None:
    """Return who holds this key; None when it is deleted, blocked or expired, or its team is blocked."""
    cursor = await connection.execute(
        """select k.user_id, u.user_role,
                  array(select t.team_id from "LiteLLM_TeamTable" t
                         where t.team_id = k.team_id or t.team_id = any(u.teams)
                        union
                        select t.team_alias from "LiteLLM_TeamTable" t
                         where t.team_alias is not null and (t.team_id = k.team_id or t.team_id = any(u.teams)))
             from "LiteLLM_VerificationToken" k
             left join "LiteLLM_UserTable" u on u.user_id = k.user_id
             left join "LiteLLM_TeamTable" own on own.team_id = k.team_id
            where k.token = %s and k.blocked is not true and own.blocked is not true
              and (k.expires is null or k.expires > (now() at time zone 'utc'))""",
        (key_hash,),
    )
    row = await cursor.fetchone()
    return Person(row[0], row[1], frozenset(row[2]), key_hash) if row else None


def calls(connection: Connection, wanted: CallFilter, since: datetime, before: UUID | None) -> list[StoredCall]:
    """Return calls, newest first, one more than a page where there are more.

    Args:
        before: only those older than this one: the last one of the page before.
    """
    rows = connection.execute(
        """select call_id, started_at, request, coalesce(nullif(decision, 'null'), '{}'), coalesce(record->'data', '{}')
             from gatehouse.calls
            where call_id >= %(first)s and (%(before)s::uuid is null or call_id < %(before)s)
              and (%(team)s = '' or request->'caller'->>'team' = %(team)s)
              and (%(model)s = '' or request->>'model' = %(model)s)
              and (%(status)s = '' or coalesce(record->'data'->>'status', 'open') = %(status)s)
              and (%(verdict)s = '' or coalesce(decision->>'verdict', record->'data'->>'decision') = %(verdict)s)
              and (%(rule)s = '' or decision->'policies' ? %(rule)s or decision->'observed' ? %(rule)s)
              and (%(who)s = '' or request->'caller'->>'user' = %(who)s or request->'caller'->>'key_alias' = %(who)s
                   or request->'agent'->>'id' = %(who)s or request->'agent'->>'session' = %(who)s)
            order by call_id desc limit %(limit)s""",
        {
            "first": first_id(since),
            "before": before,
            "team": wanted.team,
            "model": wanted.model,
            "status": wanted.status,
            "verdict": wanted.verdict,
            "rule": wanted.rule,
            "who": wanted.who,
            "limit": PAGE + 1,
        },
    )
    return [StoredCall(*row) for row in rows]


def call(connection: Connection, call_id: UUID) -> StoredCall | None:
    """Return one call."""
    row = connection.execute(
        """select call_id, started_at, request, coalesce(nullif(decision, 'null'), '{}'), coalesce(record->'data', '{}')
             from gatehouse.calls where call_id = %s""",
        (call_id,),
    ).fetchone()
    return StoredCall(*row) if row else None


def spend(connection: Connection, since: datetime) -> Spend:
    """Return what calls cost, by day (UTC), team and model."""
    rows = connection.execute(
        """select day, team, model, count(*), sum(usd)
             from (select (started_at at time zone 'utc')::date as day,
                          coalesce(request->'caller'->>'team', '') as team,
                          coalesce(request->>'model', '') as model, (record->'data'->>'cost_usd')::numeric as usd
                     from gatehouse.calls where call_id >= %s and record->'data' ? 'cost_usd') spent
            group by grouping sets ((day), (team), (model)) order by 5 desc""",
        (first_id(since),),
    ).fetchall()
    return Spend(
        [(day, count, usd) for day, _, _, count, usd in rows if day is not None],
        [SpendTotal(team, count, usd) for _, team, _, count, usd in rows if team is not None][:_MAX_ROWS],
        [SpendTotal(model, count, usd) for _, _, model, count, usd in rows if model is not None][:_MAX_ROWS],
    )


def rule_counts(connection: Connection, since: datetime) -> dict[str, tuple[int, int]]:
    """Return by rule id how many calls the rule decided on, and how many it only observed."""
    rows = connection.execute(
        """select rule, count(*) filter (where kind = 'policies'), count(*) filter (where kind = 'observed')
             from gatehouse.calls c,
                  lateral (select 'policies' as kind, jsonb_array_elements_text(c.decision->'policies') as rule
                           union all
                           select 'observed', jsonb_array_elements_text(c.decision->'observed')) matched
            where c.call_id >= %s and c.decision is not null group by rule order by 2 desc limit 2000""",
        (first_id(since),),
    )
    return {rule: (decided, observed) for rule, decided, observed in rows}


def verdict_counts(connection: Connection, since: datetime) -> dict[str, int]:
    """Return how many calls got each verdict."""
    rows: Sequence[tuple[str, int]] = connection.execute(
        """select coalesce(record->'data'->>'decision', decision->>'verdict', 'none'), count(*)
             from gatehouse.calls where call_id >= %s group by 1 order by 2 desc limit 20""",
        (first_id(since),),
    ).fetchall()
    return dict(rows)


def pending(connection: Connection) -> list[Pending]:
    """Return pending requests, soonest to expire first, without what was asked."""
    rows = connection.execute(
        """select id, approvers, requested_by,
                  array(select v.user_id from gatehouse.approval_votes v where v.approval_id = a.id)
             from gatehouse.approvals a where state = 'requested' and expires_at > clock_timestamp()
            order by expires_at, id limit 5000"""
    )
    return [Pending(*row) for row in rows]


def last_approvals(connection: Connection, key_hashes: Sequence[str | None]) -> dict[str, list[Past]]:
    """Return by key its last six requests for approval and what became of them, newest first."""
    rows = connection.execute(
        """select key_hash, id, model, requested_at,
                  case when state in ('requested', 'approved') and expires_at <= clock_timestamp() then 'expired'
                       else state end
             from (select key_hash, id, model, requested_at, state, expires_at,
                          row_number() over (partition by key_hash order by id desc) as place
                     from gatehouse.approvals where key_hash = any(%s)) a
            where place <= 6 order by id desc""",
        (list({key_hash for key_hash in key_hashes if key_hash}),),
    )
    found: dict[str, list[Past]] = {}
    for key_hash, *past in rows:
        found.setdefault(key_hash, []).append(Past(*past))
    return found


def since_days(now: datetime, days: int) -> datetime:
    """Return the start of the day (UTC) that many days before this day's end."""
    start = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return start - timedelta(days=days - 1)
