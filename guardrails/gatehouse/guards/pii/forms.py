"""The forms in which a model may write a placeholder, and the one grammar that whole texts and cut streams share.

A model changes the case, the brackets, what stands between the words of a name, and puts markup or escapes inside. The
8 characters of the token and the entity before them stay, so a form without both is ordinary text. Each part of the
grammar is bounded, so the work is linear in the length of the text.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Any, Final

import regex  # type: ignore[import-untyped]

TOKEN_CHARS: Final = 8
SPELLING_CHARS: Final = 2

_DIGIT: Final = "[0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]"
_TOKEN: Final = f"{_DIGIT}{{{TOKEN_CHARS}}}(?:{_DIGIT}{{{SPELLING_CHARS}}})?"
_DIGITS: Final = re.compile(f"{_DIGIT}*")
# Markdown, and JSON in JSON, put up to so many backslashes before a character.
_SLASHES: Final = r"\\{0,4}"
_ESCAPE: Final = r"\\{1,4}"
_BLANK: Final = (
    r"[\s\u00a0\u00ad\u1680\u2000-\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff]"
    rf"|{_ESCAPE}(?:[nrt]|u(?:00a0|00ad|20[01][0-9a-f]|202[89f]|205f|2060|3000|feff))|&nbsp;|&\#160;|&\#xa0;|%20|%c2%a0"
)
_MARK: Final = rf"{_SLASHES}[*_`~]"
# Between the words of a name, and before its token.
_JOIN: Final = (
    rf"(?:{_MARK}|{_SLASHES}[-\u2010-\u2015\uff3f]|{_BLANK}"
    rf"|{_ESCAPE}u(?:005f|002d|201[0-5]|ff3f)|&lowbar;|&\#95;|%5f|%2d){{1,6}}"
)
# Behind the last word of a name.
_TOKEN_BEHIND: Final = re.compile(rf"{_JOIN}({_TOKEN})(?![0-9A-Za-z])", re.ASCII | re.IGNORECASE)
# Between a name and its brackets.
_FILL: Final = rf"(?:{_MARK}|{_BLANK}|</?(?:b|i|u|s|em|strong|code|mark|span|tt)>){{0,6}}"

# Brackets by what closes them: as they are, and as HTML, JSON and URLs write them.
_ANGLES: Final = {
    ">": "<",
    "&gt;": "&lt;",
    "&amp;gt;": "&amp;lt;",
    "&#62;": "&#60;",
    "&#x3e;": "&#x3c;",
    "%3e": "%3c",
    "\\u003e": "\\u003c",
    "\\x3e": "\\x3c",
}
# Those of other scripts, and the quotes that close as they do.
_FOREIGN: Final = dict(
    zip(
        "\u3011\u00bb\uff1e\u3009\u300b\u27e9\u203a\uff3d\uff5d",
        "\u3010\u00ab\uff1c\u3008\u300a\u27e8\u2039\uff3b\uff5b",
        strict=True,
    )
)
_BRACKETS: Final = {
    **_ANGLES,
    "]": "[",
    "}": "{",
    **_FOREIGN,
    **{f"\\u{ord(closing):04x}": f"\\u{ord(opening):04x}" for closing, opening in _FOREIGN.items()},
    "&raquo;": "&laquo;",
    "%5d": "%5b",
    "%7d": "%7b",
}


def _any(brackets: Iterable[str]) -> str:
    """Return the source of a pattern for any of these brackets, with the backslashes that may stand before it."""
    plain = "|".join(re.escape(each) for each in brackets if each[0] != "\\")
    named = "|".join(re.escape(each[1:]) for each in brackets if each[0] == "\\")
    return rf"(?:{_SLASHES}(?:{plain})|{_ESCAPE}(?:{named}))"


_FLAGS: Final = regex.ASCII | regex.IGNORECASE
_OPEN: Final = _any(_BRACKETS.values())
_CLOSE: Final = _any(_BRACKETS)
# In Markdown's links and references the brackets belong to the link.
_CLOSING: Final = regex.compile(rf"{_FILL}({_CLOSE})(?!(?<=\])[(\[])", _FLAGS)
_FILLED: Final = regex.compile(rf"(?r){_FILL}", _FLAGS)
_LONE: Final = tuple(_ANGLES.values())
_MAX_OPENING: Final = 4 + max(map(len, _BRACKETS))
# What may stand around and inside a name of one word, at most: brackets, two times six of the longest filling.
_MAX_AROUND: Final = 2 * (_MAX_OPENING + 6 * len("</strong>")) + TOKEN_CHARS + SPELLING_CHARS
_MAX_JOIN: Final = 6 * len(r"\\\\u00a0")
# How far before its end a token can begin with the last word of its entity, which has at most 64 characters.
TOKEN_REACH: Final = 64 + _MAX_JOIN + TOKEN_CHARS + SPELLING_CHARS


def last_word(entity: str) -> str:
    """Return the word of an entity's name that stands before its tokens, in lower case."""
    return entity.rstrip("_").rpartition("_")[2].lower()


