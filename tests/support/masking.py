"""Makes masks for tests: the placeholders of a scope under a key that never changes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from gatehouse.core.keys import InstallationKeys, Purpose
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.config import PiiConfig
from gatehouse.guards.pii.masking import Mask, Placeholders

from tests.support.gateway import INSTALLATION_SECRET

KEYS = InstallationKeys(INSTALLATION_SECRET)
PLACEHOLDERS = Placeholders(KEYS.key(Purpose.MASKING), "team:a")


def new_mask(scope: str = "team:a") -> Mask:
    return Mask(Placeholders(KEYS.key(Purpose.MASKING), scope))


def of_key(key: str) -> Placeholders:
    """Return what a test's gateway makes the placeholders of a key without a team with."""
    return Placeholders(KEYS.key(Purpose.MASKING), f"key:{hashlib.sha256(key.encode()).hexdigest()}")


def mask_one(mask: Mask, text: str, findings: Sequence[Finding], config: PiiConfig | None = None) -> str:
    """Mask one text alone."""
    (masked,) = mask.mask([(text, findings)], config or PiiConfig())
    return masked
