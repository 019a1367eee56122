"""A caller's report of a call is kept as far as audit.content allows, and sealed from the row alone."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from gatehouse.core.call import Status, Usage
from gatehouse.core.errors import ContentBlocked
from gatehouse.ledger.library_report import Report, counted_usd, ending, report_row
from gatehouse.ledger.store.library_calls import LibraryCall

AT = datetime(2026, 11, 21, 13, tzinfo=UTC)
DECISION: dict[str, Any] = {
    "verdict": "require_approval",
    "policies": ["needs-a-human"],
    "policy_version": "0" * 64,
    "reason": None,
    "approvals": [{"approval_id": str(UUID(int=9)), "approver": "grace", "decided_at": AT.isoformat()}],
    "facts": {"request": {"tools": ["search"]}, "cost": {"estimated_usd": 0.5}},
}
CALL = LibraryCall(
    UUID(int=1),
    AT,
    {"route": "/v1/chat/completions", "model": "demo", "library": True, "caller": {"team": "ops"}},
    DECISION,
    {"hash": "a" * 64, "text": None, "mode": "hash"},
    None,
    open=True,
)
REPORT = Report(
    Status.SUCCESS, "gpt-4o", Usage(3, 4, 7), 0.25, 12.5, None, "the answer", ["search", "made up", "search"]
)


def said(report: Report = REPORT, answer: str | None = None, blocked: ContentBlocked | None = None) -> LibraryCall:
    """Return the call with its report, as the database gives it back."""
    return replace(CALL, reported=json.loads(json.dumps(report_row(report, CALL, answer, blocked))))


def test_it_is_sealed_with_what_was_reported_and_what_was_decided() -> None:
    settlement = ending(said(), AT, by_team=False)
    data, capsule = settlement.record["data"], settlement.capsule
    assert settlement.record["event_type"] == "chat_completion_success"
    assert (data["answered_by"], data["cost_usd"], data["response_time_ms"]) == ("gpt-4o", 0.25, 12.5)
    assert data["usage"]["total_tokens"] == 7
    assert capsule["authority"]["approver"] == "grace"
    assert capsule["reasoning"]["prompt_hash"] == "a" * 64
    assert capsule["context"]["environment"]["library"] is True


def test_only_tools_that_the_request_offered_are_named() -> None:
    capsule = ending(said(), AT, by_team=False).capsule
    assert [call["tool"] for call in capsule["execution"]["tool_calls"]] == ["search", "search"]


def test_what_nobody_reports_is_partial() -> None:
    settlement = ending(CALL, AT, by_team=False)
    assert settlement.record["data"]["error"] == "not_reported"
    assert settlement.capsule["outcome"]["status"] == "partial"
    assert settlement.capsule["reasoning"]["prompt_hash"] == "a" * 64


def test_a_blocked_answer_is_sealed_as_blocked_with_what_it_cost() -> None:
    blocked = ContentBlocked("The model's answer was withheld.", policies=("screens/secrets",))
    settlement = ending(said(blocked=blocked), AT, by_team=False)
    assert settlement.record["event_type"] == "chat_completion_blocked"
    assert (settlement.record["data"]["error"], settlement.record["data"]["cost_usd"]) == ("content_blocked", 0.25)


@pytest.mark.parametrize("mode", ["redacted", "full"])
def test_content_is_kept_in_the_mode_that_the_call_was_decided_in(mode: str) -> None:
    call = replace(said(answer="the ans\0wer"), prompt={"hash": "a" * 64, "text": "the prompt", "mode": mode})
    capsule = ending(call, AT, by_team=False).capsule
    assert capsule["trigger"]["request"] == "the prompt"
    assert capsule["outcome"]["result"] == "the ans\ufffdwer"
    assert capsule["context"]["environment"]["content"] == mode


def test_in_mode_hash_an_answer_that_lies_in_the_row_is_not_sealed() -> None:
    assert "the answer" not in json.dumps(ending(said(answer="the answer"), AT, by_team=False).capsule)


def test_it_goes_to_its_teams_chain() -> None:
    assert ending(CALL, AT, by_team=True).capsule["domain"] == "calls/ops"


@pytest.mark.parametrize(("cost", "counted"), [(0.25, 0.25), (0.5, 0.5), (7.0, 0.5), (0.0, 0.0), (None, None)], ids=str)
def test_a_call_counts_for_no_more_than_its_estimate(cost: float | None, counted: float | None) -> None:
    assert counted_usd(cost, CALL) == counted


def test_a_call_without_a_price_counts_for_nothing() -> None:
    unpriced = replace(CALL, decision={**DECISION, "facts": {}})
    assert counted_usd(REPORT.cost_usd, unpriced) is None
