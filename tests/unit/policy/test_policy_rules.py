"""The strictest verdict wins, observed rules change nothing, and what cannot be evaluated denies."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from gatehouse.core.decision import Decision, Obligation, Verdict
from gatehouse.policy.check import condition
from gatehouse.policy.facts import KNOWN_ENTITIES, SAMPLE, Facts, NowFacts, RequestFacts
from gatehouse.policy.model import RulePolicy
from gatehouse.policy.rules import Rule, RuleSet
from hypothesis import given
from hypothesis import strategies as st

CONDITIONS = (
    "true",
    "false",
    "caller.team == 'interns'",
    "request.model.startsWith('gpt-4')",
    "cost.estimated_usd > 5.0",
    "'shell' in request.tools",
    "now.hour < 6",
    "100 / now.hour > 10 && request.stream",  # fails at midnight: a rule that cannot always be evaluated
)


def rule(identity: str, when: str, then: str, **more: object) -> Rule:
    policy = RulePolicy.model_validate({"id": identity, "when": when, "then": then, **more})
    if when == CONDITIONS[-1]:
        # Refused on load for that very reason; built past the check to see what happens all the same.
        return Rule(
            policy, replace(condition("now.hour < 0 || request.stream", KNOWN_ENTITIES), program=_compiled(when))
        )
    return Rule(policy, condition(when, KNOWN_ENTITIES))


def _compiled(when: str):
    import cel

    return cel.compile(when)


ids = st.integers(0, 10_000).map(lambda number: f"rule-{number}")
rules = st.lists(
    st.builds(
        rule,
        ids,
        st.sampled_from(CONDITIONS),
        st.sampled_from(["deny", "require_approval", "allow"]),
        mode=st.sampled_from(["enforce", "enforce", "observe"]),
    ),
    max_size=12,
    unique_by=lambda each: each.id,
)
facts = st.builds(
    lambda team, model, usd, tools, hour, stream: Facts.from_mapping(
        {
            "caller": {"team": team},
            "request": {"model": model, "tools": tools, "stream": stream},
            "cost": {"estimated_usd": usd},
            "now": {"hour": hour},
        }
    ),
    st.sampled_from(["", "interns", "research"]),
    st.sampled_from(["", "gpt-4o", "demo"]),
    st.floats(0, 10),
    st.lists(st.sampled_from(["shell", "search"]), max_size=2),
    st.integers(0, 23),
    st.booleans(),
)


@given(rules, facts, st.randoms(use_true_random=False))
def test_the_order_of_the_rules_never_changes_the_verdict(some: list[Rule], known: Facts, random) -> None:
    other = list(some)
    random.shuffle(other)
    one, two = RuleSet(some).evaluate(known), RuleSet(other).evaluate(known)
    assert one.verdict is two.verdict
    assert {each.id for each in one.matched} == {each.id for each in two.matched}


@given(rules, facts)
def test_observed_rules_never_change_what_happens(some: list[Rule], known: Facts) -> None:
    with_them, without = RuleSet(some).evaluate(known), RuleSet([r for r in some if r.enforced]).evaluate(known)
    assert (with_them.verdict, with_them.matched, with_them.reason, with_them.obligation) == (
        without.verdict,
        without.matched,
        without.reason,
        without.obligation,
    )
    assert not set(with_them.observed) & {each.id for each in with_them.matched}


@given(rules, facts, st.integers(0, 12))
def test_a_matching_deny_always_denies(some: list[Rule], known: Facts, place: int) -> None:
    some.insert(place, rule("the-deny", "now.hour >= 0", "deny"))
    ruling = RuleSet(some).evaluate(known)
    assert ruling.verdict is Verdict.DENY
    assert "the-deny" in [each.id for each in ruling.matched]
    assert ruling.obligation == Obligation()


@given(rules, facts)
def test_every_matching_rule_is_kept_in_the_files_order(some: list[Rule], known: Facts) -> None:
    ruling = RuleSet(some).evaluate(known)
    kept = [each.id for each in ruling.matched]
    assert kept == [each.id for each in some if each.id in kept]


def test_no_rules_allow() -> None:
    ruling = RuleSet().evaluate(Facts())
    assert (ruling.verdict, ruling.matched, ruling.reason) == (Verdict.ALLOW, (), None)


def test_a_rule_that_cannot_be_evaluated_denies_and_is_named() -> None:
    midnight = Facts(RequestFacts(stream=True), now=NowFacts(0))
    broken = rule("broken", CONDITIONS[-1], "allow")
    decision = RuleSet([rule("fine", "true", "allow"), broken]).evaluate(midnight).decision("v")
    assert decision.verdict is Verdict.DENY
    assert decision.policies == ("fine", "broken")
    assert decision.reason == "Rule broken could not be evaluated."


MIDNIGHT = Facts(RequestFacts(stream=True), now=NowFacts(0))


@pytest.mark.parametrize(
    ("when", "known", "says"),
    [
        (CONDITIONS[-1], MIDNIGHT, "ivi"),  # by zero
        ("'yes'", MIDNIGHT, "the result is str, not true or false"),
        ("request.model == 'x'", Facts(RequestFacts(model="\ud800")), "the facts cannot be read: "),
    ],
)
def test_an_observed_rule_that_cannot_be_evaluated_is_reported_and_denies_nothing(
    when: str, known: Facts, says: str
) -> None:
    broken = rule("broken", when if when != "'yes'" else "request.stream", "deny", mode="observe")
    if when == "'yes'":
        broken = replace(broken, condition=replace(broken.condition, program=_compiled(when)))
    rules_ = RuleSet([broken])
    ruling = rules_.evaluate(known)
    assert (ruling.verdict, ruling.observed) == (Verdict.ALLOW, ())
    ((identity, why),) = ruling.errors
    assert identity == "broken"
    assert says in why
    assert [each.matched for each in rules_.results(known)] == [False]


def test_a_result_that_is_neither_true_nor_false_denies() -> None:
    odd = rule("odd", "true", "allow")
    odd = replace(odd, condition=replace(odd.condition, program=_compiled("'yes'")))
    ruling = RuleSet([odd]).evaluate(Facts())
    assert ruling.verdict is Verdict.DENY
    assert ruling.errors == (("odd", "the result is str, not true or false"),)


@pytest.mark.parametrize("model", ["gpt-4\ud800", "a" * 1_000_000])
def test_whatever_a_caller_writes_never_makes_the_engine_raise(model: str) -> None:
    ruling = RuleSet([rule("mine", "request.model == 'x'", "allow")]).evaluate(Facts(RequestFacts(model=model)))
    assert ruling.verdict is (Verdict.DENY if "\ud800" in model else Verdict.ALLOW)
    assert all(re.fullmatch(r"the facts cannot be read: (?!None).+", why) for _, why in ruling.errors)


def test_a_rule_counts_what_the_operator_has_had_found_too() -> None:
    own = frozenset({*KNOWN_ENTITIES, "BADGE"})
    counted = Rule(rule("mine", "true", "deny").policy, condition("pii['BADGE'] > 1", own))
    assert RuleSet([counted], own).evaluate(Facts(pii={"BADGE": 2})).verdict is Verdict.DENY
    assert RuleSet([counted], own).evaluate(Facts(pii={"BADGE": 1})).verdict is Verdict.ALLOW
    there = Rule(counted.policy, condition("pii.exists(name, name == 'BADGE')", own))
    assert RuleSet([there], own).evaluate(Facts()).verdict is Verdict.DENY
    assert RuleSet([there]).evaluate(Facts()).verdict is Verdict.ALLOW


def test_a_condition_is_given_only_the_facts_that_it_names() -> None:
    class Dear(Facts):
        def __getattribute__(self, name: str) -> object:
            assert name not in ("caller", "cost", "now")
            return super().__getattribute__(name)

    assert RuleSet([rule("mine", "request.stream", "deny")]).evaluate(Dear()).errors == ()


@pytest.mark.parametrize("number", [10**30, -(10**30), 2**63])
def test_a_number_that_is_too_large_does_not_slip_under_a_rule(number: int) -> None:
    limit = rule("limit", "request.max_tokens > 1000 || request.max_tokens < 0", "deny")
    assert RuleSet([limit]).evaluate(Facts(RequestFacts(max_tokens=number))).verdict is Verdict.DENY


def test_the_reason_is_that_of_the_first_rule_with_the_strictest_verdict() -> None:
    some = [
        rule("a", "true", "allow", reason="allowed"),
        rule("b", "true", "deny"),
        rule("c", "true", "deny", reason="because"),
        rule("d", "true", "require_approval", reason="ask"),
        rule("e", "true", "deny", reason="later"),
    ]
    assert RuleSet(some).evaluate(SAMPLE).reason == "because"


def test_obligations_are_merged() -> None:
    some = [
        rule("a", "true", "allow", obligations={"max_tokens": 900, "tag": "one"}),
        rule("b", "true", "allow", obligations={"downgrade_to": "small", "tag": "two"}),
        rule("c", "true", "require_approval", obligations={"max_tokens": 500, "downgrade_to": "tiny", "tag": "one"}),
        rule("d", "false", "allow", obligations={"max_tokens": 1, "mask": True}),
        rule("e", "true", "allow", mode="observe", obligations={"max_tokens": 2, "mask": True}),
    ]
    ruling = RuleSet(some).evaluate(SAMPLE)
    assert ruling.obligation == Obligation(False, "small", 500, ("one", "two"))
    assert ruling.observed == ("e",)


def test_the_pipeline_gets_all_that_was_ruled() -> None:
    some = [
        rule("a", "true", "require_approval", reason="ask", obligations={"max_tokens": 900}),
        rule("b", "true", "deny", mode="observe"),
    ]
    assert RuleSet(some).evaluate(SAMPLE).decision("v7") == Decision(
        Verdict.REQUIRE_APPROVAL, ("a",), "v7", "ask", ("b",), Obligation(max_tokens=900)
    )


def test_a_denied_call_has_no_obligations() -> None:
    some = [
        rule("a", "true", "allow", obligations={"max_tokens": 900, "downgrade_to": "small", "mask": True}),
        rule("b", "true", "deny"),
    ]
    assert RuleSet(some).evaluate(SAMPLE).obligation == Obligation()


obligations = st.builds(
    Obligation,
    st.booleans(),
    st.none() | st.sampled_from(["small", "tiny"]),
    st.none() | st.integers(1, 9),
    st.lists(st.sampled_from("abc"), max_size=3).map(tuple),
)


@given(st.lists(obligations, max_size=6))
def test_merging_is_the_same_in_one_step_or_many(some: list[Obligation]) -> None:
    merged = Obligation()
    for each in some:
        merged = Obligation.merged([merged, each])
    assert merged == Obligation.merged(some)
    assert Obligation.merged([merged, merged]) == merged
