"""Finds prompt injection by a scored list of rules: the weights of rules that match close to each other add up.

Patterns tell what looks like an attack from what does not; they understand neither. docs/screens.md has measurements.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from math import prod

import regex  # type: ignore[import-untyped]

from gatehouse.guards.deadline import Deadline, matches
from gatehouse.guards.screens.hits import Hit
from gatehouse.guards.screens.phrases import PREFIX, Phrase, phrases, signs
from gatehouse.guards.screens.views import View

SCREEN = "prompt_injection"
THRESHOLD = 0.5
# Characters within which weights add up: enough for an attack, and less than a page, where unrelated words meet.
_WINDOW = 800
# A quotation in a text about attacks is more often an example than an attack.
_QUOTED = 0.4
_TALKS_ABOUT_IT = regex.compile(
    r"prompt injection|injection attack|jailbreak|attack string|attackers?\b|\bphrases?\b|for example|such as|\be\.g\.|"
    r"\bmeans?\b|known as|short for|red team|\bdetects?\b|classifier"
)
_QUOTES = "\"'`\u2018\u201c\u201e\u00ab"
# Each rule counts once, so its first matches place it well enough.
_PER_RULE = 50
# The most characters of a phrase.
_REACH = 500
_WORD = re.compile(r"[^\W_]+")
_Match = tuple[str, float, int, int]
"""A rule's id and weight, and from where to where it matches."""


class Injection:
    """Match the rules, which are the same for all configurations."""

    def __init__(self) -> None:
        self._beginning_with: dict[str, list[Phrase]] = {}
        for each in phrases():
            for word in sorted(each.begins):
                self._beginning_with.setdefault(word, []).append(each)
        self._signs = signs()

    def find(self, view: View, deadline: Deadline) -> Iterator[Hit]:
        """Yield every match of a rule in a view, with the rule's weight as its score, for `judged`.

        Raises:
            ScanFailed: the time ran out.
        """
        text = view.text.lower()
        if len(text) != len(view.text):  # few capitals become two characters
            text = "".join(char.lower() if len(char.lower()) == 1 else char for char in view.text)
        if view.invisible:
            yield Hit(SCREEN, "invisible_text", 0, len(text), 0.6)
        for id_, weight, start, end in chain(self._in_words(text, deadline), self._in_signs(text, deadline)):
            yield Hit(SCREEN, id_, start, end, weight * _share(text, start, end))

    def _in_words(self, text: str, deadline: Deadline) -> Iterator[_Match]:
        # Words are looked up by their first letters, so rules that begin with none of the text's words cost nothing.
        words = {word[:PREFIX] for word in _WORD.findall(text)}
        by_word: dict[str, list[Phrase]] = {}
        for word in self._beginning_with.keys() & words:
            if rules := [each for each in self._beginning_with[word] if not words.isdisjoint(each.needs)]:
                by_word[word] = rules
        if not by_word:
            return
        found: Counter[str] = Counter()
        for match in _WORD.finditer(text):
            here = by_word.get(match[0][:PREFIX])
            if here is None:
                continue
            deadline.left()
            start = match.start()
            for rule in here:
                if found[rule.id] < _PER_RULE and (hit := rule.pattern.match(text, start, start + _REACH)):
                    found[rule.id] += 1
                    yield rule.id, rule.weight, *hit.span()

    def _in_signs(self, text: str, deadline: Deadline) -> Iterator[_Match]:
        for sign in self._signs:
            if any(anchor in text for anchor in sign.anchors):
                for match in islice(matches(sign.pattern, text, deadline), _PER_RULE):
                    yield sign.id, sign.weight, *match.span()


def _share(text: str, start: int, end: int) -> float:
    """Return the share of a rule's weight that counts."""
    before = text[max(0, start - 250) : start]
    line = before[before.rfind("\n") + 1 :]
    quoted = any(quote in line[-40:] for quote in _QUOTES)
    if quoted and _TALKS_ABOUT_IT.search(before + text[end : end + 150]):
        return _QUOTED
    return 1.0


def judged(found: Iterable[Hit], deadline: Deadline) -> list[Hit]:
    """Return the matches that are hits, with the combined score of all matches around them.

    A score is a noisy-or of the weights of the different rules within `_WINDOW` characters: 1 - (1 - a)(1 - b)...

    Raises:
        ScanFailed: the time ran out.
    """
    hits = sorted(set(found), key=lambda hit: (hit.start, hit.end, hit.rule, hit.score))
    near: dict[str, list[float]] = {}
    first = last = 0
    kept: list[Hit] = []
    for hit in hits:
        deadline.left()
        while last < len(hits) and hits[last].start <= hit.start + _WINDOW:
            near.setdefault(hits[last].rule, []).append(hits[last].score)
            last += 1
        while hits[first].start < hit.start - _WINDOW:
            near[hits[first].rule].remove(hits[first].score)
            first += 1
        missed = prod(1.0 - max(weights, default=0.0) for weights in near.values())
        if (score := round(1.0 - missed, 3)) >= THRESHOLD:
            kept.append(replace(hit, score=score))
    return kept
