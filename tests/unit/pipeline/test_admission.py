"""Admission keeps the order of its stages, records refusals at each, and handles edits and other models."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gatehouse.approvals.gate import ApprovalRequest
from gatehouse.approvals.model import Approval, Edit
from gatehouse.capsule.document import ContentMode
from gatehouse.core.call import Attempt
from gatehouse.core.decision import Verdict
from gatehouse.core.errors import (
    ApprovalRejected,
    ContentBlocked,
    GovernanceError,
    LimitExceeded,
    PiiBlocked,
    PolicyDenied,
)
from gatehouse.core.reasons import Reason
from gatehouse.guards.findings import ScanFailed
from gatehouse.pipeline import admission
from gatehouse.pipeline.scope import LetThrough

from tests.support.admission import MAIL, Case, Gate, Scanner, approval

LIMIT = "limits: {max_cost_per_request_usd: 1.5}\n"
PII = "pii: {mode: mask}\n"
SCREENS = "screens: {prompt_injection: block}\n"
ASK = "  - {id: ask, when: 'true', then: require_approval}\n"
RULES = "rules:\n"


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the stages that a call has begun."""
    begun: list[str] = []

    class Seconds:
        def labels(self, stage: str) -> Any:
            @contextmanager
            def time() -> Any:
                begun.append(stage)
                yield

            return type("Timer", (), {"time": staticmethod(time)})

    monkeypatch.setattr(admission.metrics, "stage_seconds", Seconds())
    return begun


ALL = ["read", "limits", "scan", "policy", "mask", "approval"]


async def test_the_stages_come_in_one_order(tmp_path: Path, stages: list[str]) -> None:
    case = Case(tmp_path, PII + SCREENS + RULES + ASK, f"write to {MAIL}")
    await case.decide()
    assert stages == ALL
    assert case.scope.let_through is not None


REFUSED_AT = {
    "read": ("", "hello", {"tools": [{"type": "mcp", "server_url": "https://mcp.example"}]}, GovernanceError),
    "limits": (LIMIT, "hello", {"model": "dear"}, LimitExceeded),
    "scan": (SCREENS, "OVERRIDE", {}, ContentBlocked),
    "policy": (PII + RULES + "  - {id: never, when: 'true', then: deny}\n", MAIL, {}, PolicyDenied),
    "mask": (PII + RULES + ASK, MAIL, {"call_type": "aresponses", "previous_response_id": "resp_1"}, GovernanceError),
    "approval": (PII + RULES + ASK, MAIL, {}, ApprovalRejected),
}


@pytest.mark.parametrize("stage", REFUSED_AT)
async def test_a_refusal_ends_the_stages_and_lets_nothing_through(
    tmp_path: Path, stages: list[str], stage: str
) -> None:
    policy, text, fields, error = REFUSED_AT[stage]
    gate = Gate(answer=ApprovalRejected("A person said no."))
    case = Case(tmp_path, policy, text, gate=gate, **fields)
    case.conversations.away = True
    with pytest.raises(error):
        await case.decide()
    assert stages == ALL[: ALL.index(stage) + 1]
    assert case.scope.let_through is None
    assert bool(case.gate.asked) is (stage == "approval")
    if stage not in ("mask", "approval"):
        assert case.text == text


@pytest.mark.parametrize(
    ("policy", "text", "policies"),
    [
        (LIMIT, "hello", ("limits",)),
        (SCREENS, "OVERRIDE", ("screens/prompt_injection",)),
        ("pii: {mode: block}\n", MAIL, ("pii/EMAIL_ADDRESS",)),
        (RULES + "  - {id: never, when: 'true', then: deny}\n", "hello", ("never",)),
    ],
    ids=["limits", "screens", "pii", "rule"],
)
async def test_a_refused_call_is_recorded_with_what_refused_it(
    tmp_path: Path, policy: str, text: str, policies: tuple[str, ...]
) -> None:
    case = Case(tmp_path, policy, text, model="dear")
    with pytest.raises(GovernanceError):
        await case.decide()
    considered = case.scope.considered
    assert considered.decision is not None
    assert (considered.decision.verdict, considered.decision.policies) == (Verdict.DENY, policies)
    assert considered.facts is not None
    assert considered.facts.request.model == "dear"


