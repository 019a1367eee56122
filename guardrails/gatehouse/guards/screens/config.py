"""The configuration of the screens, as plain values that become a worker process's input and a cache key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gatehouse.core.errors import SetupError
from gatehouse.guards.screens.words import words_of

# A list that is longer wants a classifier, not a list. 50,000 words take 30 MB.
MAX_WORDS = 50_000


@dataclass(frozen=True, slots=True)
class ScreenConfig:
    """Hold everything that a scan depends on. Whether a hit blocks or is only a fact is decided elsewhere.

    Attributes:
        blocked_content: words and phrases by category.
        secrets: whether to look for keys, tokens and passwords in addresses.
        prompt_injection: whether to look for prompt injection.
        max_chars: a longer text is refused, not scanned in part.
        timeout_s: seconds for one text.
    """

    blocked_content: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    secrets: bool = False
    prompt_injection: bool = False
    max_chars: int = 200_000
    timeout_s: float = 5.0

    @property
    def wanted(self) -> bool:
        """Tell whether there is anything to look for."""
        return self.secrets or self.prompt_injection or any(self.blocked_content.values())

    def check(self) -> None:
        """Check what the policy's model cannot see.

        Raises:
            SetupError: it names the mistake.
        """
        if sum(map(len, self.blocked_content.values())) > MAX_WORDS:
            raise SetupError(f"screens.blocked_content: more than {MAX_WORDS} words. Shorten the lists.")
        for category, phrases in self.blocked_content.items():
            for phrase in phrases:
                words = words_of(phrase)
                # Signs count as the space between words: `a$$` would block every `a`.
                if not words or (len(words) == 1 and len(words[0]) == 1 and words[0].isascii()):
                    raise SetupError(
                        f"screens.blocked_content.{category}: {phrase!r} is not a word: signs do not count. "
                        "Write at least two letters or digits that stand together."
                    )
        if self.max_chars < 1 or not 0 < self.timeout_s <= 60:
            raise SetupError("screens: max_chars must be at least 1, timeout_s above 0 and at most 60. Correct them.")

    def to_json(self) -> str:
        """Return one line for `from_json`, the same for equal configurations."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, line: str) -> ScreenConfig:
        """Read the output of `to_json`."""
        raw: dict[str, Any] = json.loads(line)
        raw["blocked_content"] = {category: tuple(words) for category, words in raw["blocked_content"].items()}
        return cls(**raw)
