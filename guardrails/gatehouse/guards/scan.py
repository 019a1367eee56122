"""What the scanner's processes look for: personal data, what the screens know, or both; and what they answer."""

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
    """What was found in one text."""

    findings: tuple[Finding, ...] = ()
    hits: tuple[Hit, ...] = ()


NOTHING = Scan()


@dataclass(frozen=True, slots=True)
class ScanConfig:
    """Everything that a scan depends on; None where that is not looked for."""

    pii: PiiConfig | None = None
    screens: ScreenConfig | None = None

    @property
    def wanted(self) -> bool:
        """Whether there is anything to look for."""
        return self.pii is not None or self.screens is not None

    @property
    def max_chars(self) -> int:
        """The longest text that is scanned."""
        return min((part.max_chars for part in (self.pii, self.screens) if part is not None), default=0)

    @property
    def timeout_s(self) -> float:
        """Seconds for one text."""
        return sum(part.timeout_s for part in (self.pii, self.screens) if part is not None)

    def check(self) -> None:
        """Check what can be checked without loading recognizers.

        Raises:
            SetupError: names the mistake.
        """
        for part in (self.pii, self.screens):
            if part is not None:
                part.check()

    def to_json(self) -> str:
        """One line that `from_json` reads and that is the same for equal configurations."""
        return json.dumps([part and part.to_json() for part in (self.pii, self.screens)])

    @classmethod
    def from_json(cls, line: str) -> ScanConfig:
        """Read what `to_json` wrote."""
        pii, screens = json.loads(line)
        return cls(pii and PiiConfig.from_json(pii), screens and ScreenConfig.from_json(screens))

    def digest(self) -> bytes:
        """32 bytes that change whenever a scan could find something else."""
        return hashlib.sha256(self.to_json().encode()).digest()
