"""Replay tells what another policy would have decided on what was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from gatehouse.core.decision import Verdict
from gatehouse.core.errors import SetupError
from gatehouse.policy.check import condition
from gatehouse.policy.facts import KNOWN_ENTITIES, SAMPLE, Facts
from gatehouse.policy.model import Policy, RulePolicy
from gatehouse.policy.replay import PastDecision, VerdictChange, replay
from gatehouse.policy.rules import Rule, RuleSet
from hypothesis import given
from hypothesis import strategies as st

POLICY = Policy(version=1)


def rules(**when_then: str) -> RuleSet:
    made = []
    for name, text in when_then.items():
        when, then = text.split(" -> ")
        made.append(
            Rule(RulePolicy.model_validate({"id": name, "when": when, "then": then}), condition(when, KNOWN_ENTITIES))
        )
    return RuleSet(made)


def recorded(call: str, verdict: Verdict, policies: tuple[str, ...], facts: Mapping[str, Any]) -> PastDecision:
    return PastDecision(call, verdict, policies, facts)


def test_what_changes_is_counted_by_verdict_and_by_rule() -> None:
    interns = {"caller": {"team": "interns"}}
    records = [recorded(f"a{n}", Verdict.ALLOW, (), interns) for n in range(7)]
    records += [recorded("b", Verdict.DENY, ("old",), {"caller": {"team": "research"}})]
    records += [recorded("c", Verdict.ALLOW, (), {"caller": {"team": "research"}})]
    found = replay(records, POLICY, rules(interns="caller.team == 'interns' -> deny"))
    assert found.changes == (
        VerdictChange(Verdict.ALLOW, Verdict.DENY, 7, ("a0", "a1", "a2", "a3", "a4")),
        VerdictChange(Verdict.DENY, Verdict.ALLOW, 1, ("b",)),
    )
    assert (found.calls, found.changed, found.gained, found.lost) == (9, 8, {"interns": 7}, {"old": 1})


def test_facts_of_another_version_are_understood_as_far_as_they_go() -> None:
    facts = {"caller": {"team": "x", "shoe_size": 44}, "weather": {"rain": True}, "pii": {"total": 3, "BADGE": 3}}
    found = replay(
        [recorded("a", Verdict.ALLOW, (), facts)], POLICY, rules(x="caller.team == 'x' && pii.total == 0 -> deny")
    )
    assert found.changed == 1


def test_recorded_facts_of_the_wrong_type_are_told() -> None:
    with pytest.raises(SetupError, match=r"caller\.team should be a str"):
        replay([recorded("a", Verdict.ALLOW, (), {"caller": {"team": 3}})], POLICY, rules(x="true -> deny"))


@given(st.sampled_from([SAMPLE, Facts()]))
def test_the_policy_that_decided_changes_nothing(facts: Facts) -> None:
    mine = rules(a="now.hour > 12 -> require_approval", b="caller.team == 'research' -> allow")
    ruling = mine.evaluate(facts)
    record = PastDecision("a", ruling.verdict, tuple(rule.id for rule in ruling.matched), facts.as_dict())
    found = replay([record], POLICY, mine)
    assert (found.changes, found.gained, found.lost, found.errors) == ((), {}, {}, {})
