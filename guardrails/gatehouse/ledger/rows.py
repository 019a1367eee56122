"""What the ledger keeps of a call as JSON: in `gatehouse.calls`, in the spool and in the audit log. Types alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from gatehouse.core.call import AuditLine


class RequestRow(TypedDict, total=False):
    """Who asked for what, as far as that is known."""

    route: str
    call_type: str
    model: str | None
    stream: bool
    library: bool
    caller: dict[str, str]
    agent: dict[str, str]


class ApprovalRow(TypedDict):
    """One person's yes."""

    approval_id: str
    approver: str
    decided_at: str


class DecisionRow(TypedDict):
    """A decision, with the facts that it was made on, so that another policy can be tried."""

    verdict: str
    policies: list[str]
    policy_version: str
    reason: str | None
    observed: NotRequired[list[str]]
    obligation: NotRequired[dict[str, Any]]
    approvals: NotRequired[list[ApprovalRow]]
    facts: NotRequired[Mapping[str, Any]]


class PromptRow(TypedDict):
    """What is kept of a prompt until its call is reported; `scope` is that of its placeholders."""

    hash: str | None
    text: str | None
    mode: str
    salt: str
    scope: NotRequired[str]


class CallRow(TypedDict):
    """What is known of a call before it is sent."""

    call_id: str
    started_at: str
    request: RequestRow
    decision: DecisionRow | None


# Kind, id, what it is of, and "limited" where a budget of theirs limits the call.
PayerRow = Sequence[str]


class IntentRow(CallRow):
    """A call that may be sent once this is committed.

    `report_within_s` and `prompt` are of library mode. `payers` pay for it, and `reserve` is the most it may cost them;
    None where it has no price, which no budget of theirs has room for.
    """

    report_within_s: NotRequired[float]
    prompt: NotRequired[PromptRow]
    payers: NotRequired[Sequence[PayerRow]]
    reserve: NotRequired[float | None]


class SettlementRow(CallRow):
    """How a call ended; `salt` is of the prompt's hash, in hex. The payers are its intent's, if it has one."""

    record: AuditLine
    salt: str | None
    payers: NotRequired[Sequence[PayerRow]]


class BlockedRow(TypedDict):
    """Why the gateway would not have passed an answer on."""

    code: str
    message: str
    policies: list[str]


class ReportRow(TypedDict):
    """What a caller of library mode says of their call; `usage` is of prompt, of completion, of both."""

    status: str
    model: str | None
    usage: list[int] | None
    cost_usd: float | None
    latency_ms: float | None
    error: str | None
    tools: list[str]
    answer: NotRequired[str | None]
    blocked: BlockedRow | None
