"""The rules for prompt injection made ready to run: patterns that are bounded, and the words they can begin with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import regex  # type: ignore[import-untyped]

from gatehouse.guards.screens.injection_rules import PHRASES, SIGNS

# So many letters of a word tell whether a rule is tried.
PREFIX = 4


@dataclass(frozen=True, slots=True)
class Phrase:
    """A rule that is tried where a word stands that it may begin with.

    Attributes:
        begins: the first `PREFIX` letters of those words.
        needs: the same of words of which the text must hold one.
        pattern: matches from such a word on.
    """

    id: str
    weight: float
    begins: frozenset[str]
    needs: frozenset[str]
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Sign:
    """A rule that is searched for in texts that hold one of `anchors`."""

    id: str
    weight: float
    anchors: tuple[str, ...]
    pattern: Any


_GAP = r"(?:[\W_]{1,20}+)"


def phrases() -> tuple[Phrase, ...]:
    """The rules that are phrases, compiled."""
    return tuple(
        Phrase(name, weight, beginnings(phrase), frozenset(word[:PREFIX] for word in needs.split()), _compiled(phrase))
        for name, weight, needs, phrase in PHRASES
    )


def signs() -> tuple[Sign, ...]:
    """The other rules, compiled."""
    return tuple(Sign(name, weight, anchors, regex.compile(pattern)) for name, weight, anchors, pattern in SIGNS)


def _compiled(phrase: str) -> re.Pattern[str]:
    """A phrase as a pattern. What its gaps and words may hold is bounded, and so is its time: it needs no clock."""
    pattern = re.sub(r"<(\d+)>", lambda words: f"(?: [^\\W_]{{1,24}}+){{0,{words[1]}}}?", phrase)
    return re.compile(rf"(?:{pattern.replace(' ', _GAP)})(?![^\W_])")


def beginnings(phrase: str) -> frozenset[str]:
    """The first letters, `PREFIX` of them or the whole word, of every word that a phrase can begin with.

    Raises:
        ValueError: the phrase begins with something else.
    """
    if phrase.startswith("(?"):
        end = _closing(phrase)
        rest = phrase[end + 1 :]
        if not phrase.startswith("(?:"):
            return beginnings(rest)  # looks around, takes nothing
        found = frozenset[str]().union(*(beginnings(each + rest) for each in _alternatives(phrase[3:end])))
        return found | beginnings(rest[1:].lstrip(" ")) if rest.startswith("?") else found
    after = phrase.lstrip("abcdefghijklmnopqrstuvwxyz0123456789")
    letters = phrase[: len(phrase) - len(after)]
    if after.startswith("?"):
        letters = letters[:-1]
    whole = not after or after.startswith((" ", "<", "?", "(?: ", "(?:<", "(?! "))
    if len(letters) < PREFIX and not (letters and whole):
        raise ValueError(f"{phrase!r} does not begin with {PREFIX} letters or a word")
    longer = {phrase[: len(letters) + 1][:PREFIX]} if after.startswith("?") else set()
    return frozenset({letters[:PREFIX], *longer})


def _closing(phrase: str) -> int:
    depth = 0
    for index, char in enumerate(phrase):
        depth += (char == "(") - (char == ")")
        if not depth:
            return index
    raise ValueError(f"{phrase!r} has a bracket without end")


def _alternatives(inside: str) -> list[str]:
    parts, depth = [""], 0
    for char in inside:
        depth += (char == "(") - (char == ")")
        if char == "|" and not depth:
            parts.append("")
        else:
            parts[-1] += char
    return parts
