"""How the screens cut a text into words; the same for a list of blocked words and for what is compared with it."""

from __future__ import annotations

import re

import regex  # type: ignore[import-untyped]

from gatehouse.guards.unicode_fold import fold

# Scripts that are written without spaces: each character is a word of its own, and a word of the list a phrase.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_ANY = regex.compile(rf"(?V1)[{UNSPACED}]|[[\p{{L}}\p{{M}}\p{{N}}]--[{UNSPACED}]]++")
_ASCII = re.compile(r"[A-Za-z0-9]+")


def spans(text: str) -> list[tuple[int, int]]:
    """Where the words of a text stand, in order."""
    return [match.span() for match in (_ASCII if text.isascii() else _ANY).finditer(text)]


def words(text: str) -> list[str]:
    """The words of a text in order, without regard to case. Takes time in proportion to its length."""
    text = text.casefold()
    found: list[str] = (_ASCII if text.isascii() else _ANY).findall(text)
    return found


def words_of(phrase: str) -> tuple[str, ...]:
    """A word or phrase of a list as what it is looked up by in folded text."""
    return tuple(words(fold(phrase, homoglyphs=True).text))
