"""The SQL that reads approvals, a function each: nothing is locked and nothing changes.

Times are the database's; an approval whose time is over is read as expired before anybody has written that down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from gatehouse.approvals.model import Approval, Edit, ReviewCopy, State, Vote
from gatehouse.storage.connection import Connection


@dataclass(frozen=True, slots=True)
class Happening:
    """A line of an approval's history: the event, the state after it, and whose doing it was."""

    at: datetime
    event: str
    state: State
    user_id: str | None


async def get(connection: Connection, approval_id: UUID) -> Approval | None:
    """Return the approval by that id."""
    found = await get_many(connection, [approval_id])
    return found[0][0] if found else None


async def latest(connection: Connection, approval_id: UUID) -> tuple[Approval, datetime] | None:
    """Return the approval by that id, or the one that edits made of it, with the time at which it was so."""
    while True:
        found = await get_many(connection, [approval_id])
        if not found or (following := found[0][0].replaced_by) is None:
            return found[0] if found else None
        approval_id = following


async def get_many(
    connection: Connection, approval_ids: Sequence[UUID], *, summaries: bool = True
) -> list[tuple[Approval, datetime]]:
    """Return the approvals by these ids, each with the time at which it was so.

    Args:
        summaries: False leaves them empty: they are most of what there is to read.
    """
    cursor = await connection.execute(
        """select id, digest, state, requested_by, requester_user, route, model, rule_ids, reason, policy_version,
                  approvers, requested_at, expires_at, votes, decided_at, consumed_at, replaced_by,
                  case when %s then summary else '{}' end, edited_from, edit, seen_at
             from gatehouse.approvals_seen where id = any(%s)""",
        (summaries, list(approval_ids)),
    )
    return [_read(row) for row in await cursor.fetchall()]


async def copy_of(connection: Connection, approval_id: UUID) -> ReviewCopy | None:
    """Return the reviewer's copy of an approval's request; None where it is erased, or was never made."""
    cursor = await connection.execute(
        """select copy_epoch, copy_key, copy_request, copy_values from gatehouse.approvals
            where id = %s and copy_key is not null""",
        (approval_id,),
    )
    row = await cursor.fetchone()
    return None if row is None else ReviewCopy(*row)


async def list_(
    connection: Connection, state: State | None = None, limit: int = 50, before: UUID | None = None
) -> list[Approval]:
    """Return approvals, newest first.

    Args:
        state: only those in it.
        before: only those older than this one: the last one of the page before.
    """
    kept_as = [str(state), *(("requested", "approved") if state is State.EXPIRED else ())]
    cursor = await connection.execute(
        """select id from gatehouse.approvals_seen
            where (%(state)s::text is null or kept_as = any(%(kept_as)s) and state = %(state)s)
              and (%(before)s::uuid is null or id < %(before)s)
            order by id desc limit %(limit)s""",
        {"state": state and state.value, "kept_as": kept_as, "before": before, "limit": limit},
    )
    found = await get_many(connection, [row[0] for row in await cursor.fetchall()])
    return sorted((approval for approval, _ in found), key=lambda approval: approval.id, reverse=True)


async def history(connection: Connection, approval_id: UUID) -> list[Happening]:
    """Return what happened to an approval, in order."""
    cursor = await connection.execute(
        "select at, event, state, user_id from gatehouse.approval_history where approval_id = %s order by id",
        (approval_id,),
    )
    return [Happening(at, event, State(state), user_id) for at, event, state, user_id in await cursor.fetchall()]


def _read(row: tuple[Any, ...]) -> tuple[Approval, datetime]:
    """Read a row of `get_many`, and the database's time."""
    return (
        Approval(
            id=row[0],
            digest=row[1],
            state=State(row[2]),
            requested_by=row[3],
            requester_user=row[4],
            route=row[5],
            model=row[6],
            rule_ids=tuple(row[7]),
            reason=row[8],
            policy_version=row[9],
            approvers=row[10],
            requested_at=row[11],
            expires_at=row[12],
            votes=tuple(_vote(each) for each in row[13]),
            decided_at=row[14],
            consumed_at=row[15],
            replaced_by=row[16],
            summary=row[17],
            edited_from=row[18],
            edit=None if row[19] is None else Edit(**row[19]),
        ),
        row[20],
    )


def _vote(row: Mapping[str, Any]) -> Vote:
    return Vote(
        row["user_id"], row["role"], row["approve"], row["comment"], datetime.fromisoformat(row["at"]), row["edit"]
    )
