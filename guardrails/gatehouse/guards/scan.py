"""The input and output of a scanner process: what to look for, in personal data and screens, and what was found."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.config import PiiConfig
from gatehouse.guards.screens.config import ScreenConfig
from gatehouse.guards.screens.hits import Hit


@dataclass(frozen=True, slots=True)
class Scan:
    """Hold what was found in one text."""

    findings: tuple[Finding, ...] = ()
    hits: tuple[Hit, ...] = ()


NOTHING = Scan()


@dataclass(frozen=True, slots=True)
class ScanConfig:
    """Hold everything that a scan depends on; None for a part that is off."""

    pii: PiiConfig | None = None
    screens: ScreenConfig | None = None

    @property
    def wanted(self) -> bool:
        """Tell whether there is anything to look for."""
        return self.pii is not None or self.screens is not None

    @property
    def timeout_s(self) -> float:
        """Return the seconds for one text."""
        return sum(part.timeout_s for part in (self.pii, self.screens) if part is not None)

    def check(self) -> None:
        """Check everything that needs no loaded recognizers.

        Raises:
            SetupError: it names the mistake.
        """
        for part in (self.pii, self.screens):
            if part is not None:
                part.check()

    def to_json(self) -> str:
        """Return one line for `from_json`, the same for equal configurations."""
        return json.dumps([part and part.to_json() for part in (self.pii, self.screens)])

    @classmethod
    def from_json(cls, line: str) -> ScanConfig:
        """Read the output of `to_json`."""
        pii, screens = json.loads(line)
        return cls(pii and PiiConfig.from_json(pii), screens and ScreenConfig.from_json(screens))

    def digest(self) -> bytes:
        """Return 32 bytes that change whenever a scan could find something else."""
        return hashlib.sha256(self.to_json().encode()).digest()
