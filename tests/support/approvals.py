"""Makes approvals up for tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from gatehouse.approvals.model import Approval, State

NOW: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_ASKED: Final = Approval(
    id=UUID(int=1),
    digest="d" * 64,
    state=State.REQUESTED,
    requested_by={"key_hash": "k-ada", "user": "ada"},
    requester_user="ada",
    route="/v1/chat/completions",
    model="large",
    rule_ids=("big",),
    reason=None,
    policy_version="v1",
    approvers={},
    requested_at=NOW,
    expires_at=NOW + timedelta(hours=8),
)


def asked(**changes: Any) -> Approval:
    """Return an approval that was requested at `NOW` and that waits for one vote."""
    return replace(_ASKED, **changes)
