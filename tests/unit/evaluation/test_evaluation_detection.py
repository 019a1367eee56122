"""What is right, wrong, missed and damaged is counted as docs/evaluation.md says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gatehouse.core.errors import SetupError
from gatehouse.guards.findings import Finding

from evaluation import detection
from evaluation.detection import damage, evaluate, main
from evaluation.public import read
from evaluation.samples import Sample
from evaluation.scanners import Ours, Presidio
from evaluation.scores import Score

TEXT = "mail jane@example.com now"
SAMPLE = Sample(TEXT, (("EMAIL_ADDRESS", 5, 21),))


class Fixed:
    """Find the same in every text."""

    name = "fixed"

    def __init__(self, *found: Finding) -> None:
        self.found = list(found)

    def find(self, text: str, language: str) -> list[Finding]:
        return self.found

    def altered(self, text: str) -> list[Finding]:
        return self.found


@pytest.mark.parametrize(
    ("found", "score"),
    [
        ([Finding("EMAIL_ADDRESS", 5, 21, 1.0)], Score(found=1)),
        ([Finding("EMAIL_ADDRESS", 5, 13, 1.0)], Score(found=1)),
        ([Finding("EMAIL_ADDRESS", 5, 12, 1.0)], Score(missed=1, wrong=1)),
        ([Finding("URL", 5, 21, 1.0)], Score(missed=1)),
        ([Finding("EMAIL_ADDRESS", 5, 21, 1.0), Finding("EMAIL_ADDRESS", 22, 25, 1.0)], Score(found=1, wrong=1)),
        ([Finding("EMAIL_ADDRESS", 5, 21, 1.0), Finding("EMAIL_ADDRESS", 5, 21, 1.0)], Score(found=1, wrong=1)),
        ([], Score(missed=1)),
    ],
)
def test_a_finding_is_right_with_the_same_entity_and_half_of_the_place(found: list[Finding], score: Score) -> None:
    result = evaluate(Fixed(*found), [SAMPLE], ["EMAIL_ADDRESS"])
    assert result.scores["EMAIL_ADDRESS"] == score
    assert len(result.mistakes) == score.missed + score.wrong
    assert result.chars == len(TEXT)


def test_an_entity_has_one_name_whoever_finds_it() -> None:
    sample = Sample("passport X12345678", (("PASSPORT_NUMBER", 9, 18),))
    result = evaluate(Fixed(Finding("US_PASSPORT", 9, 18, 1.0)), [sample], ["PASSPORT_NUMBER"])
    assert result.scores == {"PASSPORT_NUMBER": Score(found=1)}


def test_damage_is_what_is_altered_and_is_no_persons_data() -> None:
    artefacts = [("log", SAMPLE), ("log", Sample("x" * 75, ())), ("diff", Sample("y" * 100, ()))]
    result = damage(Fixed(Finding("EMAIL_ADDRESS", 5, 21, 1.0)), artefacts)
    assert (result.altered["log"], result.altered["diff"]) == (1, 1)
    assert result.per_10_000("log") == 100.0
    assert result.per_10_000() == 100.0
    assert result.items[1].startswith("diff: EMAIL_ADDRESS 'yyyyy[yyyyyyyyyyyyyyyy]yyy")


def test_findings_that_overlap_alter_one_place() -> None:
    found = Finding("IP_ADDRESS", 0, 4, 1.0), Finding("PHONE_NUMBER", 2, 9, 1.0), Finding("PHONE_NUMBER", 9, 12, 1.0)
    assert damage(Fixed(*found), [("log", Sample("y" * 100, ()))]).altered["log"] == 2


def test_both_scanners_find_what_is_plain_and_alter_only_what_they_find() -> None:
    for scanner in (Ours(), Presidio()):
        assert [(each.entity, each.start, each.end) for each in scanner.find(TEXT, "en")] == [("EMAIL_ADDRESS", 5, 21)]
        assert scanner.altered(TEXT) == scanner.find(TEXT, "en")


def test_a_language_that_is_not_offered_is_scanned_as_english() -> None:
    assert Ours().find("写信给 jane@example.com", "xx")[0].entity == "EMAIL_ADDRESS"


def test_presidio_researchs_form_is_read(tmp_path: Path) -> None:
    span = {"entity_type": "STREET_ADDRESS", "entity_value": "1 Elm St", "start_position": 3, "end_position": 11}
    other = span | {"entity_type": "AGE", "start_position": 0, "end_position": 2}
    file = tmp_path / "set.json"
    file.write_text(json.dumps([{"full_text": "at 1 Elm St", "masked": "", "spans": [span, other], "template_id": 1}]))
    assert [*read(file, "presidio")] == [Sample("at 1 Elm St", (("ADDRESS", 3, 11),))]


def test_lines_with_a_privacy_mask_are_read(tmp_path: Path) -> None:
    file = tmp_path / "set.jsonl"
    mask = [{"label": "EMAIL_1", "start": 0, "end": 5, "value": "a@b.c"}]
    file.write_text(json.dumps({"source_text": "a@b.c schrieb", "privacy_mask": mask, "language": "German"}) + "\n")
    assert [*read(file, "ai4privacy")] == [Sample("a@b.c schrieb", (("EMAIL_ADDRESS", 0, 5),), "de")]


@pytest.mark.parametrize("text", ["", '[{"text": 1}]', "[1]"])
def test_a_file_of_another_form_is_refused_with_what_is_wanted(text: str, tmp_path: Path) -> None:
    file = tmp_path / "set.json"
    file.write_text(text)
    with pytest.raises(SetupError, match="full_text and spans"):
        [*read(file, "presidio")]
    with pytest.raises(SetupError, match="Name a file"):
        [*read(tmp_path / "none", "presidio")]


def test_the_command_prints_every_figure_beside_presidios(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("people", "negatives", "national"):
        monkeypatch.setattr(detection, name, lambda: iter([SAMPLE]))
    for name in ("traffic", "everything"):
        monkeypatch.setattr(detection, name, lambda: iter([("log", Sample("of no person", ()))]))
    monkeypatch.setattr(detection, "numbers", lambda: iter([("floats", Sample("0.5", ()))]))
    assert main(["--mistakes"]) == 0
    out = capsys.readouterr().out
    assert "| EMAIL_ADDRESS | 2 | 1.000 | 1.000 | 1.000 | 1.000 |" in out
    assert "| **all** | 1 | 12 | 0 | 0.00 | 0 | 0.00 |" in out
    assert "| floats | 0 | 0 |" in out
    assert "of 132 kinds" in out
    assert "ms of a processor for 1,000 characters" in out


def test_the_command_counts_the_damage_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("write to jane@example.com")
    (tmp_path / "b.bin").write_bytes(b"\xff\xfe\0")
    (tmp_path / "long.txt").write_text("x" * 200_001)
    (tmp_path / "b.env").write_text("cache=redis://:hunter2plus@cache:6379/0")
    assert main(["--no-presidio", "--mistakes", "--files", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "| .txt | 1 | 25 | 1 | 400.00 |" in out
    assert "Secrets: 1 hits.\n\n.env: url_password 'cache=redis://:[hunter2plus]@cache:6379/0'" in out


def test_the_command_reads_an_outside_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    span = {"entity_type": "EMAIL_ADDRESS", "start_position": 5, "end_position": 21}
    (tmp_path / "set.json").write_text(json.dumps([{"full_text": TEXT, "spans": [span]}]))
    assert main(["--no-presidio", "--outside", str(tmp_path / "set.json")]) == 0
    assert "| EMAIL_ADDRESS | 1 | 1.000 | 1.000 |" in capsys.readouterr().out
