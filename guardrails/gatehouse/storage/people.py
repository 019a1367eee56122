"""Reads from LiteLLM's tables what they hold about a person, and reads the database's clock; it never writes."""

from __future__ import annotations

from datetime import datetime

from gatehouse.storage.connection import Connection


async def teams_of(connection: Connection, user_id: str | None, team_id: str | None) -> frozenset[str]:
    """Return the ids and aliases of a person's teams.

    Args:
        team_id: the team of the key that the person uses, if it belongs to one.
    """
    cursor = await connection.execute(
        """select t.team_id, t.team_alias from "LiteLLM_TeamTable" t
            where t.team_id = %s
               or t.team_id in (select unnest(u.teams) from "LiteLLM_UserTable" u where u.user_id = %s)""",
        (team_id, user_id),
    )
    return frozenset(name for row in await cursor.fetchall() for name in row if name)


async def maker_of(connection: Connection, key_hash: str | None) -> str | None:
    """Return who made a key that belongs to no user; None for other keys, and where LiteLLM's tables do not tell."""
    cursor = await connection.execute(
        """select created_by from "LiteLLM_VerificationToken" where token = %s and coalesce(user_id, '') = ''""",
        (key_hash,),
    )
    row = await cursor.fetchone()
    return row[0] or None if row else None


async def now(connection: Connection) -> datetime:
    """Return the database's time, by which approvals expire."""
    row = await (await connection.execute("select clock_timestamp()")).fetchone()
    assert row is not None
    at: datetime = row[0]
    return at
