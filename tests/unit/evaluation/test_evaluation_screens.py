"""The numbers that docs/screens.md publishes are those that `python -m evaluation screens` prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.scores import Score, score_table
from evaluation.screens import INJECTION, read, results
from evaluation.secret_samples import look_alikes, secrets

ROOT = Path(__file__).resolve().parents[3]
SEED = 20_261


def test_scores_are_right() -> None:
    score = Score(found=8, missed=2, wrong=4)
    assert (round(score.precision, 3), score.recall, round(score.f1, 3)) == (0.667, 0.8, 0.727)
    assert Score().f1 == 1.0
    assert Score(missed=1, wrong=1).f1 == 0.0
    assert score_table("x", [("all", score)]).splitlines()[1].split() == [
        "all",
        "0.667",
        "0.800",
        "0.727",
        "8",
        "2",
        "4",
    ]


def test_the_numbers_in_the_documentation_are_held() -> None:
    page = (ROOT / "docs" / "screens.md").read_text()
    published = dict(re.findall(r"^(\w+(?:, \w+)?) +((?:\d\.\d{3} *){3})", page, re.M))
    measured = results(SEED)
    assert published.keys() == {name for name, _ in measured}
    for name, score in measured:
        precision, recall, _ = map(float, published[name].split())
        assert score.precision >= precision - 0.0005, name
        assert score.recall >= recall - 0.0005, name


def test_there_are_as_many_cases_as_the_numbers_need() -> None:
    attacks = [text for name in INJECTION for texts in read(f"injection_{name}")["attacks"].values() for text in texts]
    benign = [text for name in INJECTION for texts in read(f"injection_{name}")["benign"].values() for text in texts]
    assert len(attacks) >= 150
    assert len(benign) >= 250
    assert len({str(text) for text in (*attacks, *benign)}) == len(attacks) + len(benign)
    assert len(list(secrets(SEED))) >= 120
    assert len(list(look_alikes(SEED))) >= 150


def test_secrets_are_the_same_for_the_same_seed_only() -> None:
    assert list(secrets(1)) == list(secrets(1)) != list(secrets(2))


def test_the_command_prints_a_line_for_each_screen() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "evaluation", "screens", "--kinds"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in ("blocked_content", "secrets", "prompt_injection, held_out", "obfuscated", "4000 tokens"):
        assert name in done.stdout


@pytest.mark.parametrize(("argv", "code"), [(["nothing"], 2), (["--help"], 0)])
def test_the_command_says_what_there_is(argv: list[str], code: int) -> None:
    done = subprocess.run([sys.executable, "-m", "evaluation", *argv], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code
    assert "screens" in done.stdout + done.stderr
