"""The rule engine: finds the rules that match a call, and combines them into one ruling.

The strictest verdict wins. A rule that cannot be evaluated denies, because its verdict is unknown. A rule in
`mode: observe` is recorded and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cel

from gatehouse.core.decision import Decision, Obligation, Verdict
from gatehouse.policy.check import Condition, reason_of
from gatehouse.policy.facts import KNOWN_ENTITIES, Facts, wanted_by
from gatehouse.policy.model import RulePolicy


@dataclass(frozen=True, slots=True)
class Rule:
    """Hold a rule of policy.yaml with its condition compiled."""

    policy: RulePolicy
    condition: Condition

    @property
    def id(self) -> str:
        return self.policy.id

    @property
    def enforced(self) -> bool:
        return self.policy.mode == "enforce"


@dataclass(frozen=True, slots=True)
class Result:
    """Hold one rule's result for one call: `matched`, or an `error` where it could not be evaluated."""

    rule: Rule
    matched: bool
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Ruling:
    """Hold the combined result of all rules for one call.

    Attributes:
        matched: rules in force that matched or failed, in the file's order; they also name the approvers.
        observed: ids of rules in `mode: observe` that matched.
        errors: rule id and reason of each failure, of rules in force and of observed ones.
    """

    verdict: Verdict
    matched: tuple[Rule, ...]
    observed: tuple[str, ...]
    obligation: Obligation
    reason: str | None
    errors: tuple[tuple[str, str], ...]

    def decision(self, policy_version: str) -> Decision:
        """Return the ruling as the decision that the pipeline passes on."""
        return Decision(
            self.verdict,
            tuple(rule.id for rule in self.matched),
            policy_version,
            self.reason,
            self.observed,
            self.obligation,
        )


class RuleSet:
    """Hold the compiled rules of one policy."""

    def __init__(self, rules: Iterable[Rule] = (), entities: frozenset[str] = KNOWN_ENTITIES) -> None:
        self.rules = tuple(rules)
        self.entities = entities
        # Handing a value to CEL costs twenty times what a condition does, so it gets only facts that a rule names.
        self._wanted = wanted_by(path for rule in self.rules for path in rule.condition.paths)

    def evaluate(self, facts: Facts) -> Ruling:
        """Decide on one call. It never raises: a rule that cannot be evaluated denies."""
        return ruling(self.results(facts))

    def results(self, facts: Facts) -> list[Result]:
        """Return each rule's result, in the file's order."""
        if not self.rules:
            return []
        try:
            context = cel.Context(variables=facts.as_dict(self.entities, self._wanted))
        except Exception as error:  # a number or a text that CEL cannot hold
            return [Result(rule, False, f"the facts cannot be read: {reason_of(error)}") for rule in self.rules]
        return [_result(rule, context) for rule in self.rules]


def ruling(results: Iterable[Result]) -> Ruling:
    """Combine the rules' results into one ruling."""
    verdict, reason = Verdict.ALLOW, None
    matched: list[Rule] = []
    observed: list[str] = []
    errors: list[tuple[str, str]] = []
    for result in results:
        rule = result.rule
        if result.error is not None:
            errors.append((rule.id, result.error))
        if not rule.enforced and result.matched:
            observed.append(rule.id)
        if not rule.enforced or not (result.matched or result.error is not None):
            continue
        matched.append(rule)
        consequence, because = _consequence(result)
        if consequence.strictness > verdict.strictness:
            verdict, reason = consequence, because
        elif consequence is verdict and reason is None:
            reason = because
    demanded = (rule.policy.obligations for rule in matched)
    obligation = Obligation.merged(each.obligation for each in demanded if each is not None)
    return Ruling(
        verdict,
        tuple(matched),
        tuple(observed),
        Obligation() if verdict is Verdict.DENY else obligation,
        reason,
        tuple(errors),
    )


def _consequence(result: Result) -> tuple[Verdict, str | None]:
    """Return what an enforced rule demands and why; one that could not be evaluated denies."""
    if result.error is not None:
        return Verdict.DENY, f"Rule {result.rule.id} could not be evaluated."
    return result.rule.policy.verdict, result.rule.policy.reason


def _result(rule: Rule, context: cel.Context) -> Result:
    try:
        value: Any = rule.condition.program.execute(context)
    except Exception as error:  # the library raises Python's exceptions: KeyError, TypeError, ZeroDivisionError, ...
        return Result(rule, False, reason_of(error))
    if value is True or value is False:
        return Result(rule, value)
    return Result(rule, False, f"the result is {type(value).__name__}, not true or false")
