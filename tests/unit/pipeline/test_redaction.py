"""Which findings of a text are masked, and how those that overlap become one."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from gatehouse.core.decision import Decision, Verdict
from gatehouse.dialects.canonical import CallerNames, canonical_request
from gatehouse.guards import findings as module
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.scan import Scan
from gatehouse.guards.screens.hits import Hit
from gatehouse.pipeline.redaction import SECRET, _is_secret, mask
from gatehouse.policy.load import load_policy
from hypothesis import given
from hypothesis import strategies as st

from tests.support.masking import PLACEHOLDERS

MAIL = "EMAIL_ADDRESS"


def merged(findings: list[Finding]) -> list[Finding]:
    return module.merged(findings, _is_secret)


def found(*places: tuple[str, int, int]) -> list[Finding]:
    return [Finding(entity, start, end, 1.0) for entity, start, end in places]


def test_findings_apart_stay_as_they_are() -> None:
    apart = found((MAIL, 0, 3), (SECRET, 3, 5), (MAIL, 7, 9))
    assert merged(apart[::-1]) == apart


def test_a_secret_names_what_overlaps_it_and_nothing_of_either_is_left() -> None:
    # The password of an address, which looks like the beginning of a mail address.
    assert merged(found((SECRET, 4, 10), (MAIL, 4, 20))) == found((SECRET, 4, 20))
    assert merged(found((MAIL, 0, 6), (SECRET, 4, 10))) == found((SECRET, 0, 10))
    assert merged(found((SECRET, 0, 6), (MAIL, 4, 10))) == found((SECRET, 0, 10))
    assert merged(found((SECRET, 0, 9), (MAIL, 2, 4), (MAIL, 8, 12))) == found((SECRET, 0, 12))


@given(st.lists(st.tuples(st.sampled_from([MAIL, SECRET]), st.integers(0, 30), st.integers(1, 9))))
def test_every_character_that_was_found_is_masked_once(places: list[tuple[str, int, int]]) -> None:
    findings = found(*((entity, start, start + size) for entity, start, size in places))
    now = merged(findings)
    assert {at for each in findings for at in range(each.start, each.end)} == {
        at for each in now for at in range(each.start, each.end)
    }
    assert all(one.end <= other.start for one, other in pairwise(now))


def sent(policy: str, pii: PiiConfig | None, scan: Scan) -> tuple[str, dict[str, str]]:
    """The text of a request as it is sent, and what its placeholders stand for."""
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "key k3y of ada"}]}
    request = canonical_request("acompletion", body, CallerNames.of(body))
    loaded = load_policy(Path("policy.yaml"), f"version: 1\n{policy}".encode()).policy
    governance: Any = SimpleNamespace(pii=pii, masking=pii, policy=loaded)
    scans = [scan if part.text.startswith("key") else Scan() for part in request.scanned]
    masked = mask(governance, Decision(Verdict.ALLOW, (), "v"), request, scans, PLACEHOLDERS)
    if masked is None:
        return cast(str, body["messages"][0]["content"]), {}
    changed, way_back, _ = masked
    return cast(str, changed.fields["messages"][0]["content"]), way_back.originals


SECRET_HIT = Scan((), (Hit("secrets", "github_token", 4, 7, 1.0), Hit("prompt_injection", "x", 0, 3, 1.0)))


@pytest.mark.parametrize("mode", ["mask", "block"])
def test_a_secret_that_was_not_refused_is_sent_as_a_placeholder(mode: str) -> None:
    placeholder = PLACEHOLDERS.of(SECRET, "k3y")
    assert sent(f"screens: {{secrets: {mode}}}\n", None, SECRET_HIT) == (
        f"key {placeholder} of ada",
        {placeholder: "k3y"},
    )


@pytest.mark.parametrize("policy", ["screens: {secrets: observe}\n", "screens: {prompt_injection: block}\n", ""])
def test_a_secret_that_is_only_observed_stays(policy: str) -> None:
    assert sent(policy, None, SECRET_HIT) == ("key k3y of ada", {})


@pytest.mark.parametrize(("mode", "is_masked"), [(Mode.MASK, True), (Mode.BLOCK, True), (Mode.OBSERVE, False)])
def test_data_that_blocks_and_was_not_refused_is_masked_too(mode: Mode, is_masked: bool) -> None:
    config = PiiConfig(entities={"PERSON": mode})
    text, _ = sent("", config, Scan((Finding("PERSON", 11, 14, 1.0),)))
    assert text == f"key k3y of {PLACEHOLDERS.of('PERSON', 'ada') if is_masked else 'ada'}"
