"""Cuts a text into words for the screens, the same way for lists of blocked words and for scanned texts."""

from __future__ import annotations

import re

import regex  # type: ignore[import-untyped]

from gatehouse.guards.unicode_fold import fold

# Scripts without spaces: each character is a word of its own, and a word of the list a phrase.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_ANY = regex.compile(rf"(?V1)[{UNSPACED}]|[[\p{{L}}\p{{M}}\p{{N}}]--[{UNSPACED}]]++")
_ASCII = re.compile(r"[A-Za-z0-9]+")


def spans(text: str) -> list[tuple[int, int]]:
    """Return the places of the words in a text, in order."""
    return [match.span() for match in (_ASCII if text.isascii() else _ANY).finditer(text)]


def words(text: str) -> list[str]:
    """Return the words of a text in order, in lower case. The time is linear in its length."""
    text = text.casefold()
    found: list[str] = (_ASCII if text.isascii() else _ANY).findall(text)
    return found


def words_of(phrase: str) -> tuple[str, ...]:
    """Return the key by which a word or phrase of a list is looked up in folded text."""
    return tuple(words(fold(phrase, homoglyphs=True).text))
