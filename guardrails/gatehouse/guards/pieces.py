"""Cuts a long text into pieces that are scanned one by one, and puts what was found in them together.

Each piece is read with what stands before and after it, so that a finding on a border is found whole. Callers take
turns between the pieces, and the beginning of a text that has grown was seen before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from gatehouse.guards.findings import merged
from gatehouse.guards.scan import NOTHING, Scan

# A longer text is refused, not scanned in part.
MAX_CHARS: Final = 1_048_576
# A shorter text is scanned whole.
_WHOLE: Final = 196_608
_PIECE: Final = 98_304
# More than the longest finding that is one word has; base64 of any length is found in each of its pieces.
_AROUND: Final = 16_384


@dataclass(frozen=True, slots=True)
class Piece:
    """Hold one piece of a text.

    Attributes:
        text: the piece, with what stands around it.
        at: where `text` begins in the whole text.
        start, end: the piece itself, as places in the whole text.
    """

    text: str
    at: int
    start: int
    end: int


def pieces(text: str) -> list[Piece]:
    """Return the pieces of a text, in order; one where it is not long."""
    if len(text) <= _WHOLE:
        return [Piece(text, 0, 0, len(text))]
    found = []
    for start in range(0, len(text), _PIECE):
        at, end = max(0, start - _AROUND), min(len(text), start + _PIECE)
        found.append(Piece(text[at : end + _AROUND], at, start, end))
    return found


def together(parts: Sequence[Piece], scans: Sequence[Scan]) -> Scan:
    """Return what the scans of all pieces of a text found, with its places in the whole text."""
    if len(parts) == 1:
        return scans[0]
    pairs = list(zip(parts, scans, strict=True))
    findings = {
        replace(each, start=each.start + part.at, end=each.end + part.at)
        for part, scan in pairs
        for each in scan.findings
        if _touches(part, each.start, each.end)
    }
    hits = {
        replace(each, start=each.start + part.at, end=each.end + part.at)
        for part, scan in pairs
        for each in scan.hits
        if _touches(part, each.start, each.end)
    }
    if not findings and not hits:
        return NOTHING
    in_order = sorted(hits, key=lambda hit: (hit.start, hit.end, hit.screen, hit.rule, hit.score))
    return Scan(tuple(merged(findings, lambda _: 0)), tuple(in_order))


def _touches(part: Piece, start: int, end: int) -> bool:
    """Tell whether something lies in the piece itself: at the ends of what stands around it, words are cut."""
    return start + part.at < part.end and part.start < end + part.at
