"""Masks personal data in what `CapsuleLogger` keeps with `content="redacted"`."""

from __future__ import annotations

import secrets

from gatehouse.core.keys import DerivedKey
from gatehouse.guards.findings import ScanFailed
from gatehouse.guards.pii.config import PiiConfig
from gatehouse.guards.pii.engine import Engine
from gatehouse.guards.pii.masking import Placeholders


class Redactor:
    """Mask texts with what Gatehouse finds by default. One thread uses it.

    The key of the placeholders is made anew in each process, so that they do not tell the values.
    """

    def __init__(self) -> None:
        self._config = PiiConfig()
        self._engine = Engine(self._config)
        self._placeholders = Placeholders(DerivedKey("", secrets.token_bytes(32)), "capsules")

    def __call__(self, text: str | None) -> str | None:
        """Return the text with personal data replaced; None where it could not be scanned."""
        if text is None:
            return None
        try:
            return self._placeholders.redact(text, self._engine.scan(text), self._config)
        except ScanFailed:
            return None
