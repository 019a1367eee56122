"""Approvals as the API shows them, and what a vote looks like on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from gatehouse.approvals.desk import MAX_COMMENT_CHARS, MAX_MODEL_CHARS, Seen
from gatehouse.approvals.model import Edit, State

_MAX_TOKENS: Final = 2**31 - 1


class EditRequest(BaseModel):
    """What is approved instead of what was asked; each can only be less than it was."""

    model_config = ConfigDict(extra="forbid", title="Edit", strict=True)

    model: Annotated[str, Field(min_length=1, max_length=MAX_MODEL_CHARS)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=_MAX_TOKENS)] | None = None

    @property
    def edit(self) -> Edit:
        """Return the edit as approvals know it."""
        return Edit(self.model, self.max_tokens)


class VoteRequest(BaseModel):
    """A vote. Whose it is, the key says."""

    model_config = ConfigDict(extra="forbid", title="Vote")

    decision: Literal["approve", "reject"]
    comment: Annotated[str, Field(max_length=MAX_COMMENT_CHARS)] | None = None
    edit: EditRequest | None = None


class VoteShown(BaseModel):
    """What one person said."""

    user_id: str
    role: str | None
    decision: Literal["approve", "reject"]
    comment: str | None
    at: datetime
    edit: dict[str, Any] | None


class ApproversShown(BaseModel):
    """Who may decide: any of these; administrators where none are named. `count` of them must say yes."""

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
    edit: dict[str, Any] | None = Field(description="What an approver changed of what was asked: model, max_tokens.")
    replaced_by: UUID | None = Field(description="The approval that an approver's edit made of this one.")
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


class RequestShown(BaseModel):
    """A request as its approval binds it, with personal data masked, and complete."""

    id: UUID
    asked: str = Field(description="SHA-256 of `request` in the form of RFC 8785: what its approval is bound to.")
    request: dict[str, Any] = Field(
        description="caller, route, body, policy_version; values_mac is a keyed hash of the values behind placeholders."
    )
    edit: dict[str, Any] | None = Field(description="What an approver changed of it: model, max_tokens.")
    values: dict[str, str] | None = Field(description="What each placeholder stands for; null without `values=true`.")


class _Error(BaseModel):
    message: str
    type: str | None
    code: str | None
    param: str | None = None
    gatehouse: dict[str, Any] | None = Field(default=None, description="Absent where LiteLLM refused the key.")


class ErrorShown(BaseModel):
    """An error, in OpenAI's shape."""

    error: _Error


def errors(descriptions: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    """Return what the description says of answers with these statuses."""
    return {status: {"model": ErrorShown, "description": why} for status, why in descriptions.items()}


ERRORS: Final = errors(
    {
        400: "A parameter or the body is not what it should be.",
        401: "No key that LiteLLM knows.",
        403: "You may see it, and may not do this; or the key belongs to no user.",
        404: "There is no such approval, or none that you may see.",
        409: "It is decided or over, or you have voted.",
        410: "It is over, and the copy of its request is erased.",
        503: "The database does not answer. Try again soon.",
    }
)


def shown(seen: Seen, *, whole: bool = True) -> ApprovalShown:
    """Return an approval as the API answers it.

    Args:
        whole: with its summary.
    """
    approval, refused = seen.approval, seen.refusal
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
            **{kind: list(approval.approvers.get(kind) or ()) for kind in ("roles", "users", "teams")},
            count=approval.needed,
        ),
        requested_at=approval.requested_at,
        expires_at=approval.expires_at,
        decided_at=approval.decided_at,
        consumed_at=approval.consumed_at,
        edit=None if approval.edit is None else approval.edit.row,
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
        may_vote=refused is None,
        why_not=None if refused is None else refused.value,
        summary=dict(approval.summary) if whole else None,
    )
