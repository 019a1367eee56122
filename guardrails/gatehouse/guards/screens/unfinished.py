"""Where a text that is still being written may go on to be a hit: what a stream holds back, and what it remembers.

A word is held back to its end. In Chinese, Japanese, Thai and other scripts without spaces each character is a word, so
these pass as they come. What is longer than its bound passes from its beginning on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import regex  # type: ignore[import-untyped]

from gatehouse.guards.encoded import BREAK, START, WORD
from gatehouse.guards.screens.formats import MIN_PEM
from gatehouse.guards.screens.words import UNSPACED

# Keys and tokens are single words of at most some 2,000 characters, a JSON Web Token with many claims apart.
MAX_WORD, MAX_JWT = 2_048, 12_100
# What is written in lines of base64, letters that stand alone or escapes with spaces between them. Twice encoded, the
# longest keys (250 characters) have 450.
MAX_ENCODED = 512
# What is seen again of what was passed on, so that a phrase is found across any cut. More is paid for at each word.
MAX_CONTEXT = 300
# A password may follow eight fields of a connection string, and any number of blanks.
MAX_CONNECTION = 2_500
_LONG_BLANKS = re.compile(r"([ \t\r\n])\1{59,}")

_LAST_BREAK = regex.compile(rf"(?r)[\s{UNSPACED}]")
_LAST_SPACE = regex.compile(r"(?r)\s")
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]{0,2000}+(?:\.[A-Za-z0-9_-]{0,8000}+(?:\.[A-Za-z0-9_-]{0,2000}+)?)?\Z")
# Each of these takes a run whole, so that looking for all of them goes over the text once.
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
    """Where in a text that goes on what may become a hit begins, and whether its beginning is left out, as too long."""
    end, word = len(text), _word(text)
    whole = min(word, _private_key(text, word))
    runs = sorted(_runs(text), reverse=True)
    first = _outside(runs, text, whole, 0)
    # A run is cut where a word begins, and a word only where it is too long.
    start = _outside(runs, text, whole, end - MAX_ENCODED)
    if end - start > MAX_WORD:
        token = _JWT.search(text, max(start, end - MAX_JWT))
        start = token.start() if token else end - MAX_WORD
    return start, first < start


def _word(text: str) -> int:
    match = (_LAST_SPACE if _in_password(text) else _LAST_BREAK).search(text)
    return match.end() if match else 0


def _in_password(text: str) -> bool:
    """Whether the password of a connection string goes on, which may hold any character."""
    match = _FIELDS.search(text) if "=" in text else None
    return match is not None and match["password"] is not None


def _private_key(text: str, end: int) -> int:
    """Where a private key begins of which too little stands before `end` to tell."""
    if "PRIVATE KEY" in text:
        for match in _PEM.finditer(text):
            rest = text[match.end() : end]
            if "-----" not in rest and sum(map(str.isalnum, rest)) < MIN_PEM:
                return match.end()
    return len(text)


def _runs(text: str) -> Iterator[tuple[int, int]]:
    """Where something is written in several words that are a hit only together."""
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
    """The last word before `start` that begins inside no run, or inside one that reaches back behind `least`."""
    inside = True
    while inside:
        inside = False
        for first, last in runs:
            begin = max(first, least)
            if begin < start and (start < last or last == len(text)):
                start, inside = _word(text[:begin]), True
    return start


def context(text: str) -> str:
    """What of a text that was passed on must be seen again with what follows it."""
    text = _LONG_BLANKS.sub(lambda blanks: blanks[1] * 60, text[-MAX_CONNECTION:])
    fields = _FIELDS.search(text) if "=" in text else None
    return text[min(max(0, len(text) - MAX_CONTEXT), fields.start() if fields else len(text)) :]
