"""The life of an approval: what each event makes of it, who may vote, and why it does not admit a request.

Pure and total: every state and event has an answer, every doubt is a no, and the caller brings the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from gatehouse.approvals.binding import edited_digest
from gatehouse.approvals.model import OPEN, Approval, Edit, Pending, State, Voter
from gatehouse.core.errors import (
    AccessDenied,
    ApprovalExpired,
    ApprovalMismatch,
    ApprovalRejected,
    ApprovalRequired,
    Conflict,
    Gone,
    GovernanceError,
    InvalidRequest,
)
from gatehouse.core.text import clean

_ADMIN: Final = "proxy_admin"
# Who LiteLLM says it is that has the master key: whoever knows it, so no person in particular.
_MASTER: Final = "default_user_id"
# LiteLLM itself lets this role change nothing.
_READER: Final = "proxy_admin_viewer"
_AUDITORS: Final = frozenset({_ADMIN, _READER})
_KINDS: Final = ("roles", "users", "teams")
_OVER: Final = {
    State.CONSUMED: "The approval has admitted its one request.",
    State.CANCELLED: "The approval was cancelled.",
    State.EXPIRED: "The approval came too late.",
}


class Event(StrEnum):
    """What can happen to an approval."""

    APPROVE = "approve"
    REJECT = "reject"
    EDIT = "edit"
    CANCEL = "cancel"
    EXPIRE = "expire"
    CONSUME = "consume"
    RETURN = "return"


class NoVote(StrEnum):
    """Why a person may not vote: the sentence that they read."""

    NOT_OPEN = "The approval is decided or over. Nothing is left to vote on."
    NOBODY = "A vote is a person's, and this key belongs to no user. Sign in with a key of your own user."
    OWN_REQUEST = "You asked for this yourself. Somebody else must decide."
    OWN_KEY = "You made the key that asked for this, which belongs to no user. Somebody else must decide."
    NOT_AN_APPROVER = "The rule names others to decide on this. Ask one of them."
    REPLACED = "A reviewer edited this request. Vote on the one that it became."
    READS_ONLY = "Your role reads and does not vote. Ask an administrator."
    VOTED = "You have voted on this already. A vote cannot be changed."

    @property
    def error(self) -> GovernanceError:
        """Return the refusal: 409 where it is too late, 403 where others must decide."""
        return (Conflict if self in (NoVote.NOT_OPEN, NoVote.REPLACED, NoVote.VOTED) else AccessDenied)(self.value)


def state_at(approval: Approval, now: datetime) -> State:
    """Return the state that counts: what is not used in time is expired, also before that is written down."""
    return State.EXPIRED if approval.state in OPEN and now >= approval.expires_at else approval.state


def transition(approval: Approval, event: Event, now: datetime) -> State:
    """Return the state after an event, which may be the same one. `approval.votes` are those before the event."""
    state = state_at(approval, now)
    match state, event:
        case State.REQUESTED, Event.APPROVE:
            return State.APPROVED if approval.given + 1 >= approval.needed else State.REQUESTED
        case State.REQUESTED, Event.REJECT:
            return State.REJECTED
        case State.REQUESTED, Event.EDIT:
            return State.REPLACED
        case ((State.REQUESTED | State.APPROVED), Event.CANCEL):
            return State.CANCELLED
        case State.APPROVED, Event.CONSUME:
            return State.CONSUMED
        case State.CONSUMED, Event.RETURN if now < approval.expires_at:  # used, but its call was not sent after all
            return State.APPROVED
        case _:
            return state


def may_vote(approval: Approval, voter: Voter, now: datetime) -> NoVote | None:
    """Return why this person may not vote now; None when they may."""
    user = clean(voter.user_id)
    if approval.state is State.REPLACED:
        return NoVote.REPLACED
    if state_at(approval, now) is not State.REQUESTED:
        return NoVote.NOT_OPEN
    if not user:
        return NoVote.NOBODY
    if is_own(approval, voter):
        return NoVote.OWN_KEY if user == approval.requested_by.get("key_made_by") else NoVote.OWN_REQUEST
    if not _is_approver(approval, user, voter):
        return NoVote.NOT_AN_APPROVER
    if any(vote.user_id == user for vote in approval.votes):
        return NoVote.VOTED
    return NoVote.READS_ONLY if voter.role == _READER else None


def may_open(approval: Approval, by: Voter, now: datetime, *, values: bool) -> GovernanceError | None:
    """Return why this person may not open the whole request now; None when they may.

    Args:
        values: with what its placeholders stand for.
    """
    user = clean(by.user_id)
    if state_at(approval, now) not in OPEN:
        return Gone("The approval is over, and the copy of its request is erased. Its summary is what is left.")
    if values and (refused := may_vote(approval, by, now)) is not None:
        return AccessDenied(f"Values behind placeholders are for those who may vote on this now. {refused.value}")
    if is_own(approval, by) or (user is not None and _is_approver(approval, user, by)):
        return None
    return AccessDenied("The whole request is for those who may decide on it, and whoever asked. Read its summary.")


def may_see(asked: Approval | Pending, by: Voter) -> bool:
    """Say whether they may see it: auditors all, callers their own, others what they may or did vote on."""
    user = clean(by.user_id)
    return (
        by.role in _AUDITORS
        or is_own(asked, by)
        or (user is not None and user in asked.voters)
        or (bool(user) and _is_named(asked, user, by))
    )


def edited(approval: Approval, edit: Edit) -> Edit:
    """Return all that is edited of the request, with this edit.

    Raises:
        InvalidRequest: it does not lower what is asked for.
    """
    if edit.model == approval.model:
        edit = replace(edit, model=None)
    if edit.max_tokens is not None:
        most = longest_answer(approval)
        if most is None:
            raise InvalidRequest("edit: nothing says how long this answer may get. Leave max_tokens out.")
        if not 0 < edit.max_tokens < most:
            raise InvalidRequest(f"edit: max_tokens can only be lowered, from {most}. Choose less, or leave it out.")
    if not edit.row:
        raise InvalidRequest("edit: it changes nothing. Say another model or fewer max_tokens, or leave it out.")
    before = approval.edit or Edit()
    return Edit(edit.model or before.model, edit.max_tokens or before.max_tokens)


def longest_answer(approval: Approval) -> int | None:
    """Return the most tokens that the answer may have, as asked for or as the model allows; None if not known."""
    said = (approval.summary.get(name) for name in ("max_tokens", "max_output_tokens"))
    return next((most for most in said if isinstance(most, int) and most > 0), None)


def summary_edited(approval: Approval, edit: Edit) -> dict[str, Any]:
    """Return what the next reviewer sees of the request; its cost stays the most that it was estimated at."""
    summary, most = dict(approval.summary), longest_answer(approval)
    if edit.max_tokens is not None and most is not None:
        choices = max(1, (summary.get("max_output_tokens") or most) // most)
        summary |= {"max_tokens": edit.max_tokens, "max_output_tokens": edit.max_tokens * choices}
    return summary


def replacement(old: Approval, edit: Edit, new_id: UUID) -> Approval:
    """Return the approval that takes this one's place: it is for the request as edited, and has no votes.

    Raises:
        InvalidRequest: the edit does not lower what is asked for.
    """
    whole = edited(old, edit)
    return replace(
        old,
        id=new_id,
        digest=edited_digest(old.asked, whole),
        state=State.REQUESTED,
        model=whole.model or old.model,
        votes=(),
        summary=summary_edited(old, whole),
        edited_from=old.asked,
        edit=whole,
    )


def made_by(caller: Mapping[str, str], maker: str | None) -> Mapping[str, str]:
    """Return the caller, with who made their key where it belongs to no user: a service account's.

    The maker of such a key is its user where one person may not ask and approve. A key that was made with the master
    key has no maker that is known, so it keeps nobody from voting.
    """
    known = maker and maker != _MASTER and not caller.get("user")
    return {**caller, "key_made_by": maker} if known and maker else caller


def is_own(asked: Approval | Pending, voter: Voter) -> bool:
    """Say whether this person asked: as the same user, with the same key, or with a service account's of theirs."""
    user, by = clean(voter.user_id), asked.requested_by
    return (user is not None and user in (by.get("user"), by.get("key_made_by"))) or (
        voter.key_hash is not None and voter.key_hash == asked.requested_by.get("key_hash")
    )