async def test_a_person_who_says_no_does_not_hide_the_rule_that_asked(tmp_path: Path) -> None:
    case = Case(tmp_path, RULES + ASK, gate=Gate(answer=ApprovalRejected("A person said no.")))
    with pytest.raises(ApprovalRejected):
        await case.decide()
    decision = case.scope.considered.decision
    assert decision is not None
    assert (decision.verdict, decision.policies) == (Verdict.REQUIRE_APPROVAL, ("ask",))


@pytest.mark.parametrize(
    ("policy", "error"),
    [
        ("pii: {mode: mask, on_error: deny}\n", PiiBlocked),
        ("screens: {prompt_injection: block, on_error: deny}\n", ContentBlocked),
        ("pii: {mode: mask, on_error: allow}\n", None),
    ],
    ids=["pii denies", "screens deny", "allowed by name"],
)
async def test_what_cannot_be_scanned_goes_on_only_where_policy_says_so(
    tmp_path: Path, policy: str, error: type[GovernanceError] | None
) -> None:
    case = Case(tmp_path, policy, MAIL, scanner=Scanner(fails=ScanFailed(Reason.TIMEOUT)))
    if error is not None:
        with pytest.raises(error):
            await case.decide()
        assert case.scope.let_through is None
        return
    await case.decide()
    assert case.text == MAIL


async def test_people_are_asked_about_the_masked_request(tmp_path: Path) -> None:
    case = Case(tmp_path, PII + RULES + ASK, f"write to {MAIL}")
    await case.decide()
    (asked,) = case.gate.asked
    assert MAIL not in f"{asked.body}{asked.summary}{case.body}"
    assert set(asked.values.values()) == {MAIL}
    assert case.replaced == {f"write to {MAIL}": case.text}
    assert case.scope.mask is not None
    assert case.scope.mask.originals == asked.values


@pytest.mark.parametrize("mode", ContentMode)
async def test_what_is_kept_of_a_prompt_is_what_audit_content_says(tmp_path: Path, mode: ContentMode) -> None:
    case = Case(tmp_path, PII, f"write to {MAIL}", mode=mode)
    await case.decide()
    assert case.scope.call is not None
    text = case.scope.call.prompt.text
    assert (text is None) is (mode is ContentMode.HASH)
    assert (MAIL in (text or "")) is (mode is ContentMode.FULL)


EDITS = f"""{LIMIT}rules:
  - {{id: no-claude, when: 'request.model == "claude"', then: deny, reason: Claude is not for you.}}
  - {{id: four, when: 'request.model == "four"', then: require_approval}}
  - {{id: shorter, when: 'request.model == "long"', then: allow, obligations: {{max_tokens: 5}}}}
  - {{id: ask, when: 'true', then: require_approval}}
"""


async def test_an_edit_is_what_is_sent_and_the_only_model_that_it_may_go_to(tmp_path: Path) -> None:
    case = Case(tmp_path, EDITS, gate=Gate(Edit(model="small", max_tokens=7)))
    await case.decide()
    passed, considered = case.scope.let_through, case.scope.considered
    assert (case.body["model"], case.body["max_tokens"]) == ("small", 7)
    assert passed is not None
    assert (passed.models, passed.attempt_usd) == ({"small"}, 0.5)
    assert considered.facts is not None
    assert considered.facts.request.model == "small"
    assert considered.request is not None
    assert considered.request.model == "small"


