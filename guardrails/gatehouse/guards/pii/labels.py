"""Reads the words around a place: a label such as "phone" or "Kartennummer" says what the number after it is.

Texts are folded before, so labels have no accents. Words of names in code (`customerPhone`) are words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from gatehouse.guards.unicode_fold import fold

BEFORE, AFTER = 60, 40
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WORD = re.compile(r"[a-z\u0400-\u04ff]+#?")
# What ends the sentence or the field that a label belongs to, but for the point of "tel." and "no.".
_BREAK = re.compile(r"[a-z]{4}\.\s|[!?;\u3002\uff01\uff1f\uff1b]|\n[^\n]*[^\s\d]")
# So far above a cell, in characters, the head of its column is looked for.
_TABLE = 4_000
# Words that a label has at most.
_LONGEST = 3


@dataclass(frozen=True, slots=True)
class Label:
    """Hold the label that is nearest to a place, and what stands between them.

    Attributes:
        kind: the name of the group of words that it is from.
        gap: the text between, in lower case and with the words of names in code apart.
    """

    kind: str
    gap: str


class Labels:
    """Find labels of several kinds: whole words in scripts with spaces, and anything else also inside a word."""

    def __init__(self, **kinds: Iterable[str]) -> None:
        self._kinds: dict[str, str] = {}
        unspaced: list[str] = []
        for kind, words in kinds.items():
            for word in words:
                folded = fold(word).text.lower()
                self._kinds.setdefault(folded, kind)
                if not _WORD.match(folded):
                    unspaced.append(folded)
        self._endings = frozenset(label.rpartition(" ")[2] for label in self._kinds)
        longest_first = sorted(unspaced, key=lambda word: (-len(word), word))
        self._unspaced = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def before(self, text: str, at: int, reach: int = BEFORE, *, across: bool = False) -> Label | None:
        """Return the last label before a place, in the same sentence and field, or `across` their ends."""
        window = _spelled(text[max(0, at - reach) : at])
        found = self._last(window)
        if found is None:
            return None
        kind, end = found
        gap = window[end:]
        return None if not across and _BREAK.search(gap) else Label(kind, gap)

    def after(self, text: str, at: int, reach: int = AFTER) -> Label | None:
        """Return the first label after a place, in the same sentence."""
        window = _spelled(text[at : at + reach])
        for start, _, kind in self._all(window):
            return None if _BREAK.search(window[:start]) else Label(kind, window[:start])
        return None

    def of_column(self, text: str, at: int) -> str | None:
        """Return the kind of the label at the head of the column of a table in which a place stands."""
        line_start = text.rfind("\n", max(0, at - _TABLE), at) + 1
        line = text[line_start:at]
        sign = next(
            (each for each in "|\t;," if each in line),
            "," if text[at : at + _TABLE].partition("\n")[0].count(",") else "",
        )
        if not sign or not line_start:
            return None
        above = text[max(0, line_start - 1 - _TABLE) : line_start - 1].split("\n")
        if sign not in above[-1]:
            return None
        head = above[-1]
        for row in reversed(above):
            if sign not in row:
                break
            head = row
        cells = head.split(sign)
        found = self._last(_spelled(cells[line.count(sign)][:BEFORE])) if line.count(sign) < len(cells) else None
        return found[0] if found is not None else None

    def _last(self, window: str) -> tuple[str, int] | None:
        kind, end = "", -1
        if not window.isascii():
            for match in self._unspaced.finditer(window):
                kind, end = self._kinds[match[0]], match.end()
        words = list(_WORD.finditer(window))
        for nth in range(len(words) - 1, -1, -1):
            if words[nth].end() <= end:
                break
            if found := self._ending(window, words, nth):
                return found, words[nth].end()
        return (kind, end) if end >= 0 else None

    def _ending(self, window: str, words: list[re.Match[str]], nth: int) -> str | None:
        """Return the kind of the longest label that ends with a word."""
        if words[nth][0] not in self._endings:
            return None
        for first in range(max(0, nth + 1 - _LONGEST), nth + 1):
            if kind := self._kinds.get(" ".join(window[words[first].start() : words[nth].end()].split())):
                return kind
        return None

    def _all(self, window: str) -> list[tuple[int, int, str]]:
        words = list(_WORD.finditer(window))
        found = [
            (word.start(), word.end(), kind)
            for nth, word in enumerate(words)
            if (kind := self._ending(window, words, nth))
        ]
        if not window.isascii():
            found += [(each.start(), each.end(), self._kinds[each[0]]) for each in self._unspaced.finditer(window)]
        return sorted(found)


def _spelled(text: str) -> str:
    return _CAMEL.sub(" ", text).replace("_", " ").lower()


@cache
def words(section: str) -> tuple[str, ...]:
    """Return the words and phrases of a section of labels.txt."""
    text = files("gatehouse.guards.pii").joinpath("labels.txt").read_text(encoding="utf-8")
    lines = text.partition(f"[{section}]\n")[2].partition("\n\n")[0].splitlines()
    return tuple(word.strip() for line in lines for word in line.split(",") if word.strip())
