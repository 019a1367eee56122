"""`python -m evaluation pii`: how well the scanner finds personal data in the project's own texts, and how fast.

A finding is right when its entity is the same and the overlap is at least half of the text that both cover together.
`covered` matters for masking: the share of values with every letter and digit in some finding.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median
from time import process_time

import yaml
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.config import PiiConfig
from gatehouse.guards.pii.engine import Engine

from evaluation.pii_values import NAMES, PERSONAL, Values
from evaluation.samples import Sample

TEMPLATES = Path(__file__).with_name("pii_templates.yaml")
IOU = 0.5
# OpenAI's figure for English text.
_CHARS_PER_TOKEN = 4
_TOKENS = (50, 200, 1_000, 4_000)
_TIMED = 40


@dataclass(frozen=True, slots=True)
class Templates:
    """Hold the templates for improving detectors and those that are held out, each with its style."""

    development: tuple[tuple[str, str], ...]
    held_out: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls) -> Templates:
        """Read the file; every second template of a style is held out."""
        styles = yaml.safe_load(TEMPLATES.read_text())
        halves = [
            tuple((style, text) for style, texts in styles.items() for text in texts[first::2]) for first in (0, 1)
        ]
        return cls(*halves)


@dataclass(slots=True)
class Score:
    """Hold the counts of one entity, or of all."""

    right: int = 0
    wrong: int = 0
    missed: int = 0
    covered: int = 0

    @property
    def precision(self) -> float:
        return self.right / max(1, self.right + self.wrong)

    @property
    def recall(self) -> float:
        return self.right / max(1, self.right + self.missed)

    @property
    def f1(self) -> float:
        return 2 * self.right / max(1, 2 * self.right + self.wrong + self.missed)

    def __add__(self, other: Score) -> Score:
        return Score(
            self.right + other.right, self.wrong + other.wrong, self.missed + other.missed, self.covered + other.covered
        )


@dataclass(slots=True)
class Result:
    """Hold scores by entity, and the mistakes: the style, the kind, and the text around it."""

    scores: dict[str, Score] = field(default_factory=dict)
    mistakes: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def overall(self) -> Score:
        return sum(self.scores.values(), Score())


def looking_for(personal: Mapping[str, str] = PERSONAL, *, ner: bool = False) -> PiiConfig:
    """Return the configuration that looks for what the templates label."""
    return PiiConfig(entities=dict.fromkeys(sorted({*personal.values()})), ner=ner)


def evaluate(
    engine: Engine,
    templates: Sequence[tuple[str, str]],
    values: Values,
    sentences: int,
    personal: Mapping[str, str] = PERSONAL,
) -> Result:
    """Fill the templates in turn until there are so many texts, and score the engine's findings in them."""
    result = Result()
    for nth in range(sentences):
        style, template = templates[nth % len(templates)]
        sample = values.fill(template, personal)
        _score(result, style, sample, engine.scan(sample.text))
    return result


def _score(result: Result, style: str, sample: Sample, findings: list[Finding]) -> None:
    found = list(findings)
    for entity, start, end in sample.spans:
        score = result.scores.setdefault(entity, Score())
        hit = next((each for each in found if each.entity == entity and _iou(each, start, end) >= IOU), None)
        score.covered += all(
            not char.isalnum() or any(each.start <= at < each.end for each in findings)
            for at, char in enumerate(sample.text[start:end], start)
        )
        if hit is None:
            score.missed += 1
            result.mistakes.append((style, f"missed {entity} {sample.text[start:end]!r}", sample.text))
        else:
            score.right += 1
            found.remove(hit)
    for each in found:
        result.scores.setdefault(each.entity, Score()).wrong += 1
        result.mistakes.append((style, f"wrong {each.entity} {sample.text[each.start : each.end]!r}", sample.text))


def _iou(finding: Finding, start: int, end: int) -> float:
    shared = min(finding.end, end) - max(finding.start, start)
    return shared / (max(finding.end, end) - min(finding.start, start))


def timings(engine: Engine, templates: Sequence[tuple[str, str]], values: Values) -> dict[int, float]:
    """Return the processor's milliseconds, p50, for texts of so many tokens, each scanned once.

    The clock would also count the machine's other work; a scan is one thread that waits for nothing.
    """
    texts = (values.fill(templates[nth % len(templates)][1]).text for nth in count())
    return {tokens: _timed(engine, texts, tokens * _CHARS_PER_TOKEN) for tokens in _TOKENS}


def _timed(engine: Engine, texts: Iterator[str], chars: int) -> float:
    seconds = []
    for _ in range(_TIMED):
        text = ""
        while len(text) < chars:
            text += next(texts) + "\n"
        begin = process_time()
        engine.scan(text[:chars])
        seconds.append(process_time() - begin)
    return median(seconds) * 1000


def main(argv: Sequence[str]) -> int:
    """Print the numbers; return 0."""
    parser = argparse.ArgumentParser(prog="python -m evaluation pii", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=20_261, help="of the values (default: %(default)s)")
    parser.add_argument("--sentences", type=int, default=3_000, help="texts for each half (default: %(default)s)")
    parser.add_argument(
        "--mistakes", action="store_true", help="print what went wrong in the half that detectors are improved with"
    )
    parser.add_argument("--ner", action="store_true", help="with the language model, and names to be found")
    given = parser.parse_args(argv)
    personal = PERSONAL | NAMES if given.ner else PERSONAL
    engine = Engine(looking_for(personal, ner=given.ner))
    engine.warm()
    templates = Templates.read()
    development = evaluate(engine, templates.development, Values(given.seed), given.sentences, personal)
    if given.mistakes:
        for style, what, text in development.mistakes:
            print(f"{style:<8} {what}\n         {text!r}")
        return 0
    held_out = evaluate(engine, templates.held_out, Values(given.seed + 1_000), given.sentences, personal)
    count_of = f"{len(templates.development)} templates and {len(templates.held_out)} held out"
    model = "with" if given.ner else "without"
    print(f"PII {model} the language model: {count_of}, {given.sentences:,} texts of each, seed {given.seed}\n")
    for name, result in (("held out", held_out), ("used for improving", development)):
        print("\n".join(_table(name, result)))
        print()
    print("| tokens | processor ms, p50 |\n|---|---|")
    shipped = Engine(PiiConfig(ner=given.ner))
    shipped.warm()
    for tokens, ms in timings(shipped, templates.held_out, Values(given.seed)).items():
        print(f"| {tokens:,} | {ms:.1f} |")
    return 0


def _table(name: str, result: Result) -> Iterator[str]:
    yield f"| {name} | values | precision | recall | F1 | covered |"
    yield "|---|---|---|---|---|---|"
    for entity, score in [*sorted(result.scores.items()), ("**all**", result.overall)]:
        values = score.right + score.missed
        numbers = f"{score.precision:.3f} | {score.recall:.3f} | {score.f1:.3f} | {score.covered / max(1, values):.3f}"
        yield f"| {entity} | {values:,} | {numbers} |"
