"""Folds a text to what a reader sees: full-width forms, zero-width characters, styled letters and accents become plain.

A pattern is matched on the folded copy, and `Folded.span` gives the match's place in the original. Nothing here decides
what is forbidden. The scanner for personal data and the screens share it, so that one trick is undone once.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from importlib.resources import files

# Marks that only decorate the letter before them. Marks of other scripts carry vowels and stay.
_MARKS = ((0x0300, 0x036F), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF), (0xFE00, 0xFE0F), (0xFE20, 0xFE2F))
# Characters that fonts draw as nothing, although Unicode does not call them format characters.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
# RFC 3490 section 3.1 makes these equal to the dot between labels.
_DOTS = frozenset("\u3002\uff0e\uff61\u2024\ufe52")


def _fold_char(char: str) -> str:
    if char in _BLANK or unicodedata.category(char) == "Cf" or 0xE0100 <= ord(char) <= 0xE01EF:
        return ""
    if char in _DOTS:
        return "."
    base = "".join(each for each in unicodedata.normalize("NFKD", char) if not _is_mark(each))
    return "".join(_plain(each) for each in unicodedata.normalize("NFC", base))


def _is_mark(char: str) -> bool:
    code = ord(char)
    return any(first <= code <= last for first, last in _MARKS)


def _plain(char: str) -> str:
    if char < "\x80":
        return char
    if char in _BLANK:
        return ""
    if (digit := unicodedata.decimal(char, None)) is not None:
        return str(digit)
    category = unicodedata.category(char)
    if category == "Pd" or char == "\u2212":
        return "-"
    return " " if category == "Zs" else char


def _lookalikes() -> dict[int, str]:
    """Return the letters of other scripts that are drawn like Latin ones, which scripts/make_confusables.py wrote."""
    lines = files("gatehouse.guards").joinpath("confusables.txt").read_text(encoding="ascii").splitlines()
    return {int(code, 16): letter for letter, *codes in map(str.split, lines) if letter != "#" for code in codes}


class _Translation(dict[int, str]):
    """A translation table that fills itself: `str.translate` asks for what is missing.

    Args:
        lookalikes: what becomes Latin letters. It would spoil real Cyrillic and Greek text.
    """

    def __init__(self, lookalikes: dict[int, str]) -> None:
        super().__init__()
        self._lookalikes = lookalikes

    def __missing__(self, code: int) -> str:
        folded = _fold_char(chr(code)).translate(self._lookalikes)
        if len(self) < 20_000:  # a hostile text may use every character there is
            self[code] = folded
        return folded


_PLAIN = _Translation({})
_LATIN = _Translation(_lookalikes())


@dataclass(frozen=True, slots=True)
class Folded:
    """Hold a folded text, and for each of its characters the index of the original character.

    `origins` is None where every character kept its place.
    """

    text: str = field(repr=False)
    length: int
    origins: tuple[int, ...] | None = field(default=None, repr=False)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the place of `text[start:end]` (not empty) in the original, with characters dropped inside it."""
        if self.origins is None:
            return start, end
        return self.origins[start], self.origins[end - 1] + 1


def fold(text: str, *, homoglyphs: bool = False) -> Folded:
    """Fold a text. With `homoglyphs` also fold letters of other scripts that look Latin; case is kept."""
    if text.isascii():
        return Folded(text, len(text))
    table = _LATIN if homoglyphs else _PLAIN
    folded = text.translate(table)
    if folded == text:
        return Folded(text, len(text))
    origins: list[int] = []
    for index, char in enumerate(text):
        origins.extend([index] * len(table[ord(char)]))
    return Folded(folded, len(text), tuple(origins))
