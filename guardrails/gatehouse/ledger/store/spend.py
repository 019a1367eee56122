"""The SQL that compares LiteLLM's tables of money with the ledger, and repairs them.

A payer's spend is changed in the transaction that settles a call, so it differs only where somebody else wrote it. The
logs and the daily tables are written by LiteLLM from memory: a gateway that dies takes along what it has not written.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from psycopg import sql

from gatehouse.storage.connection import Connection

# LiteLLM writes each 5 seconds as shipped. What it may still be writing is compared the next time.
_WRITTEN_AFTER_S: Final = 60.0
# Less than this is the rounding of LiteLLM's floating-point numbers.
_ROUNDING_USD: Final = 1e-9
# Any number that no other program on this database uses; in ASCII it spells "cent".
_LOCK: Final = 0x63656E74


@dataclass(frozen=True, slots=True)
class Difference:
    """What a table of LiteLLM's says of one payer, call or day, and what the ledger says, in US dollars."""

    table: str
    what: str
    litellm_usd: float
    ledger_usd: float

    @property
    def usd(self) -> float:
        """Return how far they are apart."""
        return abs(self.ledger_usd - self.litellm_usd)


@asynccontextmanager
async def turn(connection: Connection) -> AsyncIterator[bool]:
    """Take the turn of the one who reconciles; False where another has it."""
    cursor = await connection.execute("select pg_try_advisory_lock(%s)", (_LOCK,))
    row = await cursor.fetchone()
    mine = row is not None and bool(row[0])
    try:
        yield mine
    finally:
        if mine:
            await connection.execute("select pg_advisory_unlock(%s)", (_LOCK,))


async def payers(connection: Connection, *, repair: bool, only_raise: bool) -> list[Difference]:
    """Compare the spend of keys, users, teams, members, organizations, tags, end users and projects.

    Args:
        only_raise: leave alone what is above the ledger's, because calls that are not governed cost something too.
    """
    cursor = await connection.execute(
        """select b.kind, b.id, b.of, l.spend::float8, b.settled::float8
             from gatehouse.budgets b, lateral gatehouse.litellm_budget(b.kind, b.id, b.of) l
            where abs(l.spend - b.settled) > %s and l.reset_at is not distinct from b.reset_at
              and not (%s and l.spend > b.settled) order by 1, 2, 3""",
        (_ROUNDING_USD, only_raise),
    )
    found = await cursor.fetchall()
    if repair:
        for kind, name, of, _, _ in found:
            await connection.execute("select gatehouse.repair_spend(%s, %s, %s, %s)", (kind, name, of, only_raise))
    return [Difference(kind, name, litellm, ledger) for kind, name, _, litellm, ledger in found]


_HELD: Final = """select b.kind, b.id, b.of, b.reserved::float8, o.usd::float8
  from gatehouse.budgets b,
       lateral (select coalesce(sum(c.reserved), 0) usd from gatehouse.calls c
                 where c.settled_at is null
                   and c.held @> jsonb_build_array(jsonb_build_array(b.kind, b.id, b.of))) o
 where b.reserved <> 0 and b.reserved <> o.usd order by 1, 2, 3"""


async def reservations(connection: Connection, *, repair: bool) -> list[Difference]:
    """Compare what budgets hold with the calls under way for which they hold it."""
    async with connection.transaction():
        if repair:  # so that no intent and no settlement changes them meanwhile
            await connection.execute(
                "select from gatehouse.budgets where reserved <> 0 order by kind, id, of for update"
            )
        found = await (await connection.execute(_HELD)).fetchall()
        for kind, name, of, _, usd in found if repair else ():
            await connection.execute(
                "update gatehouse.budgets set reserved = %s where kind = %s and id = %s and of = %s",
                (usd, kind, name, of),
            )
    return [Difference(f"reserved: {kind}", name, held, usd) for kind, name, _, held, usd in found]


# Library mode is left out: its callers report costs, of which payers are charged no more than the estimate.
_ENDED: Final = sql.SQL("""
with ended as (
    select c.call_id::text as id, c.started_at at time zone 'utc' as began, c.settled_at at time zone 'utc' as ended,
           c.request, c.record->'data' as data, (c.record->'data'->>'cost_usd')::float8 as usd,
           coalesce(c.payers, '[]') as payers
      from gatehouse.calls c
     where c.call_id >= %(first)s and c.settled_at < now() - %(written)s * interval '1 second'
       and c.expires_at is null and (c.record->'data'->>'cost_usd')::float8 > 0)
""")

_UNLOGGED: Final = _ENDED + sql.SQL(""",
missing as (
    select e.*, l.usd as logged from ended e,
           lateral (select coalesce(sum(s.spend), 0) as usd from public."LiteLLM_SpendLogs" s
                     where s.litellm_call_id in (e.id, e.id || '-unanswered')) l
     where e.usd - l.usd > %(rounding)s)
""")

