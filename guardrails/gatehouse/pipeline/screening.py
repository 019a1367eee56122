"""Scans the texts of requests and answers, and refuses what a screen or a mode of personal data blocks.

No text of a call is in any message that leaves here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from gatehouse.core import metrics
from gatehouse.core.errors import (
    ContentBlocked,
    GovernanceError,
    GovernanceUnavailable,
    PiiBlocked,
    SealedContentBlocked,
    TooManyRequests,
)
from gatehouse.core.reasons import Reason
from gatehouse.dialects.parts import TextPart, shown
from gatehouse.guards.findings import ScanFailed
from gatehouse.guards.offload import OFFLOAD
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.scan import NOTHING, Scan
from gatehouse.guards.screens.hits import SECRETS, Hit
from gatehouse.pipeline.caller_screens import CallerScreens
from gatehouse.pipeline.in_force import PolicyInForce
from gatehouse.pipeline.seams import joined, with_joined
from gatehouse.pipeline.turns import before_newest
from gatehouse.policy.model import Policy, ScreensPolicy
from gatehouse.policy.screens_section import mode_of


async def scan(governance: PolicyInForce, texts: Sequence[TextPart], caller: str, effort: int = 0) -> list[Scan]:
    """What is in each text, alone and read together with its neighbours.

    What a model wrote and signed was screened when it was an answer, and holds no data but placeholders and what the
    model made up itself, so nothing is looked for in it.

    Args:
        caller: whose turns it takes.
        effort: how much there is to be read.

    Raises:
        GovernanceError: that cannot be known, and policy.yaml does not let such calls through.
    """
    scans = iter(await _scanned(governance, [part for part in texts if not part.proven], caller, effort))
    return [NOTHING if part.proven else next(scans) for part in texts]


async def _scanned(governance: PolicyInForce, texts: Sequence[TextPart], caller: str, effort: int) -> list[Scan]:
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
    if not any(scan.hits or scan.findings for scan in scans):
        return
    older = before_newest(texts)
    if (policy := governance.policy.screens) is not None:
        count_hits([hit for scan in scans for hit in scan.hits], "request")
        sealed(policy, texts, scans)
        forbidden(policy, texts, scans, older)
    if governance.pii is not None:
        for found in (found for scan in scans for found in scan.findings):
            metrics.findings.labels(found.entity).inc()
        personal_data(governance.pii, texts, scans, older)


def forbidden(policy: ScreensPolicy, texts: Sequence[TextPart], scans: Sequence[Scan], older: Sequence[bool]) -> None:
    """Refuse what a screen that blocks has hit, and say where. Secrets of older turns are masked instead.

    Raises:
        ContentBlocked: names the screens, and the first place.
    """
    found = [
        (part, hit)
        for part, scan, old in zip(texts, scans, older, strict=True)
        for hit in scan.hits
        if blocks(policy, hit.screen) and not (old and hit.screen == SECRETS)
    ]
    if found:
        (part, hit), names = found[0], sorted({hit.screen for _, hit in found})
        raise ContentBlocked(
            f"Blocked by {_and(names)} ({shown(part.path)}: {hit.rule}). Take it out and ask again.",
            policies=tuple(f"screens/{name}" for name in names),
            where=shown(part.path),
        )


def sealed(policy: ScreensPolicy, texts: Sequence[TextPart], scans: Sequence[Scan]) -> None:
    """Refuse what a screen that blocks has hit where nothing may be changed, and say where.

    Raises:
        SealedContentBlocked: names the place and the screen.
    """
    for part, scan in zip(texts, scans, strict=True):
        for hit in scan.hits if part.sealed else ():
            if blocks(policy, hit.screen, can_be_masked=False):
                raise SealedContentBlocked(
                    f"{shown(part.path)}: blocked by {hit.screen} ({hit.rule}). Take it out and ask again.",
                    policies=(f"screens/{hit.screen}",),
                    where=shown(part.path),
                )


def count_hits(hits: Iterable[Hit], side: str) -> None:
    """Count hits of a `request` or of an `answer`."""
    for hit in hits:
        metrics.screen_hits.labels(hit.screen, side).inc()


def blocks(policy: ScreensPolicy, screen: str, *, can_be_masked: bool = True) -> bool:
    """Whether a hit of this screen blocks. In mode `mask` a secret does where it cannot be replaced."""
    mode = mode_of(policy, screen)
    return mode == "block" or (mode == "mask" and not can_be_masked)


def personal_data(config: PiiConfig, texts: Sequence[TextPart], scans: Sequence[Scan], older: Sequence[bool]) -> None:
    """Refuse personal data whose mode is `block`, and say where. That of older turns is masked instead.

    What cannot be masked where it stands is refused together with the rest of that kind; see `redaction.mask`.

    Raises:
        PiiBlocked: names the entities, and the first place.
    """
    found = [
        (part, each.entity)
        for part, scan, old in zip(texts, scans, older, strict=True)
        for each in scan.findings
        if not (old or part.sealed) and config.mode_of(each.entity) is Mode.BLOCK
    ]
    if found:
        where, names = shown(found[0][0].path), sorted({entity for _, entity in found})
        raise PiiBlocked(
            f"The request holds personal data that may not be sent: {_and(names)} ({where}). "
            "Take it out and ask again.",
            policies=tuple(f"pii/{name}" for name in names),
            where=where,
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


def screen(governance: PolicyInForce, text: str, asked: CallerScreens | None = None) -> None:
    """Look at what a model said.

    Args:
        asked: what the caller asks to be blocked besides.

    Raises:
        ContentBlocked: it may not be passed on.
    """
    hits = _screened(governance, text)
    if asked is not None:
        asked.screen(text, hits)


def _screened(governance: PolicyInForce, text: str) -> Sequence[Hit]:
    engine, policy = governance.answers, governance.policy.screens
    if engine is None or policy is None:
        return ()
    try:
        hits = engine.scan(text)
    except ScanFailed as failed:
        metrics.stage_errors.labels("answer", failed.reason).inc()
        if policy.on_error == "allow":
            return ()
        raise ContentBlocked("The answer could not be screened in time. Ask for a shorter one.") from None
    count_hits(hits, "answer")
    # A secret in an answer is not the caller's own, for those are placeholders here.
    names = sorted({hit.screen for hit in hits if blocks(policy, hit.screen, can_be_masked=False)})
    if names:
        raise ContentBlocked(
            f"The model's answer was withheld: blocked by {_and(names)}.",
            policies=tuple(f"screens/{name}" for name in names),
        )
    return hits
