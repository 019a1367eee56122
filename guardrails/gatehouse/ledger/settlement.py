"""How a call ended, as the ledger takes it: the call's row, its audit line and its capsule, made together. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from urllib.parse import quote
from uuid import UUID

from gatehouse.capsule.document import DEFAULT_CHAIN, NO_CONTENT, Content, SealedApproval, call_capsule
from gatehouse.core.call import AuditLine, Outcome, Status, ToolCallRecord
from gatehouse.core.decision import Decision, Obligation, Verdict
from gatehouse.core.reasons import Reason
from gatehouse.ledger import audit_line
from gatehouse.ledger.rows import DecisionRow, PayerRow, RequestRow, SettlementRow
from gatehouse.policy.facts import Facts

# A chain's name, percent-encoded, is a folder's name too.
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Settlement:
    """One call's ending; every field can be written as JSON, and `Settlement(**row)` reads it again.

    Attributes:
        record: the audit line, still without the capsule's place.
        capsule: the document to seal; its `domain` is the chain.
        salt: of the prompt's hash, in hex; None where there is no hash.
        usd: what its payers are charged; None where that is not known.
        payers: who they are, where the call's intent does not say.
    """

    call_id: str
    started_at: str
    request: RequestRow
    decision: DecisionRow | None
    record: AuditLine
    capsule: dict[str, Any]
    salt: str | None = None
    usd: float | None = None
    payers: Sequence[PayerRow] = ()

    def row(self) -> SettlementRow:
        """What goes to `gatehouse.calls`."""
        return {
            "call_id": self.call_id,
            "started_at": self.started_at,
            "request": self.request,
            "decision": self.decision,
            "record": self.record,
            "salt": self.salt,
            "payers": self.payers,
        }

    def bare(self) -> Settlement:
        """The same ending without anything that came from outside."""
        call_id, started_at = UUID(self.call_id), datetime.fromisoformat(self.started_at)
        return Settlement(
            call_id=self.call_id,
            started_at=self.started_at,
            request={},
            decision=None,
            record=audit_line.bare(self.record),
            usd=self.usd,
            capsule=call_capsule(
                call_id=call_id,
                started_at=started_at,
                request={},
                decision=None,
                outcome=Outcome(Status(self.record["data"]["status"]), error=Reason.DETAILS_REFUSED),
                duration_ms=None,
                chain=DEFAULT_CHAIN,
            ),
        )


def settlement(
    *,
    call_id: UUID,
    started_at: datetime,
    request: RequestRow,
    decision: Decision | None,
    outcome: Outcome,
    ended_at: datetime,
    duration_ms: float | None,
    by_team: bool,
    facts: Facts | None = None,
    approvals: Sequence[SealedApproval] = (),
    content: Content = NO_CONTENT,
    salt: bytes | None = None,
    tool_calls: Sequence[ToolCallRecord] = (),
    payers: Sequence[PayerRow] = (),
) -> Settlement:
    """Everything that is written of a call that ended.

    Args:
        request: as `pipeline.settlement` gives it and the intent's row keeps it.
        duration_ms: None when nobody lived to see the end.
        facts: what the decision was made on.
        approvals: of the people who approved the call.
        by_team: whether each team has a chain of its own (policy.yaml's `audit.chain`).
        salt: what the prompt's hash is salted with.
        payers: who pays for the call.
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
        usd=outcome.cost_usd,
        payers=payers,
    )


def chain_of(request: RequestRow, *, by_team: bool) -> str:
    """The chain that a call's capsule belongs to."""
    team = (request.get("caller") or {}).get("team") if by_team else None
    if not team:
        return DEFAULT_CHAIN
    if len(quote(team, safe="")) > _LONGEST_NAME:
        team = f"sha256:{sha256(team.encode()).hexdigest()}"
    return f"{DEFAULT_CHAIN}/{team}"


def approvals_of(row: DecisionRow | None) -> tuple[SealedApproval, ...]:
    """Those that `decision_row` kept."""
    return tuple(
        SealedApproval(UUID(each["approval_id"]), each["approver"], datetime.fromisoformat(each["decided_at"]))
        for each in (row and row.get("approvals")) or ()
    )


def decision_row(
    decision: Decision | None, facts: Facts | None = None, approvals: Sequence[SealedApproval] = ()
) -> DecisionRow | None:
    """A decision as the intent's row keeps it, with the facts it was made on, so that another policy can be tried."""
    if decision is None:
        return None
    row: DecisionRow = {
        "verdict": decision.verdict.value,
        "policies": list(decision.policies),
        "policy_version": decision.policy_version,
        "reason": decision.reason,
    }
    if decision.observed:
        row["observed"] = list(decision.observed)
    if obligation := {name: value for name, value in asdict(decision.obligation).items() if value}:
        row["obligation"] = obligation
    if approvals:
        row["approvals"] = [
            {"approval_id": str(each.approval_id), "approver": each.approver, "decided_at": each.decided_at.isoformat()}
            for each in approvals
        ]
    if facts is not None:
        row["facts"] = facts.recorded()
    return row


def decision_of(row: DecisionRow | None) -> Decision | None:
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


def estimated_usd(row: DecisionRow | None) -> float | None:
    """Return the most that one answer to a call was estimated to cost; None where that is not known."""
    facts = (row and row.get("facts")) or {}
    usd = (facts.get("cost") or {}).get("estimated_usd")
    return None if usd is None else float(usd)
