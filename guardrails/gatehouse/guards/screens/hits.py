"""A screen's result: which of its rules matched, and where. Never the text that was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SECRETS: Final = "secrets"


@dataclass(frozen=True, slots=True)
class Hit:
    """Locate a match: `text[start:end]` is what `rule` of `screen` looks for.

    Attributes:
        screen: `secrets`, `prompt_injection` or `blocked_content/<category>`.
        rule: the id of the rule, such as `github_token`; for blocked content the category.
        start: the first character; for encoded text, of the whole run that encodes it.
        end: the index after the last character.
        score: between 0 and 1; for prompt injection the combined score of all rules that matched nearby.
    """

    screen: str
    rule: str
    start: int
    end: int
    score: float
