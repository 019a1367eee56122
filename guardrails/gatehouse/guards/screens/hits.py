"""What a screen says: where which of its rules matched. Never the text that was found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hit:
    """`text[start:end]` is what `rule` of `screen` looks for.

    Attributes:
        screen: `secrets`, `prompt_injection` or `blocked_content/<category>`.
        rule: the id of the rule, such as `github_token`; for blocked content the category.
        start: first character; of something encoded, of the whole run that it was read out of.
        end: behind the last character.
        score: between 0 and 1; for prompt injection that of all rules that matched close by, together.
    """

    screen: str
    rule: str
    start: int
    end: int
    score: float
