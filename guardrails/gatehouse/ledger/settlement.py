"""How a call ended, as the ledger takes it: the call's row, its audit line and its capsule, made together. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from urllib.parse import quote
from uuid import UUID

from gatehouse.capsule.document import DEFAULT_CHAIN, NO_CONTENT, Approval, Content, call_capsule
from gatehouse.core.call import Outcome, Status, ToolCall
from gatehouse.core.decision import Decision, Obligation, Verdict
from gatehouse.ledger import audit_line
from gatehouse.policy.facts import Facts

Row = dict[str, Any]

# A chain's name, percent-encoded, is a folder's name too.
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Settlement:
    """One call's ending; every field can be written as JSON.

    Attributes:
        record: the audit line, still without the capsule's place.
        capsule: the document to seal; its `domain` is the chain.
        salt: of the prompt's hash, in hex; None where there is no hash.
    """

    call_id: str
    started_at: str
    request: Row
    decision: Row | None
    record: Row
    capsule: Row
    salt: str | None = None

    def row(self) -> Row:
        """What goes to `gatehouse.calls`."""
        return {
            "call_id": self.call_id,
            "started_at": self.started_at,
            "request": self.request,
            "decision": self.decision,
            "record": self.record,
            "salt": self.salt,
        }

    def to_json(self) -> Row:
        """For a file; `Settlement(**row)` is the inverse."""
        return asdict(self)

    def bare(self) -> Settlement:
        """The same ending without anything that came from outside."""
        call_id, started_at = UUID(self.call_id), datetime.fromisoformat(self.started_at)
        return Settlement(
            call_id=self.call_id,
            started_at=self.started_at,
            request={},
            decision=None,
            record=audit_line.bare(self.record),
            capsule=call_capsule(
                call_id=call_id,
                started_at=started_at,
                request={},
                decision=None,
                outcome=Outcome(Status(self.record["data"]["status"]), error="details_refused"),
                duration_ms=None,
                chain=DEFAULT_CHAIN,
            ),
        )


def settlement(
    *,
    call_id: UUID,
    started_at: datetime,
    request: Row,
    decision: Decision | None,
    outcome: Outcome,
    ended_at: datetime,
    duration_ms: float | None,
    by_team: bool,
    facts: Facts | None = None,
    approvals: Sequence[Approval] = (),
    content: Content = NO_CONTENT,
    salt: bytes | None = None,
    tool_calls: Sequence[ToolCall] = (),
) -> Settlement:
    """Everything that is written of a call that ended.

    Args:
        request: as `pipeline.settlement` gives it and the intent's row keeps it.
        duration_ms: None when nobody lived to see the end.
        facts: what the decision was made on.
        approvals: of the people who approved the call.
        by_team: whether each team has a chain of its own (policy.yaml's `audit.chain`).
        salt: what the prompt's hash is salted with.
    """
    return Settlement(
        call_id=str(call_id),
        started_at=started_at.isoformat(),
        request=request,
        decision=decision_row(decision, facts, approvals),
        record=audit_line.line(call_id, request, decision, outcome, ended_at, duration_ms),
        capsule=call_capsule(
            call_id=call_id,
            started_at=started_at,
            request=request,
            decision=decision,
            outcome=outcome,
            duration_ms=duration_ms,
            approvals=approvals,
            tool_calls=tool_calls,
            content=content,
            chain=chain_of(request, by_team=by_team),
        ),
        salt=salt.hex() if salt is not None and content.prompt_hash is not None else None,
    )


def chain_of(request: Mapping[str, Any], *, by_team: bool) -> str:
    """The chain that a call's capsule belongs to."""
    team = (request.get("caller") or {}).get("team") if by_team else None
    if not team:
        return DEFAULT_CHAIN
    if len(quote(team, safe="")) > _LONGEST_NAME:
        team = f"sha256:{sha256(team.encode()).hexdigest()}"
    return f"{DEFAULT_CHAIN}/{team}"


def approvals_of(row: Row | None) -> tuple[Approval, ...]:
    """Those that `decision_row` kept."""
    kept = (row or {}).get("approvals") or ()
    return tuple(
        Approval(UUID(each["approval_id"]), each["approver"], datetime.fromisoformat(each["decided_at"]))
        for each in kept
    )


def decision_row(
    decision: Decision | None, facts: Facts | None = None, approvals: Sequence[Approval] = ()
) -> Row | None:
    """A decision as the intent's row keeps it, with the facts it was made on, so that another policy can be tried."""
    if decision is None:
        return None
    obligation = {name: value for name, value in asdict(decision.obligation).items() if value}
    return {
        "verdict": decision.verdict.value,
        "policies": list(decision.policies),
        "policy_version": decision.policy_version,
        "reason": decision.reason,
        **({"observed": list(decision.observed)} if decision.observed else {}),
        **({"obligation": obligation} if obligation else {}),
        **({"approvals": [_approval_row(each) for each in approvals]} if approvals else {}),
        **({"facts": facts.recorded()} if facts is not None else {}),
    }


def _approval_row(approval: Approval) -> Row:
    return {
        "approval_id": str(approval.approval_id),
        "approver": approval.approver,
        "decided_at": approval.decided_at.isoformat(),
    }


def decision_of(row: Row | None) -> Decision | None:
    """The inverse of `decision_row`, without the facts."""
    if row is None:
        return None
    obligation = row.get("obligation") or {}
    return Decision(
        Verdict(row["verdict"]),
        tuple(row["policies"]),
        row["policy_version"],
        row.get("reason"),
        tuple(row.get("observed") or ()),
        Obligation(**obligation | {"tags": tuple(obligation.get("tags") or ())}),
    )
