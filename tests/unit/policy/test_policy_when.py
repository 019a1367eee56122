"""A `when` that would not work is a mistake in the file; one that loads answers true or false for every call."""

from __future__ import annotations

import pytest
from gatehouse.policy.check import WhenError, condition
from gatehouse.policy.expression import NotUnderstood, structure_of
from gatehouse.policy.facts import ALL_FACTS, KNOWN_ENTITIES, SAMPLE, Facts


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("caller.taem == 'x'", "caller.taem is not a fact; did you mean caller.team?"),
        ("team == 'x'", "team is not a fact; did you mean caller.team?"),
        ("reqest.model == 'x'", "did you mean request?"),
        ("false && caller.taem == 'x'", "did you mean caller.team?"),
        ("request.stream || true || caller.taem == 'x'", "did you mean caller.team?"),
        ("has(caller.taem)", "did you mean caller.team?"),
        ("caller['taem'] == 'x'", "did you mean caller.team?"),
        ("caller.taem.startsWith('x')", "did you mean caller.team?"),
        ("!(caller.taem in ['x'])", "did you mean caller.team?"),
        ("now.hour < 3 ? true : caller.taem == 'x'", "did you mean caller.team?"),
        ("caller.tags.exists(t, t == caller.taem)", "did you mean caller.team?"),
        ("caller.tags.map(t, t) == ['x'] && t == 'x'", "t is not a fact"),
        ("pii.EMIAL_ADDRESS > 0", "did you mean pii.EMAIL_ADDRESS?"),
        ("request.model.name == 'x'", "request.model has nothing inside"),
        ("caller.team", "caller.team is text, but should be true or false"),
        ("request.max_tokens + 1", "is a number, but should be true or false"),
        ("request.stream && caller.team", "caller.team is text, but should be true or false"),
        ("!caller.team", "caller.team is text"),
        ("now.hour < 3 ? true : 'x'", "is text, but should be true or false"),
        ("caller.team == 3", "caller.team is text and 3 is a number: the two are never equal"),
        ("caller.tags == 'x'", "is a list and 'x' is text: the two are never equal"),
        ("request.stream == 'true'", "the two are never equal"),
        ("false && caller.team > 3", "No such overload"),
        ("cost.estimated_usd * 2 > 1.0", "float * int"),
        ("caller.tags.exists(t, t == 'a' && t > 3)", "t > 3: No such overload"),
        ("request.model.matches('(')", "not a valid regex"),
        ("request.model.lower() == 'x'", "Undefined variable or function: 'lower'"),
        ("request.tools[0] == 'x'", "fails for a call of which little is known"),
        ("1000 / request.max_tokens > 3", "fails for a call of which little is known"),
        ("request.model = 'x'", "cannot be read: 1:15"),
        ("request.model ==", "cannot be read: 1:17"),
        ("(" * 70 + "true" + ")" * 70, "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_a_condition_that_would_not_work_is_refused_when_it_is_loaded(when: str, said: str) -> None:
    with pytest.raises(WhenError) as refused:
        condition(when, KNOWN_ENTITIES)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("when", "paths"),
    [
        ("true", []),
        ('caller.team == "interns" && request.model.startsWith("gpt-4")', ["caller.team", "request.model"]),
        ("size(request.tools) > 0 && request.tools[0] == 'x'", ["request.tools"]),
        ("request.tools.exists(t, t in caller.tags && t.size() > 3)", ["request.tools", "caller.tags"]),
        ("pii['EMAIL_ADDRESS'] > 0 || pii.total > 3", ["pii.EMAIL_ADDRESS", "pii.total"]),
        ("pii.exists(entity, entity.startsWith('US_') && pii[entity] > 0)", ["pii"]),
        ("spend.key_budget_usd > 0.0 && spend.key_usd / spend.key_budget_usd > 0.9", None),
        ("now.weekday in [6, 7] || !(now.hour >= 8 && now.hour < 18)", ["now.weekday", "now.hour"]),
        ("screens.hits.exists(h, h.startsWith('blocked_content/'))", ["screens.hits"]),
        ("request.model.matches(r'^gpt-\\d+$') // the numbered ones", ["request.model"]),
        ("request.temperature > 1.0 && request.max_tokens > 10 && cost.estimated_usd > 1", None),
        ("caller . team\n  == '''x'''", ["caller.team"]),
        ("-now.hour < 3 && !!request.stream", ["now.hour", "request.stream"]),
        ("{'a': caller.team}['a'] == \"\\\"\"", ["caller.team"]),
        ("'caller.taem && x' == caller.user", ["caller.user"]),
    ],
)
def test_a_condition_knows_the_facts_that_it_names(when: str, paths: list[str] | None) -> None:
    found = condition(when, KNOWN_ENTITIES)
    assert paths is None or [".".join(path) for path in found.paths] == paths


@pytest.mark.parametrize("part", ALL_FACTS)
def test_every_documented_fact_is_there_also_when_nothing_is_known(part: str) -> None:
    neutral, sample = Facts().as_dict(), SAMPLE.as_dict()
    assert neutral[part].keys() == sample[part].keys()
    assert {name: type(value) for name, value in neutral[part].items()} == {
        name: type(value) for name, value in sample[part].items()
    }


def test_the_sample_knows_every_fact() -> None:
    """A condition is tried on it; a neutral value there could hide a mistake."""
    sample, neutral = SAMPLE.as_dict(), Facts().as_dict()
    same = [
        f"{part}.{name}"
        for part, values in sample.items()
        for name, value in values.items()
        if value == neutral[part][name] and part != "pii"
    ]
    assert same == []


@pytest.mark.parametrize("text", ["a b", "a.", "f(", "[1", "{1: 2", "a ? b", "a.exists(1, b)", "#", "a..b", "'x", ")"])
def test_what_is_no_expression_is_not_taken_apart(text: str) -> None:
    with pytest.raises(NotUnderstood):
        structure_of(text)