def tokens_in(text: str, low: int, high: int, words: Iterable[str]) -> list[tuple[str, int, int]]:
    """Return what may be a token in `text[low:high]`, in capitals, with its start and end, in order.

    Args:
        words: the last words of the call's entities.
    """
    # Almost no text holds such a word with a token behind it, and this finds out fastest.
    part = text[low:high].lower()
    if len(part) != high - low:  # this letter alone becomes two
        part = text[low:high].replace("\u0130", "I").lower()
    found: dict[int, tuple[str, int, int]] = {}
    for word in words:
        at = part.find(word)
        while at >= 0:
            if match := _TOKEN_BEHIND.match(text, low + at + len(word), high):
                found[match.start(1)] = (match[1].upper(), *match.span(1))
            at = part.find(word, at + 1)
    return sorted(found.values(), key=lambda each: each[1])


def reach(entity: str, text: str, start: int, end: int, low: int, high: int) -> tuple[int, int] | None:
    """Return start and end of the placeholder whose token is `text[start:end]`, with its brackets.

    Args:
        low, high: it stands between these places.

    Returns:
        None where its entity does not precede it.
    """
    name = _before(entity).match(text, low, start)
    if name is None:
        return None
    begin: int = name.start()
    if closing := _CLOSING.match(text, end, high):
        at = _FILLED.match(text, low, begin).start()
        opening = _opening(closing[1].lower())
        if text[max(low, at - len(opening)) : at].lower() == opening:
            return at - len(opening), closing.end()
    for opening in _LONE:
        if text[max(low, begin - len(opening)) : begin].lower() == opening:
            return begin - len(opening), end
    return begin, end


def _opening(closing: str) -> str:
    """Return what opens a bracket that is closed like this, with as many backslashes."""
    bracket = closing.lstrip("\\")
    slashes = len(closing) - len(bracket)
    if bracket in _BRACKETS:
        return closing[:slashes] + _BRACKETS[bracket]
    return closing[: slashes - 1] + _BRACKETS["\\" + bracket]


@lru_cache(maxsize=256)
def _before(entity: str) -> Any:
    """Return the pattern of a name up to its token, read backwards."""
    return regex.compile(rf"(?r){_named(entity)}", _FLAGS)


@lru_cache(maxsize=256)
def _begun(entity: str) -> tuple[Any, Any]:
    """Return the patterns of a name up to its token with what opens it, and of a whole placeholder."""
    name = _named(entity)
    closed = rf"{_OPEN}{_FILL}{name}{_TOKEN}(?:{_FILL}(?P<closed>{_CLOSE}))?"
    return regex.compile(rf"(?:{_OPEN}{_FILL})?{name}", _FLAGS), regex.compile(rf"{closed}|{name}{_TOKEN}", _FLAGS)


def _named(entity: str) -> str:
    return "".join(regex.escape(word) + _JOIN for word in entity.split("_") if word)


class Beginnings:
    """Tell where the end of a text may still become one of the call's placeholders.

    Args:
        names: the names of the placeholders, without brackets.
    """

    __slots__ = ("_entities", "_first", "_longest", "_tokens")

    def __init__(self, names: Collection[str]) -> None:
        pairs = [name.rpartition("_") for name in names]
        self._tokens = sorted({token for _, _, token in pairs})
        entities = sorted({entity for entity, _, _ in pairs})
        self._entities = [_begun(each) for each in entities]
        longest = (len(each) + _MAX_JOIN * (each.count("_") + 1) for each in entities)
        self._longest = _MAX_AROUND + max(longest, default=0)
        begins = {each.lstrip("_")[0] for each in entities} | {each[0] for each in _BRACKETS.values()} | {"\\"}
        self._first = re.compile(f"[{re.escape(''.join(sorted(begins)))}]", re.ASCII | re.IGNORECASE)

    def start(self, text: str, found: Iterable[tuple[int, int, str]]) -> int:
        """Return where the beginning of a placeholder stands at the end of a text; the text's length without one.

        Args:
            found: the placeholders in the text; none begins inside another.
        """
        if not self._tokens:
            return len(text)
        low = max(0, len(text) - self._longest)
        inside = [each for each in found if each[1] > low]
        for match in self._first.finditer(text, low):
            at = match.start()
            if not any(start < at < end for start, end, _ in inside) and self._may_go_on(text, at):
                return at
        return len(text)

    def _may_go_on(self, text: str, at: int) -> bool:
        """Tell whether what begins here is unfinished, or may still be closed."""
        for head, form in self._entities:
            whole = form.fullmatch(text, at, partial=True)
            if whole is None:
                continue
            if not whole.partial:
                if whole["closed"] is None or whole["closed"].endswith("]"):
                    return True
                continue
            begun = head.match(text, at)
            if begun is None or begun.end() == len(text) or self._is_known(text, begun.end()):
                return True
        return False

    def _is_known(self, text: str, at: int) -> bool:
        """Tell whether a token of the call begins here, as far as the text goes."""
        begun = _DIGITS.match(text, at)[0].upper()  # type: ignore[index]  # it matches the empty text
        nearest = bisect_left(self._tokens, begun)
        return nearest < len(self._tokens) and self._tokens[nearest].startswith(begun)
