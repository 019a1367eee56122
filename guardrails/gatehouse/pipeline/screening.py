"""Reading, scanning, ruling and masking of one call, with their metrics; what is pure about them is in `stages`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping, Sequence
from functools import partial
from typing import Any

from gatehouse.core import metrics
from gatehouse.core.call import GovernedCall
from gatehouse.core.decision import Decision
from gatehouse.core.errors import ContentBlocked, PiiBlocked
from gatehouse.dialects import TextPart, UnknownShape
from gatehouse.dialects.canonical import CallerNames, CanonicalRequest, canonical_request
from gatehouse.dialects.parts import shown
from gatehouse.guards.findings import Finding, ScanFailed
from gatehouse.guards.offload import OFFLOAD
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.pii.masking import Mask, Placeholders
from gatehouse.guards.scan import NOTHING, Scan
from gatehouse.guards.screens.hits import Hit
from gatehouse.pipeline import call_facts
from gatehouse.pipeline.in_force import Governance
from gatehouse.pipeline.seams import joined, with_joined
from gatehouse.policy import limits
from gatehouse.policy.facts import Facts
from gatehouse.policy.limits import Ceiling
from gatehouse.policy.model import Policy, ScreensPolicy
from gatehouse.policy.rules import Ruling

SHAPE = ("shape",)


def read(
    call_type: str, body: MutableMapping[str, Any], names: CallerNames, is_note: Callable[[str], bool]
) -> CanonicalRequest:
    """Read a call's body; see `canonical_request`.

    Raises:
        ContentBlocked: its shape is not understood.
        InvalidRequest: a field has a wrong type.
    """
    try:
        return canonical_request(call_type, body, names, is_note)
    except UnknownShape as error:
        metrics.stage_errors.labels("read", "unknown_shape").inc()
        raise ContentBlocked(
            f"The request is not understood, so text could hide in it: {error}. Leave that out, or update Gatehouse.",
            policies=SHAPE,
        ) from None


async def scan(governance: Governance, texts: Sequence[TextPart], caller: str, effort: int = 0) -> list[Scan]:
    """What is in each text, alone and read together with its neighbours.

    Args:
        caller: whose turns it takes.
        effort: how much there is to be read.

    Raises:
        GovernanceError: that cannot be known, and policy.yaml does not let such calls through.
    """
    scanner = governance.scanner
    if scanner is None:
        return [NOTHING] * len(texts)
    together = await OFFLOAD.run(effort, caller, partial(joined, texts))
    wanted = [*(part.text for part in texts), *(each.text for each in together)]
    # Where policy.yaml lets a text through that cannot be scanned, those that can be still are.
    for scanned in (scanner.scan, scanner.scan_if_possible):
        try:
            scans = await scanned(wanted, caller)
            alone, across = scans[: len(texts)], scans[len(texts) :]
            whole = partial(with_joined, texts, alone, together, across, governance.pii)
            return await OFFLOAD.run(effort, caller, whole)
        except ScanFailed as failed:
            metrics.stage_errors.labels("scan", failed.reason).inc()
            refusal = call_facts.not_scanned(governance.policy, failed)
            if refusal is not None:
                raise refusal from None
    return [NOTHING] * len(texts)


def sealed(policy: ScreensPolicy, texts: Sequence[TextPart], scans: Sequence[Scan]) -> None:
    """Refuse what a screen that blocks has hit where nothing may be changed, and say where.

    Raises:
        ContentBlocked: names the place and the screen.
    """
    for part, scan in zip(texts, scans, strict=True):
        for hit in scan.hits if part.sealed else ():
            if call_facts.blocks(policy, hit.screen):
                raise ContentBlocked(
                    f"{shown(part.path)}: blocked by {hit.screen}. Take it out and ask again.",
                    policies=(f"screens/{hit.screen}",),
                )


def ruled(facts: Facts, governance: Governance) -> Ruling:
    """What the rules say, which is counted."""
    ruling = governance.loaded.rules.evaluate(facts)
    for rule in ruling.matched:
        metrics.rules_matched.labels(rule.id, "enforce").inc()
    for rule_id in ruling.observed:
        metrics.rules_matched.labels(rule_id, "observe").inc()
    for _ in ruling.errors:
        metrics.stage_errors.labels("policy", "rule").inc()
    return ruling


def mask(
    governance: Governance,
    decision: Decision,
    request: CanonicalRequest,
    scans: Sequence[Scan],
    placeholders: Placeholders,
) -> tuple[CanonicalRequest, Mask, dict[str, str]] | None:
    """Mask what is found in a request; None where there was nothing.

    Returns:
        the request as it is then, the way back, and what each text that changed is now.

    Raises:
        ContentBlocked: it cannot be written back.
        PlaceholdersCollide: two values would have one placeholder.
        PiiBlocked: it stands where nothing may be changed.
    """
    config = governance.masking if decision.obligation.mask else governance.pii
    if config is None or not any(scan.findings for scan in scans):
        return None
    for part, scan in zip(request.scanned, scans, strict=True):
        if part.sealed and (found := sorted({each.entity for each in scan.findings if _is_masked(config, each)})):
            raise PiiBlocked(
                f"{shown(part.path)}: {' and '.join(found)}, which cannot be masked there. Take it out and ask again.",
                policies=tuple(f"pii/{name}" for name in found),
            )
    changes, mask = call_facts.masked(request.scanned, scans, config, placeholders)
    if not changes:
        return None
    try:
        changed = request.masked(changes)
    except UnknownShape as error:
        raise ContentBlocked(f"The request cannot be masked: {error}. Take the personal data out.") from None
    return changed, mask, {part.text: changes[part.path] for part in request.scanned if part.path in changes}


def _is_masked(config: PiiConfig, finding: Finding) -> bool:
    return config.mode_of(finding.entity) is Mode.MASK


def ceiling(call: GovernedCall, policy: Policy) -> Ceiling:
    """The strictest of what policy, key, team and caller allow one request."""
    terms = call.terms
    return limits.ceiling(
        policy.limits, terms.key_metadata, terms.team_metadata, terms.headers, key_name=call.caller.key_alias
    )


def count_hits(hits: Iterable[Hit], side: str) -> None:
    """Count hits of a `request` or of an `answer`."""
    for hit in hits:
        metrics.screen_hits.labels(hit.screen, side).inc()
