"""Masks what is found in a request, and refuses a request in which it cannot be masked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from gatehouse.core.decision import Decision
from gatehouse.core.errors import ContentBlocked, SealedPiiBlocked
from gatehouse.dialects.canonical import CanonicalRequest
from gatehouse.dialects.parts import Path, TextPart, UnknownShape, shown
from gatehouse.guards.findings import Finding, merged
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.pii.links import Links
from gatehouse.guards.pii.masking import Mask, Placeholders
from gatehouse.guards.scan import Scan
from gatehouse.guards.screens.hits import SECRETS
from gatehouse.pipeline.conversations import NOTHING, Remembered
from gatehouse.pipeline.in_force import PolicyInForce


def mask(
    governance: PolicyInForce,
    decision: Decision,
    request: CanonicalRequest,
    scans: Sequence[Scan],
    placeholders: Placeholders,
    earlier: Remembered = NOTHING,
    *,
    kept: bool = False,
) -> tuple[CanonicalRequest, Mask, dict[str, str]] | None:
    """Mask what is found in a request; None where nothing is to be turned back.

    Args:
        earlier: what is kept of the conversation that the request continues.
        kept: the way back is kept, even if it is empty.

    Returns:
        the request as it is then, the way back, and what each text that changed is now.

    Raises:
        ContentBlocked: it cannot be written back.
        PlaceholdersCollide: two values would have one placeholder.
        SealedPiiBlocked: it stands where nothing may be changed.
    """
    found = [_to_mask(governance, decision, scan) for scan in scans]
    wanted = kept or bool(earlier.values)
    if not any(found) and not wanted:
        return None
    for part, findings in zip(request.scanned, found, strict=True):
        if part.sealed and findings:
            raise _sealed(part, findings)
    # Nothing changes in sealed parts, not even a text in the form of a placeholder.
    open_ = [(part, each) for part, each in zip(request.scanned, found, strict=True) if not part.sealed]
    texts, findings_of = [part for part, _ in open_], [each for _, each in open_]
    links = _links(governance, request, earlier)
    changes, mask = masked(texts, findings_of, placeholders, links, earlier)
    if not changes:
        return (request, mask, {}) if wanted else None
    try:
        changed = request.masked(changes)
    except UnknownShape as error:
        raise ContentBlocked(f"The request cannot be masked: {error}. Take the personal data out.") from None
    return changed, mask, {part.text: str(changes[part.path]) for part in request.scanned if part.path in changes}


def _sealed(part: TextPart, findings: Sequence[Finding]) -> SealedPiiBlocked:
    names = sorted({each.entity for each in findings})
    return SealedPiiBlocked(
        f"{shown(part.path)}: {' and '.join(names)}, which cannot be masked there. Take it out and ask again.",
        policies=tuple(f"pii/{name}" for name in names),
        where=shown(part.path),
    )


def _to_mask(governance: PolicyInForce, decision: Decision, scan: Scan) -> list[Finding]:
    """What is masked in a text. What is blocked and still here stands in an older turn, and is masked too."""
    config = governance.masking if decision.obligation.mask else governance.pii
    screens = governance.policy.screens
    masks = screens is not None and screens.secrets in ("mask", "block")
    secrets = [Finding(SECRET, hit.start, hit.end, hit.score) for hit in scan.hits if masks and hit.screen == SECRETS]
    wanted = (Mode.MASK, Mode.BLOCK)
    data = () if config is None else (each for each in scan.findings if config.mode_of(each.entity) in wanted)
    return merged([*secrets, *data], _is_secret)


def _links(governance: PolicyInForce, request: CanonicalRequest, earlier: Remembered) -> Links | None:
    said = (part.text for part in request.texts if part.role in _TRUSTED)
    return links_of(governance, said, earlier.hosts)


def links_of(governance: PolicyInForce, said: Iterable[str], earlier: Iterable[str]) -> Links | None:
    """Return which links of the answer may hold values, as policy.yaml says; None: all.

    Args:
        said: the texts of system and user.
        earlier: hosts that earlier turns named.
    """
    pii = governance.policy.pii
    mode = pii.unmask_links if pii is not None else "same_host"
    if mode == "all":
        return None
    return Links(said, earlier) if mode == "same_host" else Links()


def _is_secret(finding: Finding) -> bool:
    return finding.entity == SECRET


def masked(
    texts: Sequence[TextPart],
    findings: Sequence[Sequence[Finding]],
    placeholders: Placeholders,
    links: Links | None = None,
    earlier: Remembered = NOTHING,
) -> tuple[dict[Path, str], Mask]:
    """The texts that change when these findings are masked, and the way back.

    Raises:
        PlaceholdersCollide: two values would have one placeholder.
    """
    mask = Mask(placeholders, links, earlier.values)
    all_ = PiiConfig(entities={each.entity: Mode.MASK for found in findings for each in found})
    now = mask.mask([(part.text, found) for part, found in zip(texts, findings, strict=True)], all_)
    return {part.path: text for part, text in zip(texts, now, strict=True) if text != part.text}, mask


# Whoever speaks in these roles is the caller; tools only repeat what others wrote.
_TRUSTED: Final = frozenset(("system", "developer", "user"))
# The entity of a secret's placeholder.
SECRET: Final = "SECRET"  # noqa: S105
