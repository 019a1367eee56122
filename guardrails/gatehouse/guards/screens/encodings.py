"""Decodes text that is written to escape a reader of the letters, within bounds, each encoding by itself.

Nothing here decides anything; it only returns other readings of a text.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterator

import regex  # type: ignore[import-untyped]

from gatehouse.guards.deadline import Deadline, matches
from gatehouse.guards.encoded import decoded_runs, hex_runs, unescaped

Run = tuple[int, int, str]
"""Start and end of a run of the text, and the decoded text."""

# A word may hold one or two escapes by chance, and a phrase is not worth fewer.
_MIN_ESCAPES = 3
# Letters that stand alone, three or more; the first pattern only spares most texts the second.
_TWO_LETTERS = re.compile(r"[ ._*|/\-\n][^\W_][ ._*|/\-]{1,3}[^\W_][ ._*|/\-]")
_LETTERS = regex.compile(r"(?<![^\W_])[^\W_](?:([ ._*|/\-]{1,3})[^\W_](?![^\W_])){2,}+")
_GAP = regex.compile(r"[ ._*|/\-]+")
# Characters that no font draws, one for each of ASCII. A region's flag has six; no other visible text has any.
_TAGS = regex.compile(r"[\U000E0020-\U000E007E]{8,}+")
_LEET_TOKEN = re.compile(r"[A-Za-z0-9@$]{4,40}")
# `reverse` alone does not count: a reverse proxy in a text must not turn `live` into `evil`.
_BACKWARDS = ("backwards", "reversed", "in reverse", "reverse this", "reverse the following", "ruckwarts", "a l'envers")
# The most characters between such a word and its phrase.
_AROUND = 120
_LEET = str.maketrans("013457@$", "oieastas")
_LEET_L = str.maketrans("013457@$", "oleastas")


def encoded_runs(text: str, deadline: Deadline) -> Iterator[Run]:
    """Yield every run that encodes another text.

    Raises:
        ScanFailed: the time ran out.
    """
    yield from decoded_runs(text, deadline)
    yield from hex_runs(text, deadline)
    for each in unescaped(text, deadline, min_escapes=_MIN_ESCAPES):
        yield *each.span(0, len(each.text)), each.text
    if _TWO_LETTERS.search(f" {text}"):
        for match in matches(_LETTERS, text, deadline):
            yield match.start(), match.end(), _joined(match[0])


def _joined(run: str) -> str:
    """Join letters that stood alone: the most frequent gap is inside words, any other gap is between them."""
    gaps = _GAP.findall(run)
    inside = Counter(gaps).most_common(1)[0][0]
    letters = _GAP.split(run)
    text = letters[0] + "".join(
        ("" if gap == inside else " ") + letter for gap, letter in zip(gaps, letters[1:], strict=True)
    )
    # In `a b o m b` the first letter is the article.
    return f"{text}\n{text[0]} {text[1:]}" if text[0] in "aAiI" else text


def invisible_runs(text: str, deadline: Deadline) -> Iterator[Run]:
    """Yield every run of invisible characters with the text that a model reads in it.

    Raises:
        ScanFailed: the time ran out.
    """
    if not text.isascii():
        for match in matches(_TAGS, text, deadline):
            yield match.start(), match.end(), "".join(chr(ord(char) - 0xE0000) for char in match[0])


def with_letters_for_digits(text: str) -> Iterator[tuple[int, str]]:
    """Yield every stretch of the text around words like `pr3v10us`, with letters for their digits, and its start.

    The lengths do not change.
    """
    for table in (_LEET, _LEET_L) if "1" in text else (_LEET,):
        spelled = {token: _spelled(token, table) for token in set(_LEET_TOKEN.findall(text)) if not token.isalpha()}
        if any(spelled.values()):
            yield from _stretches(text, spelled)


def _spelled(token: str, table: dict[int, int]) -> str:
    """Return the token in letters; empty where it is not a word."""
    letters = sum(map(str.isalpha, token))
    spelled = token.translate(table)
    return spelled if 3 * letters >= len(token) and spelled.isalpha() else ""


def _stretches(text: str, spelled: dict[str, str]) -> Iterator[tuple[int, str]]:
    first = last = -1
    parts: list[str] = []
    for match in _LEET_TOKEN.finditer(text):
        if not (letters := spelled.get(match[0])):
            continue
        if first < 0 or match.start() > last + 2 * _AROUND:
            if first >= 0:
                yield first, "".join(parts) + text[last : last + _AROUND]
            first = max(0, match.start() - _AROUND)
            parts = [text[first : match.start()]]
        else:
            parts.append(text[last : match.start()])
        parts.append(letters)
        last = match.end()
    if first >= 0:
        yield first, "".join(parts) + text[last : last + _AROUND]


def announced(text: str) -> Iterator[str]:
    """Yield the text as it tells its reader to read it: with shifted letters, or backwards."""
    lower = text.lower()
    if any(name in lower for name in ("rot13", "rot-13", "rot 13", "caesar")):
        yield codecs.encode(text, "rot13")
    if any(name in lower for name in _BACKWARDS):
        yield text[::-1]
