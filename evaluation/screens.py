"""`python -m evaluation screens`: what the screens find and miss, and how long they take.

A case counts as found when the screen has a hit in it (for a secret: on it). The project's own cases; those for prompt
injection come in two sets: one that the rules were tuned on, and one that was written before and left alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import yaml
from gatehouse.guards.screens.config import ScreenConfig
from gatehouse.guards.screens.engine import ScreenEngine

from evaluation.disguises import DISGUISES
from evaluation.scores import Score, score_table
from evaluation.secret_samples import look_alikes, secrets

CASES = Path(__file__).with_name("cases")
INJECTION = ("development", "held_out")
# OpenAI's figure for English text.
_CHARS_PER_TOKEN = 4
_TOKENS = (50, 1_000, 4_000)
_TIMED = 200


def written(case: Any) -> str:
    """Return the text of a case, with its disguise."""
    return case if isinstance(case, str) else DISGUISES[case["as"]](case["text"])


def read(name: str) -> Any:
    """Return the cases of one file."""
    return yaml.safe_load((CASES / f"{name}.yaml").read_text())


def blocked_content() -> tuple[Score, list[str]]:
    """Return the score of blocked words, and the mistakes."""
    cases = read("blocked_content")
    engine = ScreenEngine(ScreenConfig({name: tuple(words) for name, words in cases["blocked"].items()}))
    return _scored(engine, cases["found"], cases["clean"])


def secrets_screen(seed: int) -> tuple[Score, list[str]]:
    """Return the score of secrets, and the mistakes."""
    engine = ScreenEngine(ScreenConfig(secrets=True))
    total, mistakes = _scored(engine, [], list(look_alikes(seed)))
    for kind, text, (start, end) in secrets(seed):
        hits = engine.scan(text)
        found = any(hit.start < end and start < hit.end for hit in hits)
        wrong = sum(not (hit.start < end and start < hit.end) for hit in hits)
        total += Score(int(found), int(not found), wrong)
        if not found or wrong:
            mistakes.append(f"{'wrong' if wrong else 'missed'}: {kind}")
    return total, mistakes


def injection(which: str) -> tuple[list[tuple[str, Score]], list[str]]:
    """Return the scores of prompt injection by kind of attack and of benign text, and the mistakes."""
    cases = read(f"injection_{which}")
    engine = ScreenEngine(ScreenConfig(prompt_injection=True))
    scores, mistakes = [], []
    for kind, texts in cases["attacks"].items():
        score, failed = _scored(engine, texts, [])
        scores.append((kind, score))
        mistakes += failed
    for kind, texts in cases["benign"].items():
        score, failed = _scored(engine, [], texts)
        scores.append((f"benign: {kind}", score))
        mistakes += failed
    return scores, mistakes


def _scored(engine: ScreenEngine, positive: Sequence[Any], negative: Sequence[Any]) -> tuple[Score, list[str]]:
    missed = [case for case in positive if not engine.scan(written(case))]
    wrong = [case for case in negative if engine.scan(written(case))]
    score = Score(len(positive) - len(missed), len(missed), len(wrong))
    return score, [*(f"missed: {case}" for case in missed), *(f"wrong: {case}" for case in wrong)]


def results(seed: int) -> list[tuple[str, Score]]:
    """Return one score for each screen, and for prompt injection one for each set."""
    halves = [(f"prompt_injection, {name}", _sum(injection(name)[0])) for name in INJECTION]
    return [("blocked_content", blocked_content()[0]), ("secrets", secrets_screen(seed)[0]), *halves]


def _sum(scores: Sequence[tuple[str, Score]]) -> Score:
    return sum((score for _, score in scores), Score())


def _times() -> Iterator[tuple[int, float]]:
    """Yield tokens, and the median milliseconds of all screens with 1,000 blocked words on benign text of that length.

    Processor time is measured, so that other work on the machine counts less.
    """
    benign = read("injection_development")["benign"]
    text = " ".join(written(case) for case in [*benign["long"], *benign["business"], *benign["code"]])
    text *= 1 + _TOKENS[-1] * _CHARS_PER_TOKEN // len(text)
    words = tuple(f"unwanted{number}" for number in range(1_000))
    engine = ScreenEngine(ScreenConfig({"list": words}, secrets=True, prompt_injection=True))
    engine.warm()
    for tokens in _TOKENS:
        piece = text[: tokens * _CHARS_PER_TOKEN]
        samples = []
        for _ in range(_TIMED):
            begin = process_time()
            engine.scan(piece)
            samples.append(process_time() - begin)
        yield tokens, median(samples) * 1000


def main(argv: Sequence[str]) -> int:
    """Print the numbers; return 0."""
    parser = argparse.ArgumentParser(prog="python -m evaluation screens", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=20_261, help="of the secrets (default: %(default)s)")
    parser.add_argument("--kinds", action="store_true", help="also print prompt injection by kind of text")
    parser.add_argument("--mistakes", action="store_true", help="also print what went wrong where it may be tuned on")
    given = parser.parse_args(argv)
    print(score_table("screen", results(given.seed)))
    if given.kinds:
        for name in INJECTION:
            print("\n" + score_table(f"prompt_injection, {name}", injection(name)[0]))
    if given.mistakes:
        for mistake in [*blocked_content()[1], *secrets_screen(given.seed)[1], *injection("development")[1]]:
            print(mistake)
    print()
    for tokens, milliseconds in _times():
        print(f"all three on {tokens:5} tokens: {milliseconds:6.2f} ms of a processor (median of {_TIMED})")
    return 0
