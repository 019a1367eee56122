"""The SQL of approvals, a function each: every change locks and writes history in one transaction, and those that
somebody waits for tell all gateways.

Promises: one open approval for a digest; an approval admits one request. Times are the database's, read after a lock
is held (`clock_timestamp()`), so that nothing is decided or used late because it waited. A connection that opens, votes
or cancels is one task's alone while it does; reading and using are one statement each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import psycopg

from gatehouse.approvals import life
from gatehouse.approvals.binding import edited_digest
from gatehouse.approvals.journal import Change
from gatehouse.approvals.life import Event
from gatehouse.approvals.telling import tell_decided, tell_edited
from gatehouse.approvals.values import Approval, Edit, NewApproval, State, Vote, Voter, printable, shown
from gatehouse.audit.record import clean
from gatehouse.clock import new_call_id
from gatehouse.db.calls import Connection
from gatehouse.errors import AccessDenied, Conflict, GovernanceError, InvalidRequest, NotFound

CHANNEL: Final = "gatehouse_approvals"
"""What is notified with an approval's id whenever it changed."""

_TEXT_CHARS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Happening:
    """A line of an approval's history: the event, the state after it, and whose doing it was."""

    at: datetime
    event: str
    state: State
    user_id: str | None


async def open_request(connection: Connection, new: NewApproval, changes: list[Change] | None = None) -> Approval:
    """Ask for approval; where one that was asked for by the same digest is open already, that one is the answer.

    Args:
        changes: gets what this changed, which is so once it is committed. The other functions' is the same.
    """
    changes = [] if changes is None else changes
    summary, caller = shown(new.summary), {name: clean(value) for name, value in new.requested_by.items() if value}
    while True:
        async with connection.transaction():
            await _expire(connection, new.digest, changes)
            cursor = await connection.execute(
                """insert into gatehouse.approvals as a
                           (id, digest, requested_by, route, model, rule_ids, reason, policy_version, summary,
                            approvers, expires_at)
                    values (%s, %s, %s::jsonb, %s, %s, %s, %s, %s, %s::jsonb, %s::jsonb,
                            clock_timestamp() + make_interval(secs => %s))
                    on conflict (asked) where state in ('requested', 'approved')
                    do update set digest = a.digest where a.expires_at > clock_timestamp()
                    returning a.id""",
                (
                    new.id,
                    new.digest,
                    json.dumps(caller),
                    clean(new.route),
                    clean(new.model),
                    list(new.rule_ids),
                    new.reason and printable(new.reason[:_TEXT_CHARS]),
                    new.policy_version,
                    json.dumps(summary),
                    json.dumps(dict(new.approvers)),
                    new.expires_in_s,
                ),
            )
            row = await cursor.fetchone()
            if row is None:
                continue  # the one in the way ended this moment
            if row[0] == new.id:
                await _happened(connection, new.id, "request", State.REQUESTED, caller.get("user"))
            opened = (await _get(connection, row[0]))[0]
            if opened.id == new.id:
                changes.append(Change(opened))
            return opened


async def get(connection: Connection, approval_id: UUID) -> Approval | None:
    """The approval by that id."""
    found = await get_many(connection, [approval_id])
    return found[0][0] if found else None


async def latest(connection: Connection, approval_id: UUID) -> tuple[Approval, datetime] | None:
    """The approval by that id, or the one that approvers' edits made of it; with the time at which it was so."""
    while True:
        found = await get_many(connection, [approval_id])
        if not found or (following := found[0][0].replaced_by) is None:
            return found[0] if found else None
        approval_id = following


async def get_many(
    connection: Connection, approval_ids: Sequence[UUID], *, summaries: bool = True
) -> list[tuple[Approval, datetime]]:
    """The approvals by these ids that there are, each with the time at which it was so.

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


async def list_(
    connection: Connection, state: State | None = None, limit: int = 50, before: UUID | None = None
) -> list[Approval]:
    """Approvals, newest first.

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
    """What happened to an approval, in order."""
    cursor = await connection.execute(
        "select at, event, state, user_id from gatehouse.approval_history where approval_id = %s order by id",
        (approval_id,),
    )
    return [Happening(at, event, State(state), user_id) for at, event, state, user_id in await cursor.fetchall()]


