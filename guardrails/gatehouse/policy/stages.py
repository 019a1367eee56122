"""What the gateway does with a call of known facts: the stages around the rules, and the rules. For the commands.

The stages' own functions are asked. Facts do not say all that the gateway sees: the place of a finding, the whole
address of a server, the limits of a key. So a finding counts as one in the newest turn, only the limits of policy.yaml
count, and a server whose host is named may be refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gatehouse.core.decision import Verdict
from gatehouse.core.errors import LimitExceeded
from gatehouse.core.names import is_hidden
from gatehouse.dialects.reaches import HOSTED_MCP, PROVIDER_DATA, refused_data, refused_servers
from gatehouse.guards.pii.config import Mode
from gatehouse.policy import limits
from gatehouse.policy.facts import Facts
from gatehouse.policy.model import Policy
from gatehouse.policy.pii_section import pii_config
from gatehouse.policy.rules import RuleSet, Ruling
from gatehouse.policy.screens_section import mode_of

LIMITS: Final = "limits"
STAGES: Final = frozenset((*HOSTED_MCP, *PROVIDER_DATA, LIMITS, "screens", "pii", "shape"))
"""The beginnings of what an error names where no rule decided."""


class Effect(StrEnum):
    """Name what a stage does with a call."""

    REFUSES = "refuses"
    MAY_REFUSE = "may refuse"
    MASKS = "masks"
    OBSERVES = "observes"


@dataclass(frozen=True, slots=True)
class StageEffect:
    """Say what one stage does with a call.

    Attributes:
        stage: as an error names it, such as `screens/secrets`.
    """

    stage: str
    effect: Effect
    why: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold what becomes of a call.

    Attributes:
        policies: what an error would name: the stage that refuses, or the rules that match.
        ruling: of the rules; None where a stage refuses the call before they are asked.
    """

    verdict: Verdict
    policies: tuple[str, ...]
    effects: tuple[StageEffect, ...]
    ruling: Ruling | None


def stage_names(policy: Policy, entities: Iterable[str]) -> set[str]:
    """Return every name that an effect under this policy may have."""
    categories = policy.screens.blocked_content if policy.screens is not None else ()
    screens = {
        "screens/secrets",
        "screens/prompt_injection",
        *(f"screens/blocked_content/{each}" for each in categories),
    }
    return {*HOSTED_MCP, *PROVIDER_DATA, LIMITS, *screens, *(f"pii/{entity}" for entity in entities)}


def outcome(policy: Policy, rules: RuleSet, facts: Facts) -> Outcome:
    """Return what the gateway does with a call of these facts."""
    effects = tuple(stage_effects(policy, facts))
    refusing = [each.stage for each in effects if each.effect is Effect.REFUSES]
    if refusing:
        # The first stage ends the call; it names all of its own that hit.
        section = refusing[0].partition("/")[0]
        named = tuple(stage for stage in refusing if stage.partition("/")[0] == section)
        return Outcome(Verdict.DENY, named, effects, None)
    ruling = rules.evaluate(facts)
    return Outcome(ruling.verdict, tuple(rule.id for rule in ruling.matched), effects, ruling)


def stage_effects(policy: Policy, facts: Facts) -> Iterator[StageEffect]:
    """Yield what each stage but the rules does with a call, in the gateway's order."""
    yield from _servers(policy, facts)
    yield from _stored_data(policy, facts)
    yield from _limits(policy, facts)
    yield from _screens(policy, facts)
    yield from _personal_data(policy, facts)


def _servers(policy: Policy, facts: Facts) -> Iterator[StageEffect]:
    for fact, certain in refused_servers(facts.request.reaches, policy.hosted_mcp.allow):
        if certain:
            yield StageEffect(*HOSTED_MCP, Effect.REFUSES, f"{fact} is not under hosted_mcp.allow")
        else:
            why = f"{fact} passes only below the addresses under hosted_mcp.allow"
            yield StageEffect(*HOSTED_MCP, Effect.MAY_REFUSE, why)


def _stored_data(policy: Policy, facts: Facts) -> Iterator[StageEffect]:
    for fact in refused_data(facts.request.reaches, policy.provider_data.allowed_to(facts.caller.team)):
        if is_hidden(fact.partition(":")[2]):
            why = "the record has a hash in the place of an id that held personal data"
            yield StageEffect(*PROVIDER_DATA, Effect.MAY_REFUSE, why)
        else:
            yield StageEffect(*PROVIDER_DATA, Effect.REFUSES, f"{fact} is not under provider_data")


def _limits(policy: Policy, facts: Facts) -> Iterator[StageEffect]:
    cost, model = facts.cost, facts.request.model
    estimate = limits.Estimate(
        model, cost.input_tokens, cost.max_output_tokens, cost.estimated_usd, None, None, "the facts"
    )
    try:
        limits.check(estimate, limits.ceiling(policy.limits, {}, {}, {}), policy.limits)
    except LimitExceeded as error:
        yield StageEffect(LIMITS, Effect.REFUSES, error.message)


_SCREENS: Final = {
    "block": (Effect.REFUSES, "a hit in the newest turn"),
    "mask": (Effect.MASKS, "the model gets a placeholder; where none can stand, the call is refused"),
    "observe": (Effect.OBSERVES, "a fact for the rules"),
}


def _screens(policy: Policy, facts: Facts) -> Iterator[StageEffect]:
    if (screens := policy.screens) is None:
        return
    for screen in facts.screens.hits:
        _, _, category = screen.partition("/")
        if category and category not in screens.blocked_content:
            continue
        if (known := _SCREENS.get(mode_of(screens, screen))) is not None:
            yield StageEffect(f"screens/{screen}", *known)


_PII: Final = {
    Mode.BLOCK: (Effect.REFUSES, "a finding in the newest turn"),
    Mode.MASK: (Effect.MASKS, "the model gets a placeholder"),
    Mode.OBSERVE: (Effect.OBSERVES, "a fact for the rules"),
}


def _personal_data(policy: Policy, facts: Facts) -> Iterator[StageEffect]:
    if policy.pii is None:
        return
    config = pii_config(policy.pii)
    for entity, count in sorted(facts.pii.items()):
        if count and (known := _PII.get(config.mode_of(entity))) is not None:
            yield StageEffect(f"pii/{entity}", *known)
