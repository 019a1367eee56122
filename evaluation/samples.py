"""A text whose personal data is known: what every set of texts holds, ours and those of others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """Hold a text, and which entity stands where in it.

    Attributes:
        spans: entity, start and end of each value.
        language: two letters.
    """

    text: str
    spans: tuple[tuple[str, int, int], ...]
    language: str = "en"
