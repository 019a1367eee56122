"""Masks what is found in a request, or refuses a request whose answer could not be unmasked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gatehouse.core.decision import Decision
from gatehouse.core.errors import ContentBlocked, PiiBlocked
from gatehouse.dialects.canonical import CanonicalRequest
from gatehouse.dialects.parts import Path, TextPart, UnknownShape, shown
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.pii.masking import Mask, Placeholders
from gatehouse.guards.scan import Scan
from gatehouse.pipeline.in_force import PolicyInForce


def mask(
    governance: PolicyInForce,
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
    changes, mask = masked(request.scanned, scans, config, placeholders)
    if not changes:
        return None
    try:
        changed = request.masked(changes)
    except UnknownShape as error:
        raise ContentBlocked(f"The request cannot be masked: {error}. Take the personal data out.") from None
    return changed, mask, {part.text: changes[part.path] for part in request.scanned if part.path in changes}


def _is_masked(config: PiiConfig, finding: Finding) -> bool:
    return config.mode_of(finding.entity) is Mode.MASK


def masked(
    texts: Sequence[TextPart], scans: Sequence[Scan], config: PiiConfig, placeholders: Placeholders
) -> tuple[dict[Path, str], Mask]:
    """The texts that change when personal data is masked, and the way back.

    Raises:
        PlaceholdersCollide: two values would have one placeholder.
    """
    mask = Mask(placeholders)
    now = mask.mask([(part.text, scan.findings) for part, scan in zip(texts, scans, strict=True)], config)
    return {part.path: text for part, text in zip(texts, now, strict=True) if text != part.text}, mask


# How a request names a conversation that the provider keeps.
_CONVERSATIONS = ("previous_response_id", "conversation")


def kept_by_provider(body: Mapping[str, Any]) -> None:
    """Refuse to mask a turn of a conversation that the provider keeps: what the turns before it hold could not be
    turned back, for the way back from their placeholders ended with their calls.

    Raises:
        PiiBlocked: names the field.
    """
    named = next((name for name in _CONVERSATIONS if body.get(name) is not None), None)
    if named is not None:
        raise PiiBlocked(
            f"{named}: the provider keeps the turns before this one, so the personal data in it cannot be masked "
            "safely. Send the whole conversation with each request, or take the personal data out.",
            policies=("pii",),
            param=named,
        )
