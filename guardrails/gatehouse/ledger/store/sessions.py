"""The SQL of sessions: which there were, and which are stopped. A session belongs to the key that named it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg
from psycopg.rows import class_row

from gatehouse.ledger.store.capsules import reachable
from gatehouse.storage.connection import Connection

_SESSIONS: Final = """
with seen as (
    select coalesce(request->'caller'->>'key_hash', '') as key_hash, request->'agent'->>'session' as session,
           max(request->'caller'->>'key_alias') as key_alias, max(request->'agent'->>'id') as agent,
           min(started_at) as first_at, max(started_at) as last_at, count(*) as calls,
           count(*) filter (where settled_at is null) as running,
           sum((record->'data'->>'cost_usd')::float8) as cost_usd
      from gatehouse.calls
     where request->'agent'->>'session' is not null
       and (%(names)s::text[] is null or request->'agent'->>'session' = any(%(names)s))
       and (%(within)s::interval is null or started_at > now() - %(within)s)
     group by 1, 2)
select coalesce(seen.key_hash, stopped.key_hash) as key_hash, coalesce(seen.session, stopped.session) as session,
       key_alias, agent, first_at, last_at, coalesce(calls, 0) as calls, coalesce(running, 0) as running, cost_usd,
       stopped_at
  from seen full join gatehouse.stopped_sessions stopped using (key_hash, session)
 where %(names)s::text[] is null or coalesce(seen.session, stopped.session) = any(%(names)s)
 order by last_at desc nulls last, 1, 2"""


@dataclass(frozen=True, slots=True)
class Session:
    """Describe one session of one key, as its calls tell.

    Attributes:
        session: the name as records show it.
        cost_usd: of the calls that ended, in US dollars; None where none of them has a cost.
        stopped_at: None where it is not stopped.
    """

    key_hash: str
    session: str
    key_alias: str | None
    agent: str | None
    first_at: datetime | None
    last_at: datetime | None
    calls: int
    running: int
    cost_usd: float | None
    stopped_at: datetime | None


def sessions(database_url: str, names: Sequence[str] | None = None, within: timedelta | None = None) -> list[Session]:
    """Return sessions with calls in the time given, and all that are stopped; the newest first.

    Args:
        names: only sessions of these names.

    Raises:
        SetupError: the database is not there, or this role may not read it.
    """
    with _connected(database_url) as connection, connection.cursor(row_factory=class_row(Session)) as cursor:
        given = {"names": None if names is None else list(names), "within": within}
        return cursor.execute(_SESSIONS, given).fetchall()


def stop(database_url: str, session: Session) -> None:
    """Stop a session; one that is stopped stays so.

    Raises:
        SetupError: as `sessions`.
    """
    with _connected(database_url) as connection:
        connection.execute(
            "insert into gatehouse.stopped_sessions (key_hash, session) values (%s, %s) on conflict do nothing",
            (session.key_hash, session.session),
        )


def resume(database_url: str, session: Session) -> None:
    """Let a session go on.

    Raises:
        SetupError: as `sessions`.
    """
    with _connected(database_url) as connection:
        connection.execute(
            "delete from gatehouse.stopped_sessions where key_hash = %s and session = %s",
            (session.key_hash, session.session),
        )


async def stopped(connection: Connection) -> frozenset[tuple[str, str]]:
    """Return the key's hash and the name of every session that is stopped."""
    cursor = await connection.execute("select key_hash, session from gatehouse.stopped_sessions")
    return frozenset((key, name) for key, name in await cursor.fetchall())


@contextmanager
def _connected(database_url: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with reachable(), psycopg.connect(database_url, connect_timeout=5, application_name="gatehouse sessions") as found:
        yield found
