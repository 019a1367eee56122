"""docs/architecture.md is the map of the code: its table says what the import contract says."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
PACKAGE = REPOSITORY / "guardrails" / "gatehouse"
PAGE = (REPOSITORY / "docs" / "architecture.md").read_text()
_ROW = re.compile(
    r"^\| `(?P<room>\w+)(?:/|\.py)` \| (?P<floor>\d) \| .+ \| (?P<litellm>yes|no) \| `(?P<tests>[\w/]+)` \|$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Room:
    floor: int
    knows_litellm: bool
    tests: Path


ROOMS = {
    row["room"]: Room(int(row["floor"]), row["litellm"] == "yes", REPOSITORY / row["tests"])
    for row in _ROW.finditer(PAGE)
}
CONTRACTS = {
    each["id"]: each
    for each in tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}


def test_the_map_has_the_floors_of_the_contract() -> None:
    layers = reversed(CONTRACTS["floors"]["layers"])
    floors = {room: floor for floor, layer in enumerate(layers, 1) for room in layer.split(" | ")}
    assert {name: room.floor for name, room in ROOMS.items()} == floors


def test_the_map_says_who_may_import_litellm() -> None:
    may_not = {name.removeprefix("gatehouse.") for name in CONTRACTS["litellm"]["source_modules"]}
    assert {name for name, room in ROOMS.items() if not room.knows_litellm} == may_not


def test_the_map_has_every_room_and_no_other() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert ROOMS.keys() == packages | {"asgi"}


def test_few_modules_stand_outside_the_rooms() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == {"__init__", "asgi", "plugin"}


def test_no_import_is_excused() -> None:
    assert not any("ignore_imports" in contract for contract in CONTRACTS.values())


@pytest.mark.parametrize("name", ROOMS)
def test_the_promises_of_a_room_have_a_folder_of_tests(name: str) -> None:
    assert any(ROOMS[name].tests.glob("test_*.py"))


def test_the_files_that_the_page_names_exist() -> None:
    named = set(re.findall(r"`(\w+(?:/\w+)+\.py)`", PAGE))
    assert len(named) > 10
    assert [name for name in named if not (PACKAGE / name).is_file()] == []
