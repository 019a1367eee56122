"""`.env` is made once from its template; it is private and complete, and set values never change."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gatehouse.cli import app
from gatehouse.cli import init as _init
from gatehouse.cli import stack as _stack
from gatehouse.core.errors import SetupError
from gatehouse.core.home import find_home
from gatehouse.embedded.envfile import GENERATED, ensure, load, parse
from typer.testing import CliRunner

REGISTERED = (_init, _stack)  # a Typer app of one command would take its name for an argument
TEMPLATE = Path(__file__).parents[3] / ".env.example"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".env.example").write_text(TEMPLATE.read_text())
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_env_is_private_and_has_every_secret(home: Path) -> None:
    old = os.umask(0)
    try:
        made = ensure(home)
    finally:
        os.umask(old)
    values = load(home)
    assert made.created
    assert mode(home / ".env") == 0o600
    assert all(values[name] for name in GENERATED)
    assert len({values[name] for name in GENERATED if name not in ("GATEHOUSE_UID", "GATEHOUSE_GID")}) == 8
    assert values["LITELLM_MASTER_KEY"].startswith("sk-gatehouse-")
    assert len(values["LITELLM_MASTER_KEY"]) == len("sk-gatehouse-") + 43
    assert [path.name for path in home.iterdir() if "tmp" in path.name] == []


def test_the_template_holds_no_secret_and_names_what_code_fills() -> None:
    values = parse(TEMPLATE.read_text())
    assert all(values[name] == "" for name in GENERATED)
    assert all(values[name] == "" for name in values if name.endswith("_API_KEY"))


def test_a_second_time_changes_no_byte(home: Path) -> None:
    ensure(home)
    before = (home / ".env").read_bytes()
    again = ensure(home)
    assert (home / ".env").read_bytes() == before
    assert again.notes() == []


def test_what_a_person_wrote_stays_and_what_is_missing_is_added_and_told(home: Path) -> None:
    mine = "# mine\nGATEHOUSE_PORT=5000\nLITELLM_MASTER_KEY='sk-my own'\nEXTRA=1"
    (home / ".env").write_text(mine)
    (home / ".env").chmod(0o600)
    found = ensure(home)
    text = (home / ".env").read_text()
    assert text.startswith(mine + "\n")
    assert load(home)["GATEHOUSE_PORT"] == "5000"
    assert load(home)["LITELLM_MASTER_KEY"] == "sk-my own"
    assert load(home)["POSTGRES_PASSWORD"]
    assert "# Encrypts provider keys" in text
    assert found.new_master_key is None
    assert "POSTGRES_PASSWORD" in found.notes()[0]
    assert not any(load(home)[name] in "".join(found.notes()) for name in GENERATED if name.endswith("PASSWORD"))


def test_a_copied_example_gets_its_secrets_and_is_closed(home: Path) -> None:
    (home / ".env").write_text(TEMPLATE.read_text())
    (home / ".env").chmod(0o644)
    found = ensure(home)
    assert all(load(home)[name] for name in GENERATED)
    assert found.tightened
    assert mode(home / ".env") == 0o600


def test_a_complete_env_that_others_can_read_is_closed(home: Path) -> None:
    ensure(home)
    (home / ".env").chmod(0o644)
    assert ensure(home).tightened
    assert mode(home / ".env") == 0o600


def test_setups_at_the_same_time_agree_on_one_file(home: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = {found.new_master_key for found in pool.map(lambda _: ensure(home), range(8))}
    assert keys == {load(home)["LITELLM_MASTER_KEY"], None}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        (" A = b ", "b"),
        ("export A=b", "b"),
        ("A='b # c' # d", "b # c"),
        ('A="b"', "b"),
        ("A=b # c", "b"),
        ("A=b#c", "b#c"),
        ("A= # c", ""),
        ("A=b=c", "b=c"),
        ("A=1\nA=b", "b"),
    ],
)
def test_values_are_read_as_compose_reads_them(line: str, value: str) -> None:
    assert parse(line) == {"A": value}


def test_lines_that_are_no_assignment_are_passed_over() -> None:
    assert parse("# A=b\n\nnonsense\n=x\n1A=b") == {}


def test_init_shows_the_master_key_once_and_no_other_secret(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEHOUSE_HOME", str(home))
    first, second = CliRunner().invoke(app, ["init"]), CliRunner().invoke(app, ["init"])
    values = load(home)
    assert first.exit_code == second.exit_code == 0
    assert first.output.count(values["LITELLM_MASTER_KEY"]) == 1
    assert values["LITELLM_MASTER_KEY"] not in second.output
    for name in set(GENERATED) - {"LITELLM_MASTER_KEY", "GATEHOUSE_UID", "GATEHOUSE_GID"}:
        assert values[name] not in first.output + second.output


def test_a_missing_template_is_told(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"\.env\.example: No such file or directory\. Restore it"):
        ensure(tmp_path)


def test_home_is_the_nearest_folder_with_both_files(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    inner = tmp_path / "a/b"
    inner.mkdir(parents=True)
    with pytest.raises(SetupError, match="project folder"):
        find_home({}, inner)
    (tmp_path / "policy.yaml").touch()
    assert find_home({}, inner) == tmp_path
    assert find_home({"GATEHOUSE_HOME": str(inner)}, tmp_path) == inner
    with pytest.raises(SetupError, match="is not a folder"):
        find_home({"GATEHOUSE_HOME": str(tmp_path / "nowhere")}, tmp_path)
