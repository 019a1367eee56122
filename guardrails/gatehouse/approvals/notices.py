"""Notices to people about approvals: an event for the outbox, in the transaction that makes it true."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gatehouse.approvals.model import Approval, State
from gatehouse.notifications.messages import Notice
from gatehouse.notifications.outbox import enqueue, told_of
from gatehouse.storage.connection import Connection


async def tell_requested(connection: Connection, approval: Approval, addresses: Iterable[str]) -> None:
    """Tell these addresses that a request waits for a decision; once, however often the caller asks."""
    event = Notice(_requested(approval), "approval_requested", approval.id, approval.requested_at, _summary(approval))
    await enqueue(connection, event, addresses)


async def tell_edited(connection: Connection, before: Approval, after: Approval) -> None:
    """Tell whoever heard of a request what was decided on its edit, or that the edit waits for others."""
    addresses = await told_of(connection, _requested(before))
    if after.state is not State.REQUESTED:
        await tell_decided(connection, after, addresses)
    elif addresses:
        await tell_requested(connection, after, addresses)


async def tell_decided(connection: Connection, approval: Approval, told: Iterable[str] = ()) -> None:
    """Tell whoever heard of the request what was decided; nothing where more people must say yes.

    Args:
        told: the addresses that heard of it before it was edited.
    """
    if approval.state not in (State.APPROVED, State.REJECTED) or approval.decided_at is None:
        return
    addresses = [*told, *await told_of(connection, _requested(approval))]
    if not addresses:
        return
    decided = {
        "decision": approval.state.value,
        "decided_by": ", ".join(
            vote.user_id for vote in approval.votes if vote.approve == (approval.state is State.APPROVED)
        ),
    }
    event = Notice(
        f"{approval.id}-decided",
        "approval_decided",
        approval.id,
        approval.decided_at,
        _summary(approval) | decided,
    )
    await enqueue(connection, event, addresses)


def _requested(approval: Approval) -> str:
    return f"{approval.id}-requested"


def _summary(approval: Approval) -> dict[str, Any]:
    caller = approval.requested_by
    return {
        "key_alias": caller.get("key_alias"),
        "team": caller.get("team"),
        "user": caller.get("user"),
        "agent": approval.summary.get("agent"),
        "model": approval.model,
        "reason": approval.reason,
        "rules": list(approval.rule_ids),
        "estimated_usd": approval.summary.get("estimated_usd"),
        "expires_at": approval.expires_at,
    }
