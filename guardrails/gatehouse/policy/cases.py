"""Tests of a policy that its author writes: facts in; verdict, rules and what the other stages do out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from gatehouse.core.errors import SetupError
from gatehouse.policy.document import Document, DocumentError, Problem, did_you_mean, read_document
from gatehouse.policy.facts import Facts
from gatehouse.policy.model import Policy, Section, Text
from gatehouse.policy.rules import RuleSet, Ruling
from gatehouse.policy.stages import Outcome, outcome, stage_names


class ExpectedObligation(Section):
    """State what must be done to the call; a key that is left out must not be required."""

    mask: bool = False
    downgrade_to: str | None = None
    max_tokens: int | None = None
    tags: tuple[str, ...] = ()


class Expected(Section):
    """State the expected result. Keys that are left out are not compared."""

    verdict: str = Field(pattern="^(allow|require_approval|deny)$")
    rules: tuple[str, ...] | None = Field(
        default=None, description="Ids of all rules that match, in the file's order, or the stage that refuses."
    )
    observed: tuple[str, ...] | None = Field(default=None, description="Those of the ids in `mode: observe`.")
    reason: str | None = None
    obligations: ExpectedObligation | None = None
    stages: dict[str, Literal["refuses", "may refuse", "masks", "observes", "nothing"]] | None = Field(
        default=None, description="What each of these stages does."
    )


class Case(Section):
    """Describe one call."""

    name: Text
    facts: dict[str, Any] = Field(default={}, description="The facts that matter; all others are neutral.")
    expect: Expected


class Cases(Section):
    """Hold the whole file. `policy` is the path of the file under test, relative to this file's folder."""

    policy: Text | None = None
    cases: tuple[Case, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class FailedExpectation:
    """Hold a case's expectation and the different result."""

    what: str
    expected: Any
    got: Any


@dataclass(frozen=True, slots=True)
class Tried:
    """Hold a case with its facts and its line."""

    case: Case
    facts: Facts
    line: int

    def differences(self, policy: Policy, rules: RuleSet) -> list[FailedExpectation]:
        """Return where the gateway decides otherwise than expected; empty when the case passes."""
        return list(_differences(self.case.expect, outcome(policy, rules, self.facts)))


@dataclass(frozen=True, slots=True)
class CaseFile:
    """Hold a file of cases; `policy` is the file under test, if it names one."""

    document: Document
    cases: Cases

    @property
    def policy(self) -> str | None:
        return self.cases.policy

    def prepared(self, policy: Policy, rules: RuleSet) -> list[Tried]:
        """Return the cases, with their facts, rule ids and stages checked against those of the policy.

        Raises:
            DocumentError: with every mistake.
        """
        ids, stages = {rule.id for rule in rules.rules}, stage_names(policy, rules.entities)
        known = {"rules": ids | stages, "observed": ids, "stages": stages}
        tried: list[Tried] = []
        problems: list[Problem] = []
        for index, case in enumerate(self.cases.cases):
            for key, names in known.items():
                kind = "stage" if key == "stages" else "rule"
                for name in set(getattr(case.expect, key) or ()) - names:
                    line = self.document.line_of(("cases", index, "expect", key))
                    problems.append(Problem(line, f"{case.name}: {name} is not a {kind}{did_you_mean(name, names)}"))
            try:
                facts = Facts.from_mapping(case.facts, entities=rules.entities)
            except SetupError as error:
                line = self.document.line_of(("cases", index, "facts"))
                problems.append(Problem(line, f"{case.name}: {str(error).rstrip('.')}"))
            else:
                tried.append(Tried(case, facts, self.document.line_of(("cases", index))))
        if problems:
            raise DocumentError(self.document.path, problems)
        return tried


def read_cases(path: Path) -> CaseFile:
    """Read a file of cases.

    Raises:
        SetupError: it names the file, the line and what was expected.
    """
    document = read_document(path)
    return CaseFile(document, document.validated(Cases))


def _differences(expected: Expected, got: Outcome) -> Iterator[FailedExpectation]:
    if expected.verdict != got.verdict.value:
        yield FailedExpectation("verdict", expected.verdict, got.verdict.value)
    if expected.rules is not None and expected.rules != got.policies:
        yield FailedExpectation("rules", list(expected.rules), list(got.policies))
    does = {each.stage: each.effect.value for each in got.effects}
    for stage, effect in (expected.stages or {}).items():
        if effect != does.get(stage, "nothing"):
            yield FailedExpectation(f"stages.{stage}", effect, does.get(stage, "nothing"))
    if got.ruling is not None:
        yield from _ruled_otherwise(expected, got.ruling)


def _ruled_otherwise(expected: Expected, ruling: Ruling) -> Iterator[FailedExpectation]:
    if expected.observed is not None and expected.observed != ruling.observed:
        yield FailedExpectation("observed", list(expected.observed), list(ruling.observed))
    if expected.reason is not None and expected.reason != ruling.reason:
        yield FailedExpectation("reason", expected.reason, ruling.reason)
    if expected.obligations is not None:
        for name, value in expected.obligations:
            if value != getattr(ruling.obligation, name):
                yield FailedExpectation(f"obligations.{name}", value, getattr(ruling.obligation, name))
    for rule, error in ruling.errors:
        yield FailedExpectation(f"rule {rule}", "true or false", error)