async def vote(
    connection: Connection,
    approval_id: UUID,
    voter: Voter,
    *,
    approve: bool,
    comment: str | None = None,
    edit: Edit | None = None,
    changes: list[Change] | None = None,
) -> Approval:
    """Count a person's vote; the approval after it.

    Args:
        edit: what they approve instead: another approval takes this one's place, and theirs is its first vote.

    Raises:
        InvalidRequest: the edit is none, or comes with a no.
        NotFound: there is no such approval.
        AccessDenied: this person may not vote on it.
        Conflict: it is decided or over, or they have voted.
    """
    changes = [] if changes is None else changes
    async with connection.transaction():
        approval, now = await _lock(connection, approval_id)
        refused = life.may_vote(approval, voter, now)
        if refused is not None:
            raise refused.error
        replaced = approval if edit is not None else None
        if edit is not None:
            if not approve:
                raise InvalidRequest("edit: only what is approved can be edited. Leave it out, or approve.")
            approval = await _replace(connection, approval, edit, voter, now)
            approval_id = approval.id
        event = Event.APPROVE if approve else Event.REJECT
        state = life.transition(approval, event, now)
        user = clean(voter.user_id)
        await connection.execute(
            """insert into gatehouse.approval_votes (approval_id, user_id, role, key_hash, approve, comment, edit)
               values (%s, %s, %s, %s, %s, %s, %s::jsonb)""",
            (
                approval_id,
                user,
                clean(voter.role),
                voter.key_hash,
                approve,
                comment and printable(comment[:_TEXT_CHARS]),
                json.dumps(approval.edit.row) if approve and approval.edit else None,
            ),
        )
        if state is not approval.state:
            await connection.execute(
                "update gatehouse.approvals set state = %s, decided_at = clock_timestamp() where id = %s",
                (state.value, approval_id),
            )
        await _write(connection, approval_id, event.value, state, user)
        voted = (await _get(connection, approval_id))[0]
        if replaced is not None:
            changes += [Change((await _get(connection, replaced.id))[0], (user or "",)), Change(approval)]
        if state is not State.REQUESTED:
            changes.append(Change(voted, _who_said(voted, approve)))
        if replaced is not None:
            await tell_edited(connection, replaced, voted)
        else:
            await tell_decided(connection, voted)
    # Alone, it writes nothing that a commit has to wait for on the disk while others wait to notify.
    await _tell(connection, approval_id)
    return voted


def _who_said(voted: Approval, approve: bool) -> tuple[str, ...]:
    return tuple(vote.user_id for vote in voted.votes if vote.approve is approve)


async def _replace(connection: Connection, old: Approval, edit: Edit, voter: Voter, now: datetime) -> Approval:
    """Have another approval take the place of one that is locked: of the request as edited, which nobody voted on."""
    new_id, user, whole = new_call_id(), clean(voter.user_id), life.edited(old, edit)
    state = life.transition(old, Event.EDIT, now)
    await connection.execute(
        "update gatehouse.approvals set state = %s, decided_at = clock_timestamp(), replaced_by = %s where id = %s",
        (state.value, new_id, old.id),
    )
    await connection.execute(
        """insert into gatehouse.approvals
                  (id, digest, edited_from, edit, requested_by, route, model, rule_ids, reason, policy_version, summary,
                   approvers, requested_at, expires_at)
           select %s, %s, asked, %s::jsonb, requested_by, route, %s, rule_ids, reason, policy_version, %s::jsonb,
                  approvers, requested_at, expires_at
             from gatehouse.approvals where id = %s""",
        (
            new_id,
            edited_digest(old.asked, whole),
            json.dumps(whole.row),
            whole.model or old.model,
            json.dumps(life.summary_edited(old, whole)),
            old.id,
        ),
    )
    await _happened(connection, old.id, Event.EDIT.value, state, user)
    await _happened(connection, new_id, Event.EDIT.value, State.REQUESTED, user)
    return (await _get(connection, new_id))[0]


async def cancel(
    connection: Connection, approval_id: UUID, by: Voter | None = None, changes: list[Change] | None = None
) -> Approval:
    """Take an open approval back; the approval after it.

    Args:
        by: who wants it; None when the gateway itself does.

    Raises:
        NotFound: there is no such approval.
        AccessDenied: it is neither theirs nor are they an administrator.
        Conflict: it is over already.
    """
    async with connection.transaction():
        approval, now = await _lock(connection, approval_id)
        if by is not None and not life.may_cancel(approval, by):
            raise AccessDenied("Only whoever asked, or an administrator, may cancel an approval. Ask one of them.")
        state = life.transition(approval, Event.CANCEL, now)
        if state is approval.state:
            raise Conflict(f"The approval is {state.value} already. Nothing is left to cancel.")
        await connection.execute(
            "update gatehouse.approvals set state = %s, decided_at = clock_timestamp() where id = %s",
            (state.value, approval_id),
        )
        user = clean(by.user_id) if by else None
        await _happened(connection, approval_id, Event.CANCEL.value, state, user)
        over = (await _get(connection, approval_id))[0]
        if changes is not None and approval.state is State.REQUESTED:
            changes.append(Change(over, (user,) if user else ()))
        return over


async def abandon(
    connection: Connection,
    approval_id: UUID,
    digest: str,
    caller: Mapping[str, str | None],
    changes: list[Change] | None = None,
) -> bool:
    """Cancel this caller's own undecided request for exactly this, because the client has left; whether it was one."""
    cursor = await connection.execute(
        """with left_by as (
               update gatehouse.approvals set state = 'cancelled', decided_at = clock_timestamp()
                where id = %s and asked = %s and key_hash is not distinct from %s
                  and state = 'requested' and expires_at > clock_timestamp()
               returning id, requester_user),
             told as (
               insert into gatehouse.approval_history (approval_id, event, state, user_id)
               select id, 'cancel', 'cancelled', requester_user from left_by)
           select pg_notify(%s, id::text) from left_by""",
        (approval_id, digest, caller.get("key_hash"), CHANNEL),
    )
    left = await cursor.fetchone() is not None
    if left and changes is not None:
        over = (await _get(connection, approval_id))[0]
        changes.append(Change(over, (over.requester_user,) if over.requester_user else ()))
    return left


