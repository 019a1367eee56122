"""What models say, looked at before it is passed on."""

from __future__ import annotations

from functools import partial

from gatehouse.core import metrics
from gatehouse.core.errors import ContentBlocked
from gatehouse.guards.findings import ScanFailed
from gatehouse.pipeline import call_facts
from gatehouse.pipeline.in_force import Governance
from gatehouse.pipeline.response import Answers
from gatehouse.pipeline.scope import CallScope
from gatehouse.pipeline.screening import count_hits


def answers_of(scope: CallScope) -> Answers | None:
    """What the answer to this call must pass; None where it may pass as it is."""
    governance, mask = scope.governance, scope.mask
    if scope.call is None or governance is None or (mask is None and governance.answers is None):
        return None
    screens = governance.answers is not None and governance.policy.screens is not None
    return Answers(scope.call.call_type, mask, partial(screen, governance) if screens else None)


def screen(governance: Governance, text: str) -> None:
    """Look at what a model said.

    Raises:
        ContentBlocked: it may not be passed on.
    """
    engine, policy = governance.answers, governance.policy.screens
    if engine is None or policy is None:
        return
    try:
        hits = engine.scan(text)
    except ScanFailed as failed:
        metrics.stage_errors.labels("answer", failed.reason).inc()
        if policy.on_error == "allow":
            return
        raise ContentBlocked("The answer could not be screened in time. Ask for a shorter one.") from None
    if hits:
        count_hits(hits, "answer")
        try:
            call_facts.screened(policy, hits)
        except ContentBlocked as blocked:
            raise ContentBlocked(
                f"The model's answer was withheld: {blocked.message.split('.')[0].lower()}.",
                policies=blocked.policies,
            ) from None
