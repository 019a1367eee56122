"""docs/audit.md names what exists: every command and option, every route, every finding."""

from __future__ import annotations

import re

import typer.main
from gatehouse.capsule.seal import Fault
from gatehouse.capsule.verification import LedgerProblem
from gatehouse.cli import audit, keys, records  # noqa: F401 - registers its commands

from tests.support.gateway import REPOSITORY

PAGE = (REPOSITORY / "docs" / "audit.md").read_text()


def test_its_commands_and_options_exist() -> None:
    groups = {"audit": typer.main.get_command(audit.audit), "keys": typer.main.get_command(keys.keys)}
    named = re.findall(r"(?:^\$ |`)gatehouse (audit|keys) ([\w-]+)([^`\n]*)", PAGE, re.M)
    assert len(named) > 12
    for group, name, rest in named:
        parameters = groups[group].commands[name].params  # type: ignore[attr-defined]
        options = {option for parameter in parameters for option in parameter.opts}
        assert set(re.findall(r"(?<= )--?[a-z-]+", rest)) <= options, f"{group} {name}{rest}"


def test_its_table_has_every_finding() -> None:
    table = PAGE.partition("## What a finding means")[2].partition("\n## ")[0]
    named = {word for row in re.findall(r"^\| (`.*?`) \|", table, re.M) for word in re.findall(r"`(.*?)`", row)}
    assert named == {problem.value for kinds in (Fault, LedgerProblem) for problem in kinds}
