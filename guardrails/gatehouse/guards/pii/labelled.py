"""Finds what only a label shows: dates of birth, and numbers of accounts, passports, licences and policies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from gatehouse.guards.deadline import Deadline
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.labels import Labels, words
from gatehouse.guards.unicode_fold import fold

_MONTH = r"[A-Za-z\u00c0-\u024f\u0400-\u04ff\u0590-\u06ff\u0900-\u097f\u0e00-\u0e7f.]{3,16}"
_DATE = re.compile(
    r"[0-9](?<![0-9A-Za-z.,/-].)(?:"
    r"(?:[0-9]{3})([-/. ]) ?[0-9]{1,2}\1 ?[0-9]{1,2}\.?|[0-9]?([-/. ]) ?[0-9]{1,2}\2 ?(?:[0-9]{4}|[0-9]{2})"
    r"|[0-9]{3}[\u5e74\ub144] ?[0-9]{1,2}[\u6708\uc6d4] ?[0-9]{1,2}[\u65e5\uc77c]"
    rf"|[0-9]?(?:st|nd|rd|th|er|\.)? (?:of |de )?{_MONTH},? (?:de |del )?[0-9]{{4}}|[0-9]{{7}})(?![0-9A-Za-z])"
    rf"|(?<![A-Za-z])[A-Z]{_MONTH} [0-9]{{1,2}}(?:st|nd|rd|th)?,? [0-9]{{4}}(?![0-9])"
)
_BORN = Labels(birth=words("birth"))
# What may stand between a label and the value.
_GAP = re.compile(
    r"[\"'`]?(?:\s?\([^()\n]{1,20}\))?[\s:=#.\"'`-]{0,6}"
    r"(?:(?:is|was|are|number|numbers|no|nr|num|nummer|numero|n|on|am|the|le|el|il|em|op|den|dnia|ist|lautet|est|es|e|of)"
    r"\b[\s:=#.\"'`]{0,4}){0,3}"
    r"[\u306f\u306e\u662f\u4e3a\u7801\u53f7\u756a\u865f\uc740\ub294\ubc88\ud638 :]{0,4}"
)
# A number has at least five digits among capitals, digits and hyphens.
_NUMBER = re.compile(
    r"(?=(?:[A-Z-]{0,8}[0-9]){5})[A-Z0-9](?:[- ]?[A-Z0-9]){4,24}(?![A-Za-z0-9@])"
    r"|(?=(?:[A-Z]{0,8}[0-9]){4})[A-Z0-9]{6,20}(?![A-Za-z0-9@])"
)
_NEAR, _WINDOW = 26, 100
_SCORE = 0.7


def _beginnings(section: str) -> tuple[str, ...]:
    """Return what a text must hold, in small letters, that holds one of a section's labels."""
    return tuple(sorted({fold(word).text.lower()[:6].rstrip() for word in words(section)}))


def _near(text: str, looked_for: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """Yield the parts of a text, apart and in order, that begin with one of the words."""
    lower = text.lower()
    if len(lower) != len(text):  # few capitals become two characters
        lower = "".join(char.lower() if len(char.lower()) == 1 else char for char in text)
    places = []
    for word in filter(str.isascii, looked_for) if text.isascii() else looked_for:
        at = lower.find(word)
        while at >= 0:
            places.append(at)
            at = lower.find(word, at + 1)
    done = 0
    for at in sorted(places):
        if (last := min(len(text), at + _WINDOW)) > done:
            yield max(at, done), last
            done = last


_BIRTHS = _beginnings("birth")


def births(text: str, deadline: Deadline) -> Iterator[Finding]:
    """Yield the dates behind a word for a birth."""
    if not any(True for _ in _near(text, _BIRTHS)):
        return
    for match in _DATE.finditer(text):
        deadline.left()
        label = _BORN.before(text, match.start())
        if (label is not None and len(label.gap) <= _NEAR and not any(map(str.isdigit, label.gap))) or (
            label is None and _BORN.of_column(text, match.start()) is not None
        ):
            yield Finding("DATE_OF_BIRTH", match.start(), match.end(), _SCORE, ("label",))


def numbers(entity: str, section: str) -> Callable[[str, Deadline], Iterator[Finding]]:
    """Return a detector of an entity: a number behind one of the labels of a section of labels.txt."""
    labels = Labels(own=words(section))
    looked_for = _beginnings(section)

    def find(text: str, deadline: Deadline) -> Iterator[Finding]:
        for first, last in _near(text, looked_for):
            deadline.left()
            for match in _NUMBER.finditer(text, first, last):
                start = match.start()
                if start and text[start - 1].isalnum() and text[start - 1].isascii():
                    continue
                label = labels.before(text, start)
                if label is not None and _GAP.fullmatch(label.gap):
                    yield Finding(entity, start, match.end(), _SCORE, ("label",))

    return find