async def expire_due(connection: Connection, changes: list[Change] | None = None) -> int:
    """Write down that the time of open approvals is over; how many. What is locked is left for the next time."""
    async with connection.transaction():
        return await _expire(connection, None, [] if changes is None else changes)


async def consume(
    connection: Connection, approval_id: UUID, digest: str, caller: Mapping[str, str | None]
) -> Approval | None:
    """Use an approval for the one request that it admits; None when it does not admit this one now: see `why_not`.

    Nobody waits for that, so nobody is told: transactions that notify commit one after the other.
    """
    cursor = await connection.execute(
        """with used as (
               update gatehouse.approvals set state = 'consumed', consumed_at = clock_timestamp()
                where id = %s and digest = %s and key_hash is not distinct from %s
                  and state = 'approved' and expires_at > clock_timestamp()
               returning id, requester_user),
             told as (
               insert into gatehouse.approval_history (approval_id, event, state, user_id)
               select id, 'consume', 'consumed', requester_user from used)
           select id from used""",
        (approval_id, digest, caller.get("key_hash")),
        prepare=True,
    )
    return None if await cursor.fetchone() is None else (await _get(connection, approval_id))[0]


async def give_back(connection: Connection, approval_id: UUID) -> bool:
    """Undo `consume` for a call that was not sent, and never will be; whether the approval can be used again.

    It cannot where its time is over, or the same was asked for anew meanwhile.
    """
    try:
        cursor = await connection.execute(
            """with returned as (
                   update gatehouse.approvals set state = 'approved', consumed_at = null
                    where id = %s and state = 'consumed' and expires_at > clock_timestamp()
                   returning id, requester_user),
                 told as (
                   insert into gatehouse.approval_history (approval_id, event, state, user_id)
                   select id, 'return', 'approved', requester_user from returned)
               select pg_notify(%s, id::text) from returned""",
            (approval_id, CHANNEL),
        )
    except psycopg.errors.UniqueViolation:
        return False
    return await cursor.fetchone() is not None


async def why_not(
    connection: Connection, approval_id: UUID, digest: str, caller: Mapping[str, str | None]
) -> GovernanceError:
    """Why `consume` did not let this request through, as the caller is told."""
    approval, now = await latest(connection, approval_id) or (None, datetime.max)
    return life.why_not(approval, digest, caller.get("key_hash"), now)


async def _lock(connection: Connection, approval_id: UUID) -> tuple[Approval, datetime]:
    """Keep an approval from everybody else, then read it: what they did before is seen."""
    await connection.execute("select from gatehouse.approvals where id = %s for update", (approval_id,))
    return await _get(connection, approval_id)


async def _get(connection: Connection, approval_id: UUID) -> tuple[Approval, datetime]:
    found = await get_many(connection, [approval_id])
    if not found:
        raise NotFound("There is no approval by that id. Look at the list of approvals.")
    return found[0]


async def _expire(connection: Connection, digest: str | None, changes: list[Change]) -> int:
    cursor = await connection.execute(
        """with due as (
               select id, state from gatehouse.approvals
                where (%s::text is null or asked = %s) and state in ('requested', 'approved')
                  and expires_at <= statement_timestamp()
                limit 1000 for update skip locked),
             over as (
               update gatehouse.approvals a set state = 'expired' from due where a.id = due.id
               returning a.id, due.state as was),
             told as (
               insert into gatehouse.approval_history (approval_id, event, state)
               select id, 'expire', 'expired' from over)
           select id, was, pg_notify(%s, id::text) from over""",
        (digest, digest, CHANNEL),
    )
    rows = await cursor.fetchall()
    undecided = [row[0] for row in rows if row[1] == State.REQUESTED.value]
    if undecided:
        changes += [Change(approval) for approval, _ in await get_many(connection, undecided, summaries=False)]
    return len(rows)


async def _happened(connection: Connection, approval_id: UUID, event: str, state: State, user_id: str | None) -> None:
    await _write(connection, approval_id, event, state, user_id)
    await _tell(connection, approval_id)


async def _write(connection: Connection, approval_id: UUID, event: str, state: State, user_id: str | None) -> None:
    await connection.execute(
        "insert into gatehouse.approval_history (approval_id, event, state, user_id) values (%s, %s, %s, %s)",
        (approval_id, event, state.value, user_id),
    )


async def _tell(connection: Connection, approval_id: UUID) -> None:
    await connection.execute("select pg_notify(%s, %s)", (CHANNEL, str(approval_id)))


def _read(row: tuple[Any, ...]) -> tuple[Approval, datetime]:
    """A row of `get_many`, and the database's time."""
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