def may_cancel(approval: Approval, voter: Voter) -> bool:
    """Say whether they may take it back: whoever asked may, and administrators."""
    return is_own(approval, voter) or voter.role == _ADMIN


def _is_approver(approval: Approval, user: str, voter: Voter) -> bool:
    if not any(approval.approvers.get(kind) for kind in _KINDS):
        return voter.role == _ADMIN
    return _is_named(approval, user, voter)


def _is_named(asked: Approval | Pending, user: str | None, voter: Voter) -> bool:
    roles, users, teams = (set(asked.approvers.get(kind) or ()) for kind in _KINDS)
    return user in users or voter.role in roles or bool(voter.teams & teams)


def why_not(approval: Approval | None, digest: str, key_hash: str | None, now: datetime) -> GovernanceError:
    """Return what a caller reads whose request this approval does not admit.

    Args:
        approval: None when there is none by that id. Somebody else's is answered like that too.
        digest: of the request at hand, as its caller asked for it.
        key_hash: of the key that asks.
    """
    if approval is None or approval.key_hash != key_hash:
        return ApprovalMismatch("You have no approval by that id. Ask again without one.")
    if approval.asked != digest:
        return ApprovalMismatch(
            "The approval is for another request, or another version of the policy, or the gateway has a new secret "
            "since. Send what was approved, or ask again without its id.",
            approval=approval.reference,
        )
    state, rules = state_at(approval, now), approval.rule_ids
    if (over := _OVER.get(state)) is not None:
        return ApprovalExpired(f"{over} Ask again without its id.", policies=rules, approval=approval.reference)
    if state is State.REJECTED:
        said = next((vote.comment for vote in approval.votes if not vote.approve and vote.comment), None)
        why = f"A reviewer rejected this request{f': {said}' if said else '.'}"
        return ApprovalRejected(why, policies=rules, approval=approval.reference)
    why = "The request waits for approval. Ask again with header X-Gatehouse-Approval and its id."
    return ApprovalRequired(approval.reason or why, policies=rules, approval=approval.reference)
