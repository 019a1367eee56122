"""Finds the end of an unfinished text that may become a hit, which a stream must hold back, and the context to keep.

A word is held back to its end. In Chinese, Japanese, Thai and other scripts without spaces each character is a word, so
these pass as they come. A longer run than its bound passes from its beginning on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import regex  # type: ignore[import-untyped]

from gatehouse.guards.encoded import BREAK, START, WORD
from gatehouse.guards.screens.formats import MIN_PEM
from gatehouse.guards.screens.words import UNSPACED

# Keys and tokens are single words of at most some 2,000 characters, except JSON Web Tokens with many claims.
MAX_WORD, MAX_JWT = 2_048, 12_100
# For text in lines of base64, single letters, or escapes with spaces between them. Encoded twice, the longest keys (250
# characters) have 450.
MAX_ENCODED = 512
# Passed text that is scanned again, so that a phrase is found across any cut. More would cost time at each word.
MAX_CONTEXT = 300
# A password may follow eight fields of a connection string, and any number of blanks.
MAX_CONNECTION = 2_500
_LONG_BLANKS = re.compile(r"([ \t\r\n])\1{59,}")

_LAST_BREAK = regex.compile(rf"(?r)[\s{UNSPACED}]")
_LAST_SPACE = regex.compile(r"(?r)\s")
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]{0,2000}+(?:\.[A-Za-z0-9_-]{0,8000}+(?:\.[A-Za-z0-9_-]{0,2000}+)?)?\Z")
# Each pattern takes a run whole, so that all of them together read the text once.
_LINES = re.compile(rf"{START}{WORD}++(?:{BREAK}{WORD}++)*+(?:{BREAK}|[=\s]*+)")
_LETTERS = re.compile(r"(?<![^\W_])[^\W_](?![^\W_])(?:[ ._*|/\-\n]{1,3}(?:[^\W_](?![^\W_]))?)*+")
_TWO_LETTERS = re.compile(r"(?<![^\W_])[^\W_][ ._*|/\-\n]{1,3}(?:[^\W_]?(?![^\W_]))")
_ESCAPES = re.compile(r"(?:(?:\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|&#x?[0-9a-fA-F]{1,7};) ?)++[\\&]?[#\w]{0,9}")
_PEM = re.compile(r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_URL = re.compile(r"""://[^\s:/@"'<>`]{0,100}+:[^\s/@"'<>`]{0,200}+@?[A-Za-z0-9\[.-]?""")
_FIELDS = re.compile(
    r"(?i:server|data source|host)\s?=[^;\n]{1,200}+(?:;[^;\n]{0,200}+){0,8}?"
    r"""(?:;\s?(?i:password|pwd)\s?=\s?(?P<password>[^;\s"']{0,100}+)|;?[^;\n]{0,200}+)\Z"""
)


def unfinished(text: str) -> tuple[int, bool]:
    """Return where a possible hit begins in a text that continues, and whether its beginning was too long to keep."""
    end, word = len(text), _word(text)
    whole = min(word, _private_key(text, word))
    runs = sorted(_runs(text), reverse=True)
    first = _outside(runs, text, whole, 0)
    # Cut a run where a word begins, and a word only where it is too long.
    start = _outside(runs, text, whole, end - MAX_ENCODED)
    if end - start > MAX_WORD:
        token = _JWT.search(text, max(start, end - MAX_JWT))
        start = token.start() if token else end - MAX_WORD
    return start, first < start


def _word(text: str) -> int:
    match = (_LAST_SPACE if _in_password(text) else _LAST_BREAK).search(text)
    return match.end() if match else 0


def _in_password(text: str) -> bool:
    """Tell whether the password of a connection string continues, which may hold any character."""
    match = _FIELDS.search(text) if "=" in text else None
    return match is not None and match["password"] is not None


def _private_key(text: str, end: int) -> int:
    """Return where a private key begins that has too few characters before `end` to be recognized."""
    if "PRIVATE KEY" in text:
        for match in _PEM.finditer(text):
            rest = text[match.end() : end]
            if "-----" not in rest and sum(map(str.isalnum, rest)) < MIN_PEM:
                return match.end()
    return len(text)


def _runs(text: str) -> Iterator[tuple[int, int]]:
    """Yield runs of several words that are a hit only together."""
    patterns = []
    if "\n" in text or "\r" in text or "\\" in text:
        patterns.append(_LINES)
    if _TWO_LETTERS.search(text):
        patterns.append(_LETTERS)
    if "\\" in text or "&#" in text:
        patterns.append(_ESCAPES)
    if "://" in text:
        patterns.append(_URL)
    for each in patterns:
        for match in each.finditer(text):
            yield match.span()


def _outside(runs: list[tuple[int, int]], text: str, start: int, least: int) -> int:
    """Return the last word start before `start` that lies in no run, or in a run that begins before `least`."""
    inside = True
    while inside:
        inside = False
        for first, last in runs:
            begin = max(first, least)
            if begin < start and (start < last or last == len(text)):
                start, inside = _word(text[:begin]), True
    return start


def context(text: str) -> str:
    """Return the end of passed text that must be scanned again with what follows it."""
    text = _LONG_BLANKS.sub(lambda blanks: blanks[1] * 60, text[-MAX_CONNECTION:])
    fields = _FIELDS.search(text) if "=" in text else None
    return text[min(max(0, len(text) - MAX_CONTEXT), fields.start() if fields else len(text)) :]
