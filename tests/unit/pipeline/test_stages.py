"""Each stage by itself decides what a hit, a finding or a failed scan means for a call."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from gatehouse.core.call import Caller, GovernedCall
from gatehouse.core.errors import ContentBlocked, GovernanceUnavailable, PiiBlocked, TooManyRequests
from gatehouse.core.keys import DerivedKey
from gatehouse.core.reasons import Reason
from gatehouse.dialects.canonical import CallerNames, canonical_request
from gatehouse.dialects.parts import TextPart
from gatehouse.guards.findings import Finding, ScanFailed
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.scan import NOTHING, Scan
from gatehouse.guards.screens.hits import Hit
from gatehouse.pipeline import call_facts
from gatehouse.pipeline.screening import forbidden, not_scanned, personal_data, sealed
from gatehouse.policy.facts import Facts, RequestFacts
from gatehouse.policy.limits import Estimate
from gatehouse.policy.model import PiiPolicy, Policy, ScreensPolicy

AT = datetime(2026, 11, 29, tzinfo=UTC)


def screens(**settings: Any) -> ScreensPolicy:
    return ScreensPolicy.model_validate(settings)


def part(text: str = "abcdef", at: int = 0, role: str = "user", sealed: bool = False) -> TextPart:
    return TextPart(("messages", at, "content"), text, role, sealed)


def hit(screen: str) -> Scan:
    return Scan((), (Hit(screen, "rule", 0, 3, 1.0),))


@pytest.mark.parametrize("screen", ["secrets", "prompt_injection", "blocked_content/weapons"])
def test_a_hit_of_a_screen_that_blocks_refuses_the_call_and_names_the_screen(screen: str) -> None:
    policy = screens(secrets="block", prompt_injection="block")
    with pytest.raises(ContentBlocked, match=screen) as refused:
        forbidden(policy, [part(), part(at=3)], [NOTHING, hit(screen)], [False, False])
    assert refused.value.policies == (f"screens/{screen}",)
    assert refused.value.where == "messages[3].content"
    assert "messages[3].content: rule" in refused.value.message
    assert refused.value.body(None)["error"]["gatehouse"]["where"] == "messages[3].content"


@pytest.mark.parametrize("screen", ["secrets", "prompt_injection"])
def test_a_hit_of_a_screen_that_observes_is_a_fact_and_no_refusal(screen: str) -> None:
    forbidden(screens(secrets="observe", prompt_injection="observe"), [part()], [hit(screen)], [False])
    forbidden(screens(secrets="block", prompt_injection="block"), [part()], [NOTHING], [False])


def test_a_secret_of_an_older_turn_ends_no_session() -> None:
    forbidden(screens(secrets="block"), [part()], [hit("secrets")], [True])
    with pytest.raises(ContentBlocked):
        forbidden(screens(prompt_injection="block"), [part()], [hit("prompt_injection")], [True])


@pytest.mark.parametrize("mode", ["mask", "block"])
def test_a_secret_that_cannot_be_replaced_is_refused_in_any_turn(mode: str) -> None:
    with pytest.raises(ContentBlocked, match="rule") as refused:
        sealed(screens(secrets=mode), [part(sealed=True)], [hit("secrets")])
    assert refused.value.where == "messages[0].content"
    sealed(screens(secrets=mode), [part()], [hit("secrets")])
    sealed(screens(secrets="observe"), [part(sealed=True)], [hit("secrets")])


@pytest.mark.parametrize("mode", [Mode.BLOCK, Mode.MASK, Mode.OBSERVE])
def test_personal_data_is_refused_where_its_mode_is_block(mode: Mode) -> None:
    config = PiiConfig(entities={"EMAIL_ADDRESS": mode})
    scans = [Scan((Finding("EMAIL_ADDRESS", 0, 5, 1.0),), ())]
    if mode is not Mode.BLOCK:
        personal_data(config, [part()], scans, [False])
        return
    with pytest.raises(PiiBlocked, match="EMAIL_ADDRESS") as refused:
        personal_data(config, [part()], scans, [False])
    assert refused.value.policies == ("pii/EMAIL_ADDRESS",)
    assert refused.value.where == "messages[0].content"
    personal_data(config, [part()], scans, [True])


DENIES = [
    ({"pii": PiiPolicy(on_error="deny")}, PiiBlocked),
    ({"screens": ScreensPolicy(on_error="deny")}, ContentBlocked),
    ({"pii": PiiPolicy(on_error="allow"), "screens": ScreensPolicy(on_error="deny")}, ContentBlocked),
    ({"pii": PiiPolicy(on_error="deny"), "screens": ScreensPolicy(on_error="allow")}, PiiBlocked),
]


@pytest.mark.parametrize(("said", "error"), DENIES)
@pytest.mark.parametrize("reason", [Reason.TOO_LONG, Reason.TIMEOUT])
def test_a_text_that_cannot_be_scanned_is_refused(said: dict[str, Any], error: type[Exception], reason: Any) -> None:
    assert isinstance(not_scanned(Policy(version=1, **said), ScanFailed(reason)), error)


@pytest.mark.parametrize(("said", "_error"), DENIES)
def test_without_a_scanner_a_call_is_refused_until_there_is_one(said: dict[str, Any], _error: Any) -> None:
    refusal = not_scanned(Policy(version=1, **said), ScanFailed(Reason.CLOSED))
    assert isinstance(refusal, GovernanceUnavailable)


@pytest.mark.parametrize("on_error", ["deny", "allow"])
def test_what_waits_in_vain_because_of_its_own_key_never_passes_unscanned(on_error: Any) -> None:
    policy = Policy(version=1, pii=PiiPolicy(on_error=on_error), screens=ScreensPolicy(on_error=on_error))
    refusal = not_scanned(policy, ScanFailed(Reason.CROWDED))
    assert isinstance(refusal, TooManyRequests)
    assert refusal.status == 429
    assert "retry-after" in refusal.headers


def test_only_what_policy_names_passes_unscanned() -> None:
    allows = Policy(version=1, pii=PiiPolicy(on_error="allow"), screens=ScreensPolicy(on_error="allow"))
    assert not_scanned(allows, ScanFailed(Reason.TIMEOUT)) is None


@pytest.mark.parametrize(
    ("scan", "is_hidden"),
    [
        (Scan((Finding("EMAIL_ADDRESS", 0, 5, 1.0),), ()), True),
        (Scan((Finding("CREDIT_CARD", 0, 5, 1.0),), ()), True),
        (Scan((Finding("PERSON", 0, 5, 1.0),), ()), False),
        (hit("secrets"), True),
        (hit("prompt_injection"), False),
        (Scan(), False),
    ],
    ids=["masked", "blocked", "observed", "secret", "injection", "nothing"],
)
def test_an_id_in_which_something_was_found_is_a_keyed_hash_in_records(scan: Scan, is_hidden: bool) -> None:
    body = {"model": "m", "input": "hello", "tools": [{"type": "shell", "file_ids": ["ada@example.com", "file-1"]}]}
    request = canonical_request("aresponses", body, CallerNames.of(body))
    scans = [scan if part.text == "ada@example.com" else Scan() for part in request.scanned]
    config = PiiConfig(entities={"EMAIL_ADDRESS": Mode.MASK, "CREDIT_CARD": Mode.BLOCK, "PERSON": Mode.OBSERVE})
    hidden = call_facts.hidden_ids(request, scans, config, DerivedKey("0" * 8, b"k" * 32))
    facts = Facts(RequestFacts(reaches=("file:ada@example.com", "file:file-1")))
    recorded = facts.renamed(hidden).recorded()["request"]["reaches"]
    assert recorded[1] == "file:file-1"
    assert recorded[0].startswith("file:hmac:" if is_hidden else "file:ada@")


def test_of_a_request_whose_texts_nobody_has_scanned_no_id_is_a_fact() -> None:
    body = {"model": "m", "input": "hello", "tools": [{"type": "shell", "file_ids": ["ada@example.com"]}]}
    request = canonical_request("aresponses", body, CallerNames.of(body))
    call = GovernedCall(UUID(int=0), AT, "/v1/responses", "aresponses", "m", stream=False, caller=Caller())
    estimate = Estimate("m", 1, 1, None, None, None, "none")
    scans = [Scan() for _ in request.scanned]
    assert call_facts.facts_of(call, request, estimate, scans, AT).request.reaches == ("file:ada@example.com",)
    assert call_facts.facts_of(call, request, estimate, None, AT).request.reaches == ("file",)
