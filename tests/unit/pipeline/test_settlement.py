"""Settlement records each call once, by what was seen of its ending."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock
from uuid import UUID

import pytest
from gatehouse.approvals.model import Vote
from gatehouse.capsule import canonical
from gatehouse.capsule.document import ContentMode
from gatehouse.core.call import Outcome, Status, ToolCallRecord
from gatehouse.core.clock import monotonic, new_call_id, now
from gatehouse.core.decision import Decision, Verdict
from gatehouse.core.errors import ContentBlocked, GovernanceUnavailable, PolicyDenied, UpstreamCutOff
from gatehouse.core.reasons import Reason
from gatehouse.guards.findings import ScanFailed
from gatehouse.ledger.recorder import Recorder
from gatehouse.ledger.rows import IntentRow
from gatehouse.ledger.settlement import Settlement
from gatehouse.pipeline.pipeline import Pipeline
from gatehouse.pipeline.retention import Retention
from gatehouse.pipeline.scope import CallScope, Considered, LetThrough
from gatehouse.pipeline.sessions import StoppedSessions
from gatehouse.pipeline.settlement import CallSettlement

from tests.support.admission import CHAT, MAIL, Case, Gate, Scanner, approval
from tests.support.masking import KEYS

ANSWERED = Outcome(Status.SUCCESS, http_status=200, model="m", answer=f"I wrote to {MAIL}", cost_usd=0.5)


class Written(Recorder):
    """Keeps what it is given, and takes no intent while it is away."""

    def __init__(self, *, away: bool = False) -> None:
        self.away = away
        self.intents: list[IntentRow] = []
        self.settlements: list[Settlement] = []
        self.lines: list[Any] = []

    @property
    def accepting(self) -> bool:
        return not self.away

    async def open(self, intent: IntentRow) -> None:
        if self.away:
            raise GovernanceUnavailable("The ledger cannot be written now. Try again soon.")
        self.intents.append(intent)

    def settle(self, settlement: Settlement) -> None:
        self.settlements.append(settlement)

    def log_only(self, line: Any) -> None:
        self.lines.append(line)


def ends(written: Written, mode: ContentMode = ContentMode.HASH) -> CallSettlement:
    return CallSettlement(written, Retention(mode, KEYS), by_team=False)


def scope(**fields: Any) -> CallScope:
    return CallScope(new_call_id(), CHAT, now(), monotonic(), **fields)


async def test_a_call_is_settled_once_and_the_first_ending_counts() -> None:
    written, told = Written(), MagicMock()
    call = scope(intent=True)
    call.ending.on_settled = told
    settles = ends(written)
    await settles.ended(call, ANSWERED)
    assert written.settlements == []  # its connection is not over
    call.ending.closed = True
    await settles.ended(call, Outcome(Status.FAILURE, http_status=500))
    settles.conclude(call)
    (settled,) = written.settlements
    assert settled.record["data"]["status"] == "success"
    told.assert_called_once_with()


SEEN = {
    "answered": ({"http_status": 200, "outcome": ANSWERED}, None, "success", None),
    "the client left": ({"http_status": 200, "outcome": ANSWERED, "client_gone": True}, None, "partial", None),
    "a screen withheld it": (
        {"http_status": 200, "outcome": ANSWERED, "blocked": ContentBlocked("no")},
        None,
        "blocked",
        Reason.CONTENT_BLOCKED,
    ),
    "refused": ({"http_status": 403}, PolicyDenied("no"), "blocked", Reason.POLICY_DENIED),
    "nothing but its status": ({"http_status": 200}, None, "success", None),
    "a failure of LiteLLM's": ({"http_status": 500, "failure": "Timeout"}, None, "failure", "Timeout"),
    "nothing at all": ({}, None, "partial", Reason.CLIENT_GONE),
}


@pytest.mark.parametrize("seen", SEEN)
def test_what_was_seen_of_an_ending_is_what_is_recorded(seen: str) -> None:
    fields, refusal, status, error = SEEN[seen]
    written = Written()
    call = scope(intent=True, refusal=refusal)
    for name, value in fields.items():
        setattr(call.ending, name, value)
    ends(written).conclude(call)
    (settled,) = written.settlements
    data = settled.record["data"]
    assert (data["status"], data.get("error")) == (status, error)
    assert canonical.encode(settled.capsule)


def test_an_answer_that_broke_off_is_a_failure_whatever_litellm_made_of_it() -> None:
    written = Written()
    call = scope(intent=True)
    call.ending.outcome = ANSWERED
    call.sending.provider_failed = UpstreamCutOff("It stopped.")
    ends(written).conclude(call)
    data = written.settlements[0].record["data"]
    assert (data["status"], data["error"]) == ("failure", Reason.UPSTREAM_CUT_OFF)


def test_what_never_got_an_intent_is_blocked_and_what_came_while_the_ledger_was_away_is_a_line() -> None:
    written = Written(away=True)
    ends(written).conclude(scope())
    assert written.settlements == []
    assert written.lines[0]["data"]["error"] == Reason.REFUSED_BY_PROXY
    tried = scope(intent_tried=True)  # whether its row is there nobody knows, so it is settled all the same
    ends(written).conclude(tried)
    assert [each.call_id for each in written.settlements] == [str(tried.call_id)]


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_is_sealed_and_logged_as_its_word(reason: Reason) -> None:
    written = Written()
    call = scope(intent=True)
    call.considered = Considered(decision=Decision(Verdict.DENY, ("no",), "v", "why"))
    ends(written).settle(call, Outcome(Status.BLOCKED, error=reason))
    (settled,) = written.settlements
    document = canonical.parse(canonical.canonical(settled.capsule))
    assert document["outcome"]["error"] == settled.record["data"]["error"] == str(reason) == reason.name.lower()


# --- what is kept of prompt and answer


@pytest.mark.parametrize(
    ("mode", "answer"),
    [
        (ContentMode.HASH, None),
        (ContentMode.FULL, f"I wrote to {MAIL}"),
        (ContentMode.REDACTED, "I wrote to <EMAIL_ADDRESS_"),
    ],
)
async def test_what_is_kept_of_an_answer_is_what_audit_content_says(
    tmp_path: Path, mode: ContentMode, answer: str | None
) -> None:
    case = Case(tmp_path, "pii: {mode: mask}\n", f"write to {MAIL}", mode=mode)
    await case.decide()
    written, call = Written(), case.scope
    call.intent = call.ending.closed = True
    assert call.mask is not None
    (placeholder,) = call.mask.originals
    said = ANSWERED if mode is ContentMode.REDACTED else replace(ANSWERED, answer=f"I wrote to {placeholder}")
    called = ToolCallRecord("mail", f'{{"to":"{MAIL}"}}')
    await ends(written, mode).ended(call, replace(said, tool_calls=(called,)))
    capsule = written.settlements[0].capsule
    kept = capsule["outcome"]["result"]
    assert (kept is None) is (answer is None)
    assert (kept or "").startswith(answer or "")
    (tool,) = capsule["execution"]["tool_calls"]
    assert bool(tool["arguments"]) is (mode is ContentMode.FULL)


async def test_what_cannot_be_redacted_is_not_kept(tmp_path: Path) -> None:
    scanner = Scanner()
    case = Case(tmp_path, "pii: {mode: mask}\n", scanner=scanner, mode=ContentMode.REDACTED)
    await case.decide()
    scanner.fails = ScanFailed(Reason.TIMEOUT)
    written, call = Written(), case.scope
    call.intent = call.ending.closed = True
    await ends(written, ContentMode.REDACTED).ended(call, ANSWERED)
    assert written.settlements[0].capsule["outcome"]["result"] is None


# --- the intent, which comes before anything is sent


def pipeline(case: Case, written: Written) -> Pipeline:
    return Pipeline(
        written,  # type: ignore[arg-type]
        lambda: case.governance,
        case.gate,  # type: ignore[arg-type]
        case.prices,  # type: ignore[arg-type]
        KEYS,
        case.conversations,  # type: ignore[arg-type]
        lambda _: False,
        StoppedSessions(),
    )


async def test_a_call_is_let_through_once_its_intent_is_committed(tmp_path: Path) -> None:
    case, written = Case(tmp_path, "pii: {mode: mask}\n", f"write to {MAIL}"), Written()
    await pipeline(case, written).admit(case.scope, case.call, case.body)
    assert case.scope.intent
    (intent,) = written.intents
    assert UUID(intent["call_id"]) == case.scope.call_id
    assert intent["decision"] is not None
    assert intent["decision"]["verdict"] == "allow"
    assert MAIL not in str(intent)


async def test_without_an_intent_nothing_goes_and_people_need_not_decide_again(tmp_path: Path) -> None:
    gate, written = Gate(), Written(away=True)
    case = Case(tmp_path, "rules:\n  - {id: ask, when: 'true', then: require_approval}\n", gate=gate)
    with pytest.raises(GovernanceUnavailable):
        await pipeline(case, written).admit(case.scope, case.call, case.body)
    assert not case.scope.intent
    assert len(gate.returned) == 1
    assert case.scope.approval is None


async def test_a_refused_call_has_no_intent(tmp_path: Path) -> None:
    case, written = Case(tmp_path, "rules:\n  - {id: never, when: 'true', then: deny}\n"), Written()
    with pytest.raises(PolicyDenied):
        await pipeline(case, written).admit(case.scope, case.call, case.body)
    assert written.intents == []
    assert case.scope.call is not None
    assert case.scope.call.prompt.hash is not None  # what was asked is recorded all the same


async def test_a_call_ends_under_the_policy_that_it_began_under(tmp_path: Path) -> None:
    case, written = Case(tmp_path, ""), Written()
    (tmp_path / "next").mkdir()
    stricter = Case(tmp_path / "next", "rules:\n  - {id: never, when: 'true', then: deny}\n")
    begun = pipeline(case, written)
    case.scope.governance = None
    await begun.admit(case.scope, case.call, case.body)
    case.governance = stricter.governance
    await begun.admit(case.scope, case.call, case.body)  # the engine may ask about one call again
    assert len(written.intents) == 1
    begun.reconsider(case.scope, "another")
    assert case.scope.let_through is not None
    assert "another" in case.scope.let_through.models
    with pytest.raises(PolicyDenied):
        await begun.admit(scope(), stricter.call, stricter.body)


async def test_each_person_who_agreed_is_in_the_record_and_no_other(tmp_path: Path) -> None:
    case, written = Case(tmp_path, ""), Written()
    await case.decide()
    votes = tuple(Vote(name, None, yes, None, now()) for name, yes in (("ada", True), ("bob", False), ("cyd", True)))
    case.scope.let_through = LetThrough(approval=replace(approval(("ask",)), votes=votes))
    case.scope.intent = True
    ends(written).conclude(case.scope)
    assert [each["approver"] for each in written.settlements[0].capsule["authority"]["chain"]] == ["ada", "cyd"]
