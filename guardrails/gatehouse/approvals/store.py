"""The SQL that changes approvals, a function each: every change locks and writes history in one transaction, and those
that somebody waits for tell all gateways. What only reads is in `queries`.

Promises: one open approval for a digest; an approval admits one request. Times are the database's, read after a lock
is held (`clock_timestamp()`), so that nothing is decided or used late because it waited. A connection that opens, votes
or cancels is one task's alone while it does; using one is one statement.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

import psycopg

from gatehouse.approvals import lifecycle, queries
from gatehouse.approvals.audit_entries import Change
from gatehouse.approvals.lifecycle import Event
from gatehouse.approvals.model import Approval, Edit, NewApproval, ReviewCopy, State, Voter, shown
from gatehouse.approvals.notices import tell_decided, tell_edited
from gatehouse.core.clock import new_call_id
from gatehouse.core.errors import AccessDenied, Conflict, GovernanceError, InvalidRequest, NotFound, TooManyOpenRequests
from gatehouse.core.text import clean, storable
from gatehouse.storage.connection import Connection

CHANNEL: Final = "gatehouse_approvals"
"""What is notified with an approval's id whenever it changed."""

_TEXT_CHARS: Final = 2_000


async def open_request(connection: Connection, new: NewApproval, changes: list[Change] | None = None) -> Approval:
    """Ask for approval; return the open approval of the same digest where there is one already.

    Args:
        changes: gets what this changed, which is so once it is committed. The other functions' is the same.

    Raises:
        TooManyOpenRequests: the key that asks has as many open as it may.
    """
    changes = [] if changes is None else changes
    caller = {name: clean(value) for name, value in new.requested_by.items() if value}
    while True:
        async with connection.transaction():
            if new.most_open is not None:
                await _take_turn(connection, new)  # before anything else is locked
            await _expire(connection, new.digest, changes)
            if new.most_open is not None:
                await _check_room(connection, new, new.most_open)
            opened_id = await _insert(connection, new, caller)
            if opened_id is None:
                continue  # the one in the way ended this moment
            if opened_id == new.id:
                await _happened(connection, new.id, "request", State.REQUESTED, caller.get("user"))
            opened = (await _get(connection, opened_id))[0]
            if opened.id == new.id:
                changes.append(Change(opened))
            return opened