_LOG: Final = _UNLOGGED + sql.SQL("""
insert into public."LiteLLM_SpendLogs" as s
       (request_id, call_type, api_key, spend, total_tokens, prompt_tokens, completion_tokens, "startTime", "endTime",
        model, model_group, custom_llm_provider, "user", team_id, organization_id, end_user, request_tags, status,
        litellm_call_id)
select id || '-ledger', coalesce(request->>'call_type', ''), coalesce(request->'caller'->>'key_hash', ''), usd - logged,
       coalesce((data->'usage'->>'total_tokens')::int, 0), coalesce((data->'usage'->>'prompt_tokens')::int, 0),
       coalesce((data->'usage'->>'completion_tokens')::int, 0), began, ended, coalesce(data->>'answered_by', ''),
       coalesce(request->>'model', ''), coalesce(data->>'provider', ''), coalesce(request->'caller'->>'user', ''),
       (select p->>1 from jsonb_array_elements(payers) p where p->>0 = 'team' limit 1), request->'caller'->>'org',
       request->'caller'->>'end_user',
       (select coalesce(jsonb_agg(p->>1), '[]') from jsonb_array_elements(payers) p where p->>0 = 'tag'),
       case when data->>'status' = 'success' then 'success' else 'failure' end, id
  from missing
    on conflict (request_id) do update set spend = s.spend + excluded.spend
""")


async def logs(connection: Connection, first: UUID, *, repair: bool) -> list[Difference]:
    """Compare LiteLLM's log of each call with its record, and add what is missing, in a row of its own.

    Args:
        first: the smallest id of a call that is looked at.
    """
    values = {"first": first, "written": _WRITTEN_AFTER_S, "rounding": _ROUNDING_USD}
    cursor = await connection.execute(_UNLOGGED + sql.SQL("select id, logged, usd from missing order by id"), values)
    found = [Difference("spend logs", *row) for row in await cursor.fetchall()]
    if repair and found:
        await connection.execute(_LOG, values)
    return found


# LiteLLM's daily tables: the column of the payer, and who that is.
_DAILY: Final = (
    ("LiteLLM_DailyUserSpend", "user_id", "user"),
    ("LiteLLM_DailyTeamSpend", "team_id", "team"),
    ("LiteLLM_DailyOrganizationSpend", "organization_id", "organization"),
    ("LiteLLM_DailyEndUserSpend", "end_user_id", "end_user"),
    ("LiteLLM_DailyTagSpend", "tag", "tag"),
)

_DAYS: Final = """,
said as (
    select p->>1 as payer, began::date::text as date, coalesce(request->'caller'->>'key_hash', '') as api_key,
           sum(usd) as usd
      from ended, lateral jsonb_array_elements(payers) p
     where p->>0 = %(kind)s and p->>1 <> 'litellm-proxy-budget' group by 1, 2, 3),
missing as (
    select said.*, coalesce(l.usd, 0) as logged from said,
           lateral (select sum(d.spend) as usd from public.{table} d
                     where d.{column} = said.payer and d.date = said.date and d.api_key = said.api_key) l
     where said.usd - coalesce(l.usd, 0) > %(rounding)s)
"""

_ADD_DAY: Final = """
insert into public.{table} as d ({column}, id, date, api_key, model, custom_llm_provider, mcp_namespaced_tool_name,
                                 endpoint, spend, updated_at)
select payer, gen_random_uuid()::text, date, api_key, '', '', '', '', usd - logged, now() at time zone 'utc'
  from missing
    on conflict ({column}, date, api_key, model, custom_llm_provider, mcp_namespaced_tool_name, endpoint)
    do update set spend = d.spend + excluded.spend
"""


async def days(connection: Connection, first: UUID, *, repair: bool) -> list[Difference]:
    """Compare LiteLLM's daily tables with the records of whole days, and add what is missing.

    Args:
        first: the smallest id of a call of the first day.
    """
    found: list[Difference] = []
    for table, column, kind in _DAILY:
        values = {"first": first, "written": _WRITTEN_AFTER_S, "rounding": _ROUNDING_USD, "kind": kind}
        names = {"table": sql.Identifier(table), "column": sql.Identifier(column)}
        missing = _ENDED + sql.SQL(_DAYS).format(**names)
        cursor = await connection.execute(
            missing + sql.SQL("select date || ' ' || payer, logged, usd from missing order by 1"), values
        )
        differing = [Difference(f"daily: {kind}", *row) for row in await cursor.fetchall()]
        if repair and differing:
            await connection.execute(missing + sql.SQL(_ADD_DAY).format(**names), values)
        found += differing
    return found
