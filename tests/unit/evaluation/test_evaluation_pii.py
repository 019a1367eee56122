"""The evaluation of the PII scanner counts right, repeats itself, and its numbers do not fall unseen."""

from __future__ import annotations

import re

import pytest
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.engine import Engine

from evaluation.pii import Result, Templates, _score, evaluate, looking_for, main
from evaluation.pii_values import PERSONAL, Values
from evaluation.samples import Sample


@pytest.fixture(scope="module")
def templates() -> Templates:
    return Templates.read()


def test_there_are_templates_of_every_style_and_half_are_held_out(templates: Templates) -> None:
    both = templates.development + templates.held_out
    assert len(both) >= 120
    assert len({text for _, text in both}) == len(both)
    assert abs(len(templates.development) - len(templates.held_out)) <= 8
    assert {style for style, _ in templates.development} == {style for style, _ in templates.held_out}
    assert not any(
        name in PERSONAL for style, text in both if style == "benign" for name in re.findall(r"{{(\w+)}}", text)
    )


def test_each_half_has_every_entity_that_is_looked_for(templates: Templates) -> None:
    for half in (templates.development, templates.held_out):
        assert {PERSONAL[name] for _, text in half for name in re.findall(r"{{(\w+)}}", text) if name in PERSONAL} == {
            *PERSONAL.values()
        }


def test_every_template_can_be_filled_and_the_same_seed_fills_it_the_same(templates: Templates) -> None:
    first, again, other = (
        [values.fill(text) for _, text in templates.development + templates.held_out]
        for values in (Values(7), Values(7), Values(8))
    )
    assert first == again != other
    assert not any("{{" in sample.text for sample in first)
    assert all(sample.text[start:end].strip() for sample in first for _, start, end in sample.spans)


def test_a_finding_is_right_when_kind_and_half_of_the_place_are() -> None:
    sample = Sample("mail jane@example.com now", (("EMAIL_ADDRESS", 5, 21),))
    for found, right, wrong, missed, covered in (
        ([Finding("EMAIL_ADDRESS", 5, 21, 1.0)], 1, 0, 0, 1),
        ([Finding("EMAIL_ADDRESS", 5, 14, 1.0)], 1, 0, 0, 0),
        ([Finding("EMAIL_ADDRESS", 5, 12, 1.0)], 0, 1, 1, 0),
        ([Finding("URL", 5, 21, 1.0)], 0, 1, 1, 1),
        ([Finding("EMAIL_ADDRESS", 5, 21, 1.0), Finding("EMAIL_ADDRESS", 22, 25, 1.0)], 1, 1, 0, 1),
        ([], 0, 0, 1, 0),
    ):
        result = Result()
        _score(result, "chat", sample, found)
        overall = result.overall
        assert (overall.right, overall.wrong, overall.missed, overall.covered) == (right, wrong, missed, covered)


def test_what_is_held_out_is_found(templates: Templates) -> None:
    """The floors are a little under what docs/pii.md says, as this is a tenth of the texts."""
    result = evaluate(Engine(looking_for()), templates.held_out, Values(1), 345)
    for entity in PERSONAL.values():
        assert result.scores[entity].recall >= {"PHONE_NUMBER": 0.9, "CREDIT_CARD": 0.8}.get(entity, 0.95), entity
    assert result.overall.precision >= 0.96


def test_the_command_prints_every_number(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.pii._TIMED", 2)
    assert main(["--sentences", "140", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert {*re.findall(r"^\| ([A-Z_]+) \|", out, re.M)} == {*PERSONAL.values()}
    assert len(re.findall(r"^\| \*\*all\*\* \|", out, re.M)) == 2
    assert re.findall(r"^\| ([\d,]+) \| [\d.]+ \|$", out, re.M) == ["50", "200", "1,000", "4,000"]
    assert main(["--sentences", "140", "--mistakes"]) == 0
    assert "PHONE_NUMBER" in capsys.readouterr().out
