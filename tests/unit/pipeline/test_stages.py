"""The stages' decisions by themselves: what a hit, a finding or a scan that failed makes of a call."""

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
from gatehouse.guards.findings import Finding, ScanFailed
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.scan import Scan
from gatehouse.guards.screens.hits import Hit
from gatehouse.pipeline import call_facts
from gatehouse.pipeline.screening import enforce_screens, not_scanned, personal_data
from gatehouse.policy.facts import Facts, RequestFacts
from gatehouse.policy.limits import Estimate
from gatehouse.policy.model import PiiPolicy, Policy, ScreensPolicy

AT = datetime(2026, 11, 29, tzinfo=UTC)


def screens(**settings: Any) -> ScreensPolicy:
    return ScreensPolicy.model_validate(settings)


def hit(screen: str) -> Hit:
    return Hit(screen, "rule", 0, 3, 1.0)


@pytest.mark.parametrize("screen", ["secrets", "prompt_injection", "blocked_content/weapons"])
def test_a_hit_of_a_screen_that_blocks_refuses_the_call_and_names_the_screen(screen: str) -> None:
    with pytest.raises(ContentBlocked, match=screen) as refused:
        enforce_screens(screens(secrets="block", prompt_injection="block"), [hit(screen)])
    assert refused.value.policies == (f"screens/{screen}",)


@pytest.mark.parametrize("screen", ["secrets", "prompt_injection"])
def test_a_hit_of_a_screen_that_observes_is_a_fact_and_no_refusal(screen: str) -> None:
    enforce_screens(screens(secrets="observe", prompt_injection="observe"), [hit(screen)])
    enforce_screens(screens(secrets="block", prompt_injection="block"), [])


@pytest.mark.parametrize("mode", [Mode.BLOCK, Mode.MASK, Mode.OBSERVE])
def test_personal_data_is_refused_where_its_mode_is_block(mode: Mode) -> None:
    config = PiiConfig(entities={"EMAIL_ADDRESS": mode})
    scans = [Scan((Finding("EMAIL_ADDRESS", 0, 5, 1.0),), ())]
    if mode is not Mode.BLOCK:
        personal_data(config, scans)
        return
    with pytest.raises(PiiBlocked, match="EMAIL_ADDRESS") as refused:
        personal_data(config, scans)
    assert refused.value.policies == ("pii/EMAIL_ADDRESS",)


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
        (Scan((), (hit("secrets"),)), True),
        (Scan((), (hit("prompt_injection"),)), False),
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
