"""Shows what another policy would have decided on past calls. The caller provides the recorded decisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gatehouse.core.decision import Verdict
from gatehouse.policy.facts import Facts
from gatehouse.policy.model import Policy
from gatehouse.policy.rules import RuleSet
from gatehouse.policy.stages import outcome

_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class PastDecision:
    """Hold a past decision and the facts that it was made on."""

    call_id: str
    verdict: Verdict
    policies: tuple[str, ...]
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class VerdictChange:
    """Count calls that went from one verdict to another; `examples` are ids of the first few."""

    before: Verdict
    after: Verdict
    calls: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replay:
    """Summarize what would change.

    Attributes:
        calls: how many calls were replayed.
        changes: by verdict, most calls first.
        gained: how many more calls each rule would match or each stage refuse, by name; `lost` how many fewer.
        errors: on how many calls each rule would fail.
    """

    calls: int
    changes: tuple[VerdictChange, ...]
    gained: Mapping[str, int]
    lost: Mapping[str, int]
    errors: Mapping[str, int]

    @property
    def changed(self) -> int:
        """Count the calls that would get another verdict."""
        return sum(change.calls for change in self.changes)


def replay(records: Iterable[PastDecision], policy: Policy, rules: RuleSet) -> Replay:
    """Decide again on each recorded call, as the stages and the rules of a policy would.

    Facts that an earlier version recorded and this one does not know are dropped; facts it did not record are neutral.

    Raises:
        SetupError: recorded facts of the wrong type.
    """
    calls = 0
    moved: dict[tuple[Verdict, Verdict], list[str]] = {}
    counts: Counter[tuple[Verdict, Verdict]] = Counter()
    gained: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for record in records:
        calls += 1
        decided = outcome(policy, rules, Facts.from_mapping(record.facts, strict=False, entities=rules.entities))
        matched = {*decided.policies}
        gained.update(matched.difference(record.policies))
        lost.update(set(record.policies).difference(matched))
        errors.update(rule for rule, _ in (decided.ruling.errors if decided.ruling is not None else ()))
        if decided.verdict is not record.verdict:
            move = (record.verdict, decided.verdict)
            counts[move] += 1
            examples = moved.setdefault(move, [])
            if len(examples) < _EXAMPLES:
                examples.append(record.call_id)
    changes = tuple(VerdictChange(*move, number, tuple(moved[move])) for move, number in counts.most_common())
    return Replay(calls, changes, dict(gained), dict(lost), dict(errors))
