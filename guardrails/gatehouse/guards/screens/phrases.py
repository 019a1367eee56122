"""Compiles the rules for prompt injection: bounded patterns, and the words with which they can begin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import regex  # type: ignore[import-untyped]

from gatehouse.guards.screens.injection_rules import PHRASES, SIGNS

# A rule is tried where a word begins with the same letters, so many of them.
PREFIX = 4


@dataclass(frozen=True, slots=True)
class Phrase:
    """Hold a rule that is tried at each word with which it may begin.

    Attributes:
        begins: the first `PREFIX` letters of those words.
        needs: the first letters of words of which the text must hold one.
        pattern: matches from such a word on.
    """

    id: str
    weight: float
    begins: frozenset[str]
    needs: frozenset[str]
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Sign:
    """Hold a rule that is searched for in texts with one of `anchors`."""

    id: str
    weight: float
    anchors: tuple[str, ...]
    pattern: Any


_GAP = r"(?:[\W_]{1,20}+)"


def phrases() -> tuple[Phrase, ...]:
    """Compile the rules that are phrases."""
    return tuple(
        Phrase(name, weight, beginnings(phrase), frozenset(word[:PREFIX] for word in needs.split()), _compiled(phrase))
        for name, weight, needs, phrase in PHRASES
    )


def signs() -> tuple[Sign, ...]:
    """Compile the other rules."""
    return tuple(Sign(name, weight, anchors, regex.compile(pattern)) for name, weight, anchors, pattern in SIGNS)


def _compiled(phrase: str) -> re.Pattern[str]:
    """Compile a phrase. Its gaps and words are bounded, and so is its time: it needs no clock."""
    pattern = re.sub(r"<(\d+)>", lambda words: f"(?: [^\\W_]{{1,24}}+){{0,{words[1]}}}?", phrase)
    return re.compile(rf"(?:{pattern.replace(' ', _GAP)})(?![^\W_])")


def beginnings(phrase: str) -> frozenset[str]:
    """Return the first letters, `PREFIX` of them or the whole word, of every word with which a phrase can begin.

    Raises:
        ValueError: the phrase begins with something else.
    """
    if phrase.startswith("(?"):
        end = _closing(phrase)
        rest = phrase[end + 1 :]
        if not phrase.startswith("(?:"):
            return beginnings(rest)  # a lookaround consumes nothing
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