@pytest.mark.parametrize(
    ("model", "usd", "why"),
    [
        ("claude", 0.5, "Claude is not for you."),
        ("four", 0.5, "approval of others"),
        ("long", 0.5, "would change"),
        ("small", 1.25, "would cost more"),
        ("small", 9.0, "more than the"),
        ("forbidden", 0.5, "your key may not use"),
    ],
)
async def test_an_edit_that_the_policy_does_not_allow_is_refused(
    tmp_path: Path, model: str, usd: float, why: str
) -> None:
    async def may_use(name: str) -> bool:
        return name != "forbidden"

    case = Case(tmp_path, EDITS, gate=Gate(Edit(model=model)), may_use=may_use)
    case.prices.usd[model] = usd
    with pytest.raises(GovernanceError, match=why):
        await case.decide()
    assert case.scope.let_through is None


OTHERS = """rules:
  - {id: no-claude, when: 'request.model == "claude"', then: deny}
  - {id: ask, when: 'request.model == "dear"', then: require_approval}
"""


async def test_a_call_goes_to_another_model_that_the_rules_allow(tmp_path: Path) -> None:
    case = Case(tmp_path, OTHERS)
    await case.decide()
    case.admission.reconsider(case.scope, "small")
    assert case.scope.let_through is not None
    assert case.scope.let_through.models == {"m", "small"}


@pytest.mark.parametrize(
    ("model", "approved", "goes"),
    [
        ("claude", None, False),
        ("claude", approval(("no-claude", "ask")), False),
        ("dear", None, False),
        ("dear", approval(("other",)), False),
        ("dear", approval(("ask",)), True),
        ("dear", approval(("ask",), Edit(model="small")), False),
        ("dear", approval(("ask",), Edit(max_tokens=5)), True),
    ],
    ids=["denied", "denied though approved", "not approved", "of another rule", "approved", "another model", "shorter"],
)
async def test_a_call_goes_to_another_model_only_under_an_approval_for_it(
    tmp_path: Path, model: str, approved: Any, goes: bool
) -> None:
    case = Case(tmp_path, OTHERS)
    await case.decide()
    case.scope.let_through = LetThrough(frozenset(("m",)), approval=approved)
    if goes:
        case.admission.reconsider(case.scope, model)
        assert model in case.scope.let_through.models
        return
    with pytest.raises(PolicyDenied):
        case.admission.reconsider(case.scope, model)
    assert case.scope.considered.decision is not None
    assert case.scope.considered.decision.verdict is not Verdict.ALLOW
    assert case.scope.let_through.models == {"m"}


@pytest.mark.parametrize(("unanswered", "goes"), [(0, True), (1, False)])
async def test_attempts_that_may_be_billed_count_toward_the_limit(tmp_path: Path, unanswered: int, goes: bool) -> None:
    case = Case(tmp_path, LIMIT)
    await case.decide()
    case.scope.sending.attempts = [Attempt("m", unanswered=True)] * unanswered + [Attempt("m")]
    if goes:
        case.admission.reconsider(case.scope, "m")
        return
    with pytest.raises(LimitExceeded):
        case.admission.reconsider(case.scope, "m")


async def test_only_a_call_that_was_let_through_says_what_it_may_cost(tmp_path: Path) -> None:
    case = Case(tmp_path, "")
    assert case.scope.let_through is None
    await case.decide()
    assert case.scope.let_through is not None
    assert (case.scope.let_through.attempt_usd, case.scope.let_through.input_usd) == (1.0, 0.9)


async def test_what_is_known_of_a_held_call_is_known_while_it_is_held(tmp_path: Path) -> None:
    """A stream that is kept alive begins its answer during the hold, and a client may leave then."""
    held: list[tuple[Any, ...]] = []

    class Holds(Gate):
        async def admit(self, asked: ApprovalRequest) -> Approval:
            considered, mask = case.scope.considered, case.scope.mask
            held.append((considered.decision and considered.decision.verdict, considered.facts, mask))
            return await super().admit(asked)

    case = Case(tmp_path, PII + RULES + ASK, f"write to {MAIL}", gate=Holds())
    await case.decide()
    ((verdict, facts, mask),) = held
    assert verdict is Verdict.REQUIRE_APPROVAL
    assert facts.pii == {"EMAIL_ADDRESS": 1}
    assert mask is not None
    assert mask is case.scope.mask