async def _insert(connection: Connection, new: NewApproval, caller: Mapping[str, str | None]) -> UUID | None:
    """Write a request down; return its id, or that of the open one by the same digest."""
    cursor = await connection.execute(
        """insert into gatehouse.approvals as a
                   (id, digest, requested_by, route, model, rule_ids, reason, policy_version, summary,
                    approvers, expires_at, copy_epoch, copy_key, copy_request, copy_values)
            values (%s, %s, %s::jsonb, %s, %s, %s, %s, %s, %s::jsonb, %s::jsonb,
                    clock_timestamp() + make_interval(secs => %s), %s, %s, %s, %s)
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
            new.reason and storable(new.reason[:_TEXT_CHARS]),
            new.policy_version,
            json.dumps(shown(new.summary)),
            json.dumps(dict(new.approvers)),
            new.expires_in_s,
            *_row(new.copy),
        ),
    )
    row = await cursor.fetchone()
    return None if row is None else row[0]


async def _take_turn(connection: Connection, new: NewApproval) -> None:
    """Keep the key that asks from opening anything else, through any gateway, until this transaction ends."""
    await connection.execute(
        "select pg_advisory_xact_lock(hashtextextended('gatehouse approvals of ' || %s, 0))",
        (clean(new.requested_by.get("key_hash")) or "",),
    )


async def _check_room(connection: Connection, new: NewApproval, most: int) -> None:
    """See that the key that asks may open one more.

    Raises:
        TooManyOpenRequests: it has as many open as it may, and this is none of them.
    """
    cursor = await connection.execute(
        """select count(*), coalesce(bool_or(asked = %s), false) from gatehouse.approvals
            where key_hash is not distinct from %s and state in ('requested', 'approved')
              and expires_at > clock_timestamp()""",
        (new.digest, clean(new.requested_by.get("key_hash"))),
    )
    row = await cursor.fetchone()
    if row is not None and row[0] >= most and not row[1]:
        raise TooManyOpenRequests(
            f"Your key has {row[0]} requests that wait for approval, or were approved and not sent yet; it may have "
            f"{most}. Send or cancel one, or wait until one is decided, then ask again.",
            policies=new.rule_ids,
        )


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
    """Count a person's vote; return the approval after it.

    Args:
        edit: what they approve instead: another approval takes this one's place, and theirs is its first vote.

    Raises:
        InvalidRequest: the edit is none, or comes with a no.
        NotFound: there is no such approval.
        AccessDenied: this person may not vote on it.
        Conflict: it is decided or over, or they have voted.
    """
    async with connection.transaction():
        approval, now = await _lock(connection, approval_id)
        refused = lifecycle.may_vote(approval, voter, now)
        if refused is not None:
            raise refused.error
        if edit is None:
            voted, made = await _count(connection, approval, voter, approve, comment, now)
            await tell_decided(connection, voted)
        elif approve:
            edited, ended = await _replace(connection, approval, edit, voter, now)
            voted, made = await _count(connection, edited, voter, approve, comment, now)
            made = [ended, Change(edited), *made]
            await tell_edited(connection, approval, voted)
        else:
            raise InvalidRequest("edit: only what is approved can be edited. Leave it out, or approve.")
    if changes is not None:
        changes += made
    # Alone, it writes nothing that a commit has to wait for on the disk while others wait to notify.
    await _tell(connection, voted.id)
    return voted


async def _count(
    connection: Connection, approval: Approval, voter: Voter, approve: bool, comment: str | None, now: datetime
) -> tuple[Approval, list[Change]]:
    """Write a vote on a locked approval; return the approval after it, and the change where that decides it."""
    event = Event.APPROVE if approve else Event.REJECT
    state = lifecycle.transition(approval, event, now)
    user = clean(voter.user_id)
    await connection.execute(
        """insert into gatehouse.approval_votes (approval_id, user_id, role, key_hash, approve, comment, edit)
           values (%s, %s, %s, %s, %s, %s, %s::jsonb)""",
        (
            approval.id,
            user,
            clean(voter.role),
            voter.key_hash,
            approve,
            comment and storable(comment[:_TEXT_CHARS]),
            json.dumps(approval.edit.row) if approve and approval.edit else None,
        ),
    )
    if state is not approval.state:
        await _end(connection, approval.id, state)
    await _write(connection, approval.id, event.value, state, user)
    voted = (await _get(connection, approval.id))[0]
    if state is State.REQUESTED:
        return voted, []
    return voted, [Change(voted, tuple(vote.user_id for vote in voted.votes if vote.approve is approve))]


async def _replace(
    connection: Connection, old: Approval, edit: Edit, voter: Voter, now: datetime
) -> tuple[Approval, Change]:
    """Have another approval take the place of one that is locked; return it, and the end of the old one."""
    new, user = lifecycle.replacement(old, edit, new_call_id()), clean(voter.user_id)
    state = lifecycle.transition(old, Event.EDIT, now)
    copy = await queries.copy_of(connection, old.id)  # erased with what is replaced
    await _end(connection, old.id, state, new.id)
    await connection.execute(
        """insert into gatehouse.approvals
                  (id, digest, edited_from, edit, requested_by, route, model, rule_ids, reason, policy_version, summary,
                   approvers, requested_at, expires_at, copy_epoch, copy_key, copy_request, copy_values)
           select %s, %s, asked, %s::jsonb, requested_by, route, %s, rule_ids, reason, policy_version, %s::jsonb,
                  approvers, requested_at, expires_at, %s, %s, %s, %s
             from gatehouse.approvals where id = %s""",
        (
            new.id,
            new.digest,
            json.dumps(new.edit and new.edit.row),
            new.model,
            json.dumps(dict(new.summary)),
            *_row(copy),
            old.id,
        ),
    )
    await _happened(connection, old.id, Event.EDIT.value, state, user)
    await _happened(connection, new.id, Event.EDIT.value, State.REQUESTED, user)
    ended = Change((await _get(connection, old.id))[0], (user or "",))
    return (await _get(connection, new.id))[0], ended


async def _end(connection: Connection, approval_id: UUID, state: State, replaced_by: UUID | None = None) -> None:
    await connection.execute(
        "update gatehouse.approvals set state = %s, decided_at = clock_timestamp(), replaced_by = %s where id = %s",
        (state.value, replaced_by, approval_id),
    )


def _row(copy: ReviewCopy | None) -> tuple[str | None, bytes | None, bytes | None, bytes | None]:
    return (None, None, None, None) if copy is None else (copy.epoch, copy.key, copy.request, copy.values)


async def cancel(connection: Connection, approval_id: UUID, by: Voter, changes: list[Change] | None = None) -> Approval:
    """Take an open approval back; return the approval after it.

    Raises:
        NotFound: there is no such approval.
        AccessDenied: it is neither theirs nor are they an administrator.
        Conflict: it is over already.
    """
    async with connection.transaction():
        approval, now = await _lock(connection, approval_id)
        if not lifecycle.may_cancel(approval, by):
            raise AccessDenied("Only whoever asked, or an administrator, may cancel an approval. Ask one of them.")
        state = lifecycle.transition(approval, Event.CANCEL, now)
        if state is approval.state:
            raise Conflict(f"The approval is {state.value} already. Nothing is left to cancel.")
        await _end(connection, approval_id, state)
        user = clean(by.user_id)
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
    """Cancel this caller's own pending request for exactly this, because the client left; say whether there was one."""
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
    """Write down which open approvals are expired; return how many. What is locked is left for the next time."""
    async with connection.transaction():
        return await _expire(connection, None, [] if changes is None else changes)


async def consume(
    connection: Connection, approval_id: UUID, digest: str, caller: Mapping[str, str | None]
) -> Approval | None:
    """Use an approval for the one request that it admits; return None when it does not admit it now (`why_not`).

    No call waits for that, so it notifies no gateway: transactions that notify commit one after the other.
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
    """Undo `consume` for a call that will never be sent; say whether the approval can be used again.

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
    """Return why `consume` did not let this request through, as the caller reads it."""
    approval, now = await queries.latest(connection, approval_id) or (None, datetime.max)
    return lifecycle.why_not(approval, digest, caller.get("key_hash"), now)


async def _lock(connection: Connection, approval_id: UUID) -> tuple[Approval, datetime]:
    """Lock an approval, then read it, so that the caller sees what others did before."""
    await connection.execute("select from gatehouse.approvals where id = %s for update", (approval_id,))
    return await _get(connection, approval_id)


async def _get(connection: Connection, approval_id: UUID) -> tuple[Approval, datetime]:
    found = await queries.get_many(connection, [approval_id])
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
        changes += [Change(approval) for approval, _ in await queries.get_many(connection, undecided, summaries=False)]
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
