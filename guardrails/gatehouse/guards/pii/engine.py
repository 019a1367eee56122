"""Finds personal data in one text: in the folded text, in the original where it differs, and in its decoded parts.

Pure: the same text and configuration give the same findings, in order and without overlaps. It either reads a text to
its end within the time or raises `ScanFailed`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from time import monotonic
from typing import Any

import regex  # type: ignore[import-untyped]

from gatehouse.core.reasons import Reason
from gatehouse.guards.deadline import Deadline
from gatehouse.guards.encoded import decoded_runs, hex_runs, unescaped
from gatehouse.guards.findings import Finding, ScanFailed
from gatehouse.guards.pii.config import KNOWN_ENTITIES, NER_ENTITIES, Mode, PiiConfig
from gatehouse.guards.pii.detectors import built_in, custom, warm
from gatehouse.guards.pii.names import names
from gatehouse.guards.unicode_fold import fold

# As in Presidio's own context enhancer: a context word adds 0.35 and lifts to at least 0.4. It looks at the five words
# before; without a tokenizer that is 60 characters.
_BOOST, _MIN_SCORE, _BEFORE = 0.35, 0.4, 60
# Two layers of encoding are decoded; with more layers a model would not understand it either.
_DEPTH = 2
_LOOSE = frozenset(("DATE_TIME", *NER_ENTITIES))
_STRICTNESS = {mode: rank for rank, mode in enumerate(Mode)}


class Engine:
    """Scan with one configuration. Threads would spoil each other's time limits, so each process has its own."""

    def __init__(self, config: PiiConfig) -> None:
        """Build the detectors.

        Raises:
            SetupError: the configuration names an unknown entity, has a pattern out of bounds, or wants the language
                model, which is not installed.
        """
        config.check()
        self._config = config
        own = [custom(each) for each in config.recognizers if config.mode_of(each.entity) is not Mode.OFF]
        named = {each.entity for each in config.recognizers}
        wanted = [each for each in config.wanted if each not in named]
        by_model = {each for each in wanted if each in NER_ENTITIES} if config.ner else set()
        known = [built_in(each, config.languages) for each in wanted if each in KNOWN_ENTITIES or each not in by_model]
        found = [*own, *filter(None, known), *([names(frozenset(by_model))] if by_model else ())]
        self._detectors = [(each, _context(each.context)) for each in found]
        self._allowed = frozenset(_key(value) for value in config.allow_list)

    def scan(self, text: str) -> list[Finding]:
        """Return findings in the order of the text, without overlaps.

        Raises:
            ScanFailed: the text is too long, or the time ran out before its end.
        """
        if len(text) > self._config.max_chars:
            raise ScanFailed(Reason.TOO_LONG)
        deadline = Deadline(monotonic() + self._config.timeout_s)
        return self._resolve(self._found(text, deadline, _DEPTH))

    def warm(self) -> None:
        """Do the work that only a first scan needs."""
        warm()
        self.scan("Jane <jane@example.com>, +1 201 555 0123, 4111 1111 1111 1111, DE89 3704 0044 0532 0130 00")

    def _found(self, text: str, deadline: Deadline, depth: int) -> Iterator[Finding]:
        folded = fold(text)
        for found in self._plain(folded.text, deadline):
            start, end = folded.span(found.start, found.end)
            yield replace(found, start=start, end=end)
        if folded.text != text:
            yield from self._plain(text, deadline)
        if depth:
            for first, last, inner in chain(decoded_runs(folded.text, deadline), hex_runs(folded.text, deadline)):
                start, end = folded.span(first, last)
                for found in self._found(inner, deadline, depth - 1):
                    yield replace(found, start=start, end=end)
            # Stretches without escapes were scanned above.
            for stretch in unescaped(folded.text, deadline, around=_BEFORE):
                for found in self._found(stretch.text, deadline, depth - 1):
                    if stretch.touches(found.start, found.end):
                        start, end = folded.span(*stretch.span(found.start, found.end))
                        yield replace(found, start=start, end=end)

    def _plain(self, text: str, deadline: Deadline) -> Iterator[Finding]:
        for detector, context in self._detectors:
            for found in detector.find(text, deadline):
                least = self._config.min_score.get(found.entity, self._config.threshold)
                score = found.score
                before = max(0, found.start - _BEFORE)
                if context is not None and score < 1.0 and context.search(text, before, found.start):
                    score = min(1.0, max(score + _BOOST, _MIN_SCORE))
                if score >= least and not (self._allowed and _key(text[found.start : found.end]) in self._allowed):
                    yield replace(found, score=score)

    def _resolve(self, findings: Iterable[Finding]) -> list[Finding]:
        """Return one finding for each stretch of text.

        Enforced findings win over observed ones, so that an observed link cannot cover an e-mail address in it.
        Overlapping findings of one kind become one that covers them all: a character that any of them claimed must not
        stay visible. Its entity is that of the strictest, never a date or a name beside anything else, then the
        longest, then the highest score.
        """
        enforced: list[Finding] = []
        observed: list[Finding] = []
        for each in set(findings):
            (enforced if self._config.mode_of(each.entity) in (Mode.MASK, Mode.BLOCK) else observed).append(each)
        merged = [self._merge(cluster) for cluster in _clusters(enforced)]
        starts = [each.start for each in merged]
        apart: list[Finding] = []
        for each in [self._merge(cluster) for cluster in _clusters(observed)]:
            before = bisect_left(starts, each.end)  # of those that begin before its end, the last one ends last
            if not before or merged[before - 1].end <= each.start:
                apart.append(each)
        return sorted([*merged, *apart], key=lambda each: each.start)

    def _merge(self, cluster: list[Finding]) -> Finding:
        best = min(
            cluster,
            key=lambda each: (
                -_STRICTNESS[self._config.mode_of(each.entity)],
                each.entity in _LOOSE,
                each.start - each.end,
                -each.score,
                each.start,
                each.entity,
            ),
        )
        return replace(best, start=cluster[0].start, end=max(each.end for each in cluster))


def _clusters(findings: list[Finding]) -> Iterator[list[Finding]]:
    cluster: list[Finding] = []
    end = -1
    for each in sorted(findings, key=lambda each: (each.start, each.end, each.entity, each.score)):
        if cluster and each.start >= end:
            yield cluster
            cluster = []
        end = max(end, each.end) if cluster else each.end
        cluster.append(each)
    if cluster:
        yield cluster


def _context(words: tuple[str, ...]) -> Any:
    if not words:
        return None
    return regex.compile(
        rf"(?<![A-Za-z0-9])(?:{'|'.join(regex.escape(fold(word.strip()).text) for word in words)})", regex.I
    )


def _key(value: str) -> str:
    return fold(value.strip()).text.casefold()
