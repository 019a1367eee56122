"""Approvals as the API shows them, who may see which, and what a vote looks like on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from gatehouse.approvals.life import is_own, may_vote
from gatehouse.approvals.values import Approval, State, Voter
from gatehouse.audit.record import clean

# LiteLLM itself answers this role nothing that changes anything.
_READER: Final = "proxy_admin_viewer"
READS_ONLY: Final = "Your role reads and does not vote. Ask an administrator."
_AUDITORS: Final = frozenset({"proxy_admin", _READER})
_COMMENT_CHARS: Final = 2_000


class Ballot(BaseModel):
    """A vote. Whose it is, the key says."""

    model_config = ConfigDict(extra="forbid", title="Vote")

    decision: Literal["approve", "reject"]
    comment: Annotated[str, Field(max_length=_COMMENT_CHARS)] | None = None


class VoteShown(BaseModel):
    """What one person said."""

    user_id: str
    role: str | None
    decision: Literal["approve", "reject"]
    comment: str | None
    at: datetime
    edit: dict[str, Any] | None


class ApproversShown(BaseModel):
    """Who may decide: anybody of these; administrators where nobody is named. `count` of them must say yes."""

    roles: list[str]
    users: list[str]
    teams: list[str]
    count: int


class ApprovalShown(BaseModel):
    """An approval. `summary` is the request with personal data masked; lists and events leave it out."""

    id: UUID
    state: State
    digest: str = Field(description="SHA-256 of exactly what is approved.")
    requested_by: dict[str, str]
    route: str
    model: str | None
    rules: list[str]
    reason: str | None
    policy_version: str
    approvers: ApproversShown
    requested_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    consumed_at: datetime | None
    replaced_by: UUID | None
    needed: int = Field(description="How many people must say yes.")
    given: int = Field(description="How many have.")
    votes: list[VoteShown]
    may_vote: bool = Field(description="Whether you may vote now.")
    why_not: str | None = Field(description="Why you may not.")
    summary: dict[str, Any] | None


class ApprovalPage(BaseModel):
    """Approvals, newest first. `next` is the cursor of the next page, null at the end."""

    approvals: list[ApprovalShown]
    next: UUID | None


class _Error(BaseModel):
    message: str
    type: str | None
    code: str | None
    param: str | None = None
    gatehouse: dict[str, Any] | None = Field(default=None, description="Absent where LiteLLM refused the key.")


class ErrorShown(BaseModel):
    """An error, in OpenAI's shape."""

    error: _Error


ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ErrorShown, "description": why}
    for status, why in {
        400: "A parameter or the body is not what it should be.",
        401: "No key that LiteLLM knows.",
        403: "You may see it, and may not do this; or the key belongs to no user.",
        404: "There is no such approval, or none that you may see.",
        409: "It is decided or over, or you have voted.",
        503: "The database does not answer. Try again soon.",
    }.items()
}


def may_see(approval: Approval, by: Voter) -> bool:
    """Administrators and auditors all, reviewers what they may or did decide on, everybody what they asked for."""
    if by.role in _AUDITORS or is_own(approval, by):
        return True
    user = clean(by.user_id)
    if not user:
        return False
    roles, users, teams = (set(approval.approvers.get(kind) or ()) for kind in ("roles", "users", "teams"))
    return (
        user in users
        or by.role in roles
        or bool(by.teams & teams)
        or any(vote.user_id == user for vote in approval.votes)
    )


def shown(approval: Approval, by: Voter, now: datetime, *, whole: bool = True) -> ApprovalShown:
    """An approval as `by` sees it.

    Args:
        whole: with its summary.
    """
    refused = may_vote(approval, by, now)
    why_not = READS_ONLY if refused is None and by.role == _READER else None if refused is None else refused.value
    return ApprovalShown(
        id=approval.id,
        state=approval.state,
        digest=approval.digest,
        requested_by=dict(approval.requested_by),
        route=approval.route,
        model=approval.model,
        rules=list(approval.rule_ids),
        reason=approval.reason,
        policy_version=approval.policy_version,
        approvers=ApproversShown(
            roles=list(approval.approvers.get("roles") or ()),
            users=list(approval.approvers.get("users") or ()),
            teams=list(approval.approvers.get("teams") or ()),
            count=approval.needed,
        ),
        requested_at=approval.requested_at,
        expires_at=approval.expires_at,
        decided_at=approval.decided_at,
        consumed_at=approval.consumed_at,
        replaced_by=approval.replaced_by,
        needed=approval.needed,
        given=approval.given,
        votes=[
            VoteShown(
                user_id=vote.user_id,
                role=vote.role,
                decision="approve" if vote.approve else "reject",
                comment=vote.comment,
                at=vote.at,
                edit=None if vote.edit is None else dict(vote.edit),
            )
            for vote in approval.votes
        ],
        may_vote=why_not is None,
        why_not=why_not,
        summary=dict(approval.summary) if whole else None,
    )
