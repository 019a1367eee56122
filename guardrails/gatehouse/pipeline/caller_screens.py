"""The content that a caller asks to be blocked in a call, besides what policy.yaml blocks. Callers can only tighten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from gatehouse.core import metrics
from gatehouse.core.errors import ContentBlocked, InvalidRequest
from gatehouse.dialects.parts import TextPart, shown
from gatehouse.guards.findings import ScanFailed
from gatehouse.guards.scan import Scan
from gatehouse.guards.screens.categories import CATEGORIES, HEADER
from gatehouse.guards.screens.config import ScreenConfig
from gatehouse.guards.screens.engine import ScreenEngine
from gatehouse.guards.screens.hits import SECRETS, Hit
from gatehouse.pipeline.turns import before_newest
from gatehouse.policy.model import ScreensPolicy

_MAX_CHARS: Final = 1_000
_OFF: Final = "off"


@dataclass(frozen=True, slots=True)
class CallerScreens:
    """Block more than policy.yaml does, in one call.

    Attributes:
        screens: names of the screens whose hits block.
        shipped: looks for the asked categories that policy.yaml has no list of; None where there is none.
    """

    screens: frozenset[str]
    shipped: ScreenEngine | None = field(default=None, repr=False)

    def enforce(self, texts: Sequence[TextPart], scans: Sequence[Scan]) -> None:
        """Refuse a request with a hit of these screens. Secrets of older turns are left to policy.yaml.

        Args:
            scans: what policy.yaml's screens found in each text.

        Raises:
            ContentBlocked: names the screen and the place.
        """
        for part, scan, old in zip(texts, scans, before_newest(texts), strict=True):
            for hit in self._hits(part.text, scan.hits, "request"):
                if old and hit.screen == SECRETS:
                    continue
                raise ContentBlocked(
                    f"Blocked by {hit.screen} ({shown(part.path)}: {hit.rule}), as {HEADER} asks. Take it out and ask "
                    "again.",
                    policies=(f"screens/{hit.screen}",),
                    where=shown(part.path),
                )

    def screen(self, text: str, hits: Iterable[Hit] = ()) -> None:
        """Withhold an answer with a hit of these screens.

        Args:
            hits: what policy.yaml's screens found in it.

        Raises:
            ContentBlocked: names the screen.
        """
        for hit in self._hits(text, hits, "answer"):
            raise ContentBlocked(
                f"The model's answer was withheld: blocked by {hit.screen}, as {HEADER} asks.",
                policies=(f"screens/{hit.screen}",),
            )

    def _hits(self, text: str, hits: Iterable[Hit], side: str) -> list[Hit]:
        found = [hit for hit in hits if hit.screen in self.screens]
        if self.shipped is None:
            return found
        try:
            own = self.shipped.scan(text)
        except ScanFailed as failed:
            metrics.stage_errors.labels("scan", failed.reason).inc()
            raise ContentBlocked(
                f"A text could not be screened for what {HEADER} asks, because it is too long or took too long. Send "
                "it in parts, or leave the header out.",
                policies=("screens",),
            ) from None
        for hit in own:
            metrics.screen_hits.labels(hit.screen, side).inc()
        return [*found, *own]


def caller_screens(headers: Mapping[str, str], policy: ScreensPolicy | None) -> CallerScreens | None:
    """Return what a caller asks to be blocked; None where that is nothing.

    Args:
        headers: the request's; names in any case.

    Raises:
        InvalidRequest: a category that there is not.
    """
    said = next((value for name, value in headers.items() if name.lower() == HEADER.lower()), None)
    if said is None:
        return None
    categories = {each for word in said[:_MAX_CHARS].split(",") if (each := word.strip())}
    lists = policy.blocked_content if policy is not None else {}
    known = {*CATEGORIES, *lists, *_screens_of(policy)}
    if unknown := sorted(categories - known):
        raise InvalidRequest(
            f"{HEADER}: {unknown[0][:60]!r} is no category of content here. Known are {', '.join(sorted(known))}. "
            "Correct it, or have an administrator add it to screens.blocked_content in policy.yaml."
        )
    shipped = frozenset(categories & CATEGORIES.keys() - lists.keys())
    names = {each if each in _screens_of(policy) else f"blocked_content/{each}" for each in categories}
    return CallerScreens(frozenset(names), _engine(shipped) if shipped else None) if names else None


def _screens_of(policy: ScreensPolicy | None) -> tuple[str, ...]:
    """Return the screens of policy.yaml that run and need no list."""
    modes = {} if policy is None else {"secrets": policy.secrets, "prompt_injection": policy.prompt_injection}
    return tuple(name for name, mode in modes.items() if mode != _OFF)


@cache
def _engine(categories: frozenset[str]) -> ScreenEngine:
    return ScreenEngine(ScreenConfig(blocked_content={name: CATEGORIES[name] for name in sorted(categories)}))
