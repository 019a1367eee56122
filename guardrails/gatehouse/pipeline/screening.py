"""Scans the texts of requests and answers, and refuses what a screen or a mode of personal data blocks.

No text of a call is in any message that leaves here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from gatehouse.core import metrics
from gatehouse.core.errors import ContentBlocked, GovernanceError, GovernanceUnavailable, PiiBlocked, TooManyRequests
from gatehouse.core.reasons import Reason
from gatehouse.dialects.parts import TextPart, shown
from gatehouse.guards.findings import ScanFailed
from gatehouse.guards.offload import OFFLOAD
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.scan import NOTHING, Scan
from gatehouse.guards.screens.hits import Hit
from gatehouse.pipeline.in_force import PolicyInForce
from gatehouse.pipeline.seams import joined, with_joined
from gatehouse.policy.model import Policy, ScreensPolicy


async def scan(governance: PolicyInForce, texts: Sequence[TextPart], caller: str, effort: int = 0) -> list[Scan]:
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
            refusal = not_scanned(governance.policy, failed)
            if refusal is not None:
                raise refusal from None
    return [NOTHING] * len(texts)


def enforce(governance: PolicyInForce, texts: Sequence[TextPart], scans: Sequence[Scan]) -> None:
    """Count what was found in a request, and refuse what a screen or a mode blocks.

    Raises:
        ContentBlocked, PiiBlocked: names what was found.
    """
    if (policy := governance.policy.screens) is not None:
        hits = [hit for scan in scans for hit in scan.hits]
        count_hits(hits, "request")
        sealed(policy, texts, scans)
        enforce_screens(policy, hits)
    if governance.pii is not None:
        for found in (found for scan in scans for found in scan.findings):
            metrics.findings.labels(found.entity).inc()
        personal_data(governance.pii, scans)


def sealed(policy: ScreensPolicy, texts: Sequence[TextPart], scans: Sequence[Scan]) -> None:
    """Refuse what a screen that blocks has hit where nothing may be changed, and say where.

    Raises:
        ContentBlocked: names the place and the screen.
    """
    for part, scan in zip(texts, scans, strict=True):
        for hit in scan.hits if part.sealed else ():
            if blocks(policy, hit.screen):
                raise ContentBlocked(
                    f"{shown(part.path)}: blocked by {hit.screen}. Take it out and ask again.",
                    policies=(f"screens/{hit.screen}",),
                )


def count_hits(hits: Iterable[Hit], side: str) -> None:
    """Count hits of a `request` or of an `answer`."""
    for hit in hits:
        metrics.screen_hits.labels(hit.screen, side).inc()


def enforce_screens(policy: ScreensPolicy, hits: Iterable[Hit]) -> None:
    """Refuse what a screen that blocks has hit.

    Raises:
        ContentBlocked: names the screens.
    """
    blocking = sorted({hit.screen for hit in hits if blocks(policy, hit.screen)})
    if blocking:
        raise ContentBlocked(
            f"Blocked by {_and(blocking)}. Take it out and ask again.",
            policies=tuple(f"screens/{name}" for name in blocking),
        )


def blocks(policy: ScreensPolicy, screen: str) -> bool:
    """Whether a hit of this screen blocks, or is only a fact."""
    if screen == "secrets":
        return policy.secrets == "block"
    if screen == "prompt_injection":
        return policy.prompt_injection == "block"
    return True


def personal_data(config: PiiConfig, scans: Iterable[Scan]) -> None:
    """Refuse personal data whose mode is `block`.

    Raises:
        PiiBlocked: names the entities.
    """
    found = {each.entity for scan in scans for each in scan.findings}
    blocking = sorted(entity for entity in found if config.mode_of(entity) is Mode.BLOCK)
    if blocking:
        raise PiiBlocked(
            f"The request holds personal data that may not be sent: {_and(blocking)}. Take it out and ask again.",
            policies=tuple(f"pii/{name}" for name in blocking),
        )


_CROWDED = (
    "Your key has as much new text waiting to be scanned as one key may. Wait for the calls under way, then ask again."
)


def not_scanned(policy: Policy, failed: ScanFailed) -> GovernanceError | None:
    """The refusal of a call whose text could not be scanned; None where policy.yaml lets it through by name."""
    if failed.reason is Reason.CROWDED:  # no fault of the scanner's, so that no policy lets it through
        return TooManyRequests(_CROWDED)
    pii, screens = policy.pii, policy.screens
    pii_denies = pii is not None and pii.on_error == "deny"
    if not pii_denies and (screens is None or screens.on_error != "deny"):
        return None
    if failed.reason is Reason.TOO_LONG:
        why = "A text of the request is too long to be scanned. Send it in parts."
    elif failed.reason is Reason.TIMEOUT:
        why = "A text of the request could not be scanned in time. Send it in parts."
    else:
        return GovernanceUnavailable("The scanner is not there. Try again soon.")
    return PiiBlocked(why, policies=("pii",)) if pii_denies else ContentBlocked(why, policies=("screens",))


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def screen(governance: PolicyInForce, text: str) -> None:
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
            enforce_screens(policy, hits)
        except ContentBlocked as blocked:
            raise ContentBlocked(
                f"The model's answer was withheld: {blocked.message.split('.')[0].lower()}.",
                policies=blocked.policies,
            ) from None
