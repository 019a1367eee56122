"""Runs the screens over one text, each over every way to read it.

Pure: the same text and configuration give the same hits. It either reads a text to its end within the time or raises
`ScanFailed`.
"""

from __future__ import annotations

from dataclasses import replace
from time import monotonic

from gatehouse.core.reasons import Reason
from gatehouse.guards.deadline import Deadline
from gatehouse.guards.findings import ScanFailed
from gatehouse.guards.screens.config import ScreenConfig
from gatehouse.guards.screens.hits import Hit
from gatehouse.guards.screens.injection import SCREEN, Injection, judged
from gatehouse.guards.screens.keywords import Keywords
from gatehouse.guards.screens.secrets import Secrets
from gatehouse.guards.screens.views import views


class ScreenEngine:
    """Run the screens of one configuration. It keeps no state between texts."""

    def __init__(self, config: ScreenConfig) -> None:
        """Build the screens.

        Raises:
            SetupError: the configuration is out of bounds.
        """
        config.check()
        self._config = config
        self._screens = []
        if any(config.blocked_content.values()):
            self._screens.append(Keywords(config.blocked_content).find)
        if config.secrets:
            self._screens.append(Secrets().find)
        if config.prompt_injection:
            self._screens.append(Injection().find)

    def scan(self, text: str) -> list[Hit]:
        """Return hits in the order of the text; one may overlap another.

        Raises:
            ScanFailed: the text is too long (`too_long`), or the time ran out before its end (`timeout`).
        """
        if len(text) > self._config.max_chars:
            raise ScanFailed(Reason.TOO_LONG)
        if not self._screens:
            return []
        deadline = Deadline(monotonic() + self._config.timeout_s)
        hits: set[Hit] = set()
        for view in views(text, deadline):
            for find in self._screens:
                for hit in find(view, deadline):
                    start, end = view.span(hit.start, hit.end)
                    hits.add(replace(hit, start=start, end=end))
        if self._config.prompt_injection:
            suspected = {hit for hit in hits if hit.screen == SCREEN}
            hits = hits - suspected | set(judged(suspected, deadline))
        return sorted(hits, key=lambda hit: (hit.start, hit.end, hit.screen, hit.rule))

    def warm(self) -> None:
        """Do the work that only a first scan needs."""
        self.scan("The quick brown fox jumps over the lazy dog; naïve café, \uff46\uff4f\uff58, dGhlIHF1aWNrIGJyb3du")
