"""The installation secret in `.env` is shown by its epochs, rotated and forgotten, and no other byte changes."""

from __future__ import annotations

import os
import re
import secrets
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from gatehouse.cli import app
from gatehouse.cli import init as _init
from gatehouse.cli import keys as _keys
from gatehouse.core.keys import InstallationKeys, Purpose
from gatehouse.core.settings import load_settings
from gatehouse.embedded.envfile import ensure, load
from gatehouse.guards.pii.masking import Placeholders
from typer.testing import CliRunner

REGISTERED = (_init, _keys)
TEMPLATE = Path(__file__).parents[3] / ".env.example"
GUARDRAILS = Path(__file__).parents[3] / "guardrails"

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".env.example").write_text(TEMPLATE.read_text())
    ensure(tmp_path)
    return tmp_path


@pytest.fixture(params=["gatehouse keys secret", "setup.sh secret"])
def run(request: pytest.FixtureRequest, home: Path) -> Run:
    """Run both ways to the secret: the command, and setup.sh on a host without packages."""

    def command(*arguments: str, answer: str | None = None) -> tuple[int, str]:
        environ = {"GATEHOUSE_HOME": str(home), "GATEHOUSE_SECRET": ""}
        if request.param.startswith("gatehouse"):
            done = CliRunner().invoke(app, ["keys", "secret", *arguments], input=answer, env=environ)
            return done.exit_code, done.output + str(done.exception or "")
        ran = subprocess.run(
            [sys.executable, "-S", "-P", "-m", "gatehouse.embedded.setup", "secret", *arguments],
            env={**os.environ, **environ, "PYTHONPATH": str(GUARDRAILS)},
            capture_output=True,
            text=True,
            check=False,
        )
        return ran.returncode, ran.stdout + ran.stderr

    return command


def secrets_of(home: Path) -> list[str]:
    return load(home)["GATEHOUSE_SECRET"].split(",")


def test_it_is_shown_by_its_epochs_alone(home: Path, run: Run) -> None:
    (only,) = secrets_of(home)
    code, said = run("show")
    assert (code, said) == (0, f"epoch {InstallationKeys(only).epoch}  writes and reads\n")


def test_a_rotation_puts_a_new_secret_before_the_others_and_changes_nothing_else(home: Path, run: Run) -> None:
    (home / ".env").write_bytes((home / ".env").read_bytes().replace(b"\n", b"\r\n") + b"MINE='a # b'")
    before, (old,) = (home / ".env").read_bytes(), secrets_of(home)
    code, said = run("rotate")
    new, still = secrets_of(home)
    assert (code, still) == (0, old)
    assert len(new) == len(old)
    assert new != old
    assert (home / ".env").read_bytes() == before.replace(old.encode(), f"{new},{old}".encode())
    assert stat.S_IMODE((home / ".env").stat().st_mode) == 0o600
    assert [path.name for path in home.iterdir() if "tmp" in path.name] == []
    assert not any(secret in said for secret in (new, old))
    assert said.splitlines()[:2] == [
        f"epoch {InstallationKeys(new).epoch}  writes and reads",
        f"epoch {InstallationKeys(old).epoch}  reads",
    ]
    assert "prompt caches" in said
    assert "Restart" in said


def test_after_a_rotation_placeholders_change_once_and_what_was_written_can_be_read(home: Path, run: Run) -> None:
    def keys() -> InstallationKeys:
        environ = {"DATABASE_URL": "postgresql://x", "GATEHOUSE_HOME": str(home)}
        return load_settings({**environ, **load(home)}).keys

    def placeholder() -> str:
        return Placeholders(keys().key(Purpose.MASKING), "team:a").of("EMAIL_ADDRESS", "ada@example.com")

    before, first, names = keys(), placeholder(), []
    run("rotate")
    names = [placeholder(), placeholder()]
    assert len({first, *names}) == 2
    assert keys().key_of(Purpose.REVIEW, before.epoch) == before.key(Purpose.REVIEW)


def test_an_older_secret_is_forgotten_and_a_second_time_nothing_happens(home: Path, run: Run) -> None:
    (old,) = secrets_of(home)
    run("rotate")
    new, _ = secrets_of(home)
    epoch = InstallationKeys(old).epoch
    code, said = run("forget", epoch, "--yes")
    assert code == 0, said
    assert secrets_of(home) == [new]
    kept = (home / ".env").read_bytes()
    code, said = run("forget", epoch, "--yes")
    assert (code, (home / ".env").read_bytes()) == (0, kept)
    assert "nothing was changed" in said


def test_nothing_is_forgotten_without_a_yes(home: Path, run: Run) -> None:
    run("rotate")
    both = secrets_of(home)
    code, said = run("forget", InstallationKeys(both[1]).epoch, answer="n\n")
    assert code == 1
    assert "lost for good" in said
    assert secrets_of(home) == both


@pytest.mark.parametrize(
    ("epoch", "says"), [("newest", "is the one that writes"), ("zz", "8 characters"), ("../../etc", "8 characters")]
)
def test_what_cannot_be_forgotten_is_said(home: Path, run: Run, epoch: str, says: str) -> None:
    before = (home / ".env").read_bytes()
    epoch = InstallationKeys(secrets_of(home)[0]).epoch if epoch == "newest" else epoch
    code, said = run("forget", epoch, "--yes")
    assert code == 1
    assert says in said
    assert (home / ".env").read_bytes() == before


@pytest.mark.parametrize("text", [None, "", "UI_USERNAME=admin\n", "GATEHOUSE_SECRET=\n", "GATEHOUSE_SECRET=short\n"])
def test_without_a_secret_it_is_said_what_to_do(home: Path, run: Run, text: str | None) -> None:
    if text is None:
        (home / ".env").unlink()
    else:
        (home / ".env").write_text(text)
    code, said = run("rotate")
    assert code == 1
    assert "setup.sh" in said
    assert "short" not in said.replace("too short", "")
    assert not (home / ".env").exists() or (home / ".env").read_text() == text


def test_where_the_environment_brings_it_its_epochs_are_shown(home: Path) -> None:
    (home / ".env").unlink()
    given = [secrets.token_urlsafe(32) for _ in range(2)]
    environ = {"GATEHOUSE_HOME": str(home), "GATEHOUSE_SECRET": ",".join(given)}
    done = CliRunner().invoke(app, ["keys", "secret", "show"], env=environ)
    assert re.findall("epoch (.{8})", done.output) == list(InstallationKeys(*given).epochs)


def test_an_installation_from_before_gets_a_secret_and_keeps_every_line(home: Path) -> None:
    text = (home / ".env").read_text()
    old = "".join(line for line in text.splitlines(keepends=True) if "GATEHOUSE_SECRET" not in line)
    (home / ".env").write_text(old)
    done = CliRunner().invoke(app, ["init"], env={"GATEHOUSE_HOME": str(home)})
    assert "GATEHOUSE_SECRET" in done.output
    assert (home / ".env").read_text().startswith(old)
    (secret,) = secrets_of(home)
    assert secret not in done.output
    assert InstallationKeys(secret).epochs
    before = (home / ".env").read_bytes()
    CliRunner().invoke(app, ["init"], env={"GATEHOUSE_HOME": str(home)})
    assert (home / ".env").read_bytes() == before
