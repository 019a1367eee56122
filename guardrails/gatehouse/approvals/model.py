"""Approvals as frozen values, and what of a request a reviewer may be shown.

Nothing here reads a clock or a database: times are the database's.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from gatehouse.core.clock import new_call_id
from gatehouse.core.text import storable

SHOWN_CHARS: Final = 32_000
"""Characters of a summary's texts together: more than a person reads before deciding."""

CUT: Final = " [cut]"
_DEPTH: Final = 20


class State(StrEnum):
    """Where an approval is in its life."""

    REQUESTED = "requested"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    CONSUMED = "consumed"
    REPLACED = "replaced"


OPEN: Final = frozenset({State.REQUESTED, State.APPROVED})
"""States in which an approval can still admit its request."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What an approver makes of a request; None leaves it as it was asked.

    Attributes:
        model: answers instead of the one asked for.
        max_tokens: the longest answer, in tokens.
    """

    model: str | None = None
    max_tokens: int | None = None

    @property
    def row(self) -> dict[str, Any]:
        """Return it as it is kept: only what is edited."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Vote:
    """What one person said. `role` is theirs at the time; `edit` is what they changed of the request."""

    user_id: str
    role: str | None
    approve: bool
    comment: str | None
    at: datetime
    edit: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Voter:
    """An authenticated LiteLLM user: never a name in a body.

    Attributes:
        teams: ids and aliases of the teams they are in.
        key_hash: of the key they vote with.
    """

    user_id: str | None
    role: str | None = None
    teams: frozenset[str] = frozenset()
    key_hash: str | None = None


@dataclass(frozen=True, slots=True)
class NewApproval:
    """A request for approval.

    Attributes:
        digest: what it is bound to, by `binding.digest`.
        requested_by: the caller as `{key_hash, key_alias, user, team, ...}`.
        summary: what a reviewer sees; texts only after personal data was masked.
        approvers: `{roles, users, teams, count}`.
        expires_in_s: seconds in which it must be decided and used.
        most_open: how many approvals of the key that asks may be open at once; None: any number.
        copy: what reviewers can open of it.
        id: what it is called, unless an approval of the same digest is open already.
    """

    digest: str
    requested_by: Mapping[str, str]
    route: str
    model: str | None
    rule_ids: tuple[str, ...]
    reason: str | None
    policy_version: str
    approvers: Mapping[str, Any]
    expires_in_s: float
    summary: Mapping[str, Any] = field(default_factory=dict, repr=False)
    most_open: int | None = None
    copy: ReviewCopy | None = field(default=None, repr=False)
    id: UUID = field(default_factory=new_call_id)


@dataclass(frozen=True, slots=True)
class Approval:
    """An approval as it stood when it was read; one whose time is over reads as expired.

    Attributes:
        digest: of what it admits.
        edited_from: digest of what the caller asked for, where an approver's edit made this one of it.
        edit: what approvers changed of that; everybody who votes for it votes for the edit.
        replaced_by: the one that an approver's edit made of this.
    """

    id: UUID
    digest: str
    state: State
    requested_by: Mapping[str, str]
    requester_user: str | None
    route: str
    model: str | None
    rule_ids: tuple[str, ...]
    reason: str | None
    policy_version: str
    approvers: Mapping[str, Any]
    requested_at: datetime
    expires_at: datetime
    votes: tuple[Vote, ...] = ()
    decided_at: datetime | None = None
    consumed_at: datetime | None = None
    replaced_by: UUID | None = None
    summary: Mapping[str, Any] = field(default_factory=dict, repr=False)
    edited_from: str | None = None
    edit: Edit | None = None

    @property
    def asked(self) -> str:
        """Return the digest of what the caller asked for."""
        return self.edited_from or self.digest

    @property
    def key_hash(self) -> str | None:
        """Return the hash of the key that asked."""
        return self.requested_by.get("key_hash")

    @property
    def voters(self) -> frozenset[str]:
        """Return who has voted."""
        return frozenset(vote.user_id for vote in self.votes)

    @property
    def needed(self) -> int:
        """Return how many different people must say yes."""
        count = self.approvers.get("count")
        return max(1, count) if isinstance(count, int) else 1

    @property
    def given(self) -> int:
        """Return how many have said yes."""
        return sum(vote.approve for vote in self.votes)

    @property
    def reference(self) -> dict[str, str]:
        """Return what a caller needs to come back: `error.gatehouse.approval` of a refusal."""
        return {
            "id": str(self.id),
            "expires_at": self.expires_at.isoformat(timespec="milliseconds"),
            "status_url": f"/governance/v1/approvals/{self.id}",
        }


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that waits for a decision, without what was asked."""

    id: UUID
    approvers: Mapping[str, Any]
    requested_by: Mapping[str, str]
    voters: Collection[str]


def shown(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return a summary fit to be kept: JSON that Postgres takes, with at most `SHOWN_CHARS` of texts together."""
    return _Fitting(SHOWN_CHARS).mapping(summary, depth=0)


class _Fitting:
    """Copies JSON while there is room left for its texts."""

    def __init__(self, room: int) -> None:
        self._room = room

    def mapping(self, value: Mapping[str, Any], depth: int) -> dict[str, Any]:
        fitted: dict[str, Any] = {}
        for name, inner in value.items():
            if self._room <= 0:
                fitted["cut"] = True
                break
            shown_name = self._text(str(name))
            fitted[shown_name] = self._any(inner, depth + 1)
        return fitted

    def _any(self, value: object, depth: int) -> Any:
        self._room -= 1
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, str):
            return self._text(value)
        if depth >= _DEPTH:
            return CUT
        if isinstance(value, Mapping):
            return self.mapping(value, depth)
        if isinstance(value, list | tuple):
            fitted: list[Any] = []
            for inner in value:
                if self._room <= 0:
                    return [*fitted, CUT]
                fitted.append(self._any(inner, depth + 1))
            return fitted
        return self._text(str(value))

    def _text(self, text: str) -> str:
        cut = text[: max(self._room, 0)] + CUT if len(text) > self._room else text
        self._room -= len(text)
        return storable(cut)


@dataclass(frozen=True, slots=True)
class ReviewCopy:
    """A copy as it is kept.

    Attributes:
        epoch: which installation secret its key is wrapped under.
        key: its key, wrapped.
        request: the request as it is bound, compressed and encrypted; `values` likewise, what placeholders stand for.
    """

    epoch: str
    key: bytes = field(repr=False)
    request: bytes = field(repr=False)
    values: bytes = field(repr=False)
