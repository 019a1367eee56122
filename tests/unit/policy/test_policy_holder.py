"""A changed file is in force at the next look; a bad one changes nothing and is told."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from gatehouse.core.errors import SetupError
from gatehouse.policy import holder as holder_module
from gatehouse.policy.holder import PolicyHolder

ONE = "version: 1\nungoverned_routes: [/one]\n"
TWO = "version: 1\nungoverned_routes: [/two]\n"  # as long as ONE: size alone does not show the change
BAD = "version: 1\nungoverned_routes: [two]\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(ONE)
    return path


def routes(holder: PolicyHolder) -> tuple[str, ...]:
    return holder.current.policy.ungoverned_routes


def test_a_file_written_in_place_is_noticed(path: Path) -> None:
    holder = PolicyHolder(path)
    assert not holder.refresh()
    path.write_text(TWO)
    assert holder.refresh()
    assert routes(holder) == ("/two",)
    assert not holder.refresh()


def test_a_change_within_the_same_tick_of_the_file_systems_clock_is_noticed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = path.stat()
    monkeypatch.setattr(holder_module, "os", SimpleNamespace(stat=lambda path: frozen))
    holder = PolicyHolder(path)
    path.write_text(TWO)
    assert holder.refresh()


def test_a_file_that_was_replaced_is_noticed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder_module, "_RACY_S", -1.0)  # as if the last change were long ago
    holder = PolicyHolder(path)
    new = path.with_suffix(".new")
    new.write_text(TWO)
    os.utime(new, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    new.replace(path)
    assert holder.refresh()
    assert routes(holder) == ("/two",)


def test_a_symbolic_link_turned_to_another_folder_is_noticed(tmp_path: Path) -> None:
    for name, text in (("first", ONE), ("second", TWO)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.yaml").write_text(text)
    (tmp_path / "data").symlink_to("first")
    (tmp_path / "policy.yaml").symlink_to("data/policy.yaml")
    holder = PolicyHolder(tmp_path / "policy.yaml")
    (tmp_path / "next").symlink_to("second")
    (tmp_path / "next").replace(tmp_path / "data")
    assert holder.refresh()
    assert routes(holder) == ("/two",)


def test_a_bad_file_keeps_the_old_policy_and_says_why_once(path: Path) -> None:
    loads: list[bool] = []
    holder = PolicyHolder(path, loads.append)
    version = holder.current.version
    path.write_text(BAD)
    for _ in range(3):
        assert not holder.refresh()
    assert (routes(holder), holder.current.version) == (("/one",), version)
    assert holder.error is not None
    assert "policy.yaml:2: ungoverned_routes.0: 'two' is not a route" in holder.error
    assert loads == [False]
    path.write_text(TWO)
    assert holder.refresh()
    assert (holder.error, loads) == (None, [False, True])


def test_putting_the_old_file_back_clears_the_error(path: Path) -> None:
    loads: list[bool] = []
    holder = PolicyHolder(path, loads.append)
    path.write_text(BAD)
    holder.refresh()
    path.write_text(ONE)
    assert not holder.refresh()
    assert (holder.error, loads) == (None, [False, True])


def test_a_file_that_is_gone_keeps_the_old_policy(path: Path) -> None:
    holder = PolicyHolder(path)
    path.unlink()
    assert not holder.refresh()
    assert routes(holder) == ("/one",)
    assert "No such file" in (holder.error or "")
    path.write_text(TWO)
    assert holder.refresh()
    assert holder.error is None


def test_a_section_that_is_not_enforced_yet_does_not_come_in_by_the_back_door(path: Path) -> None:
    holder = PolicyHolder(path)
    path.write_text("version: 1\ndeciders: [{id: opa, url: 'https://opa.example/'}]\n")
    assert not holder.refresh()
    assert "not available in this version" in (holder.error or "")


def test_the_first_file_must_be_good(path: Path) -> None:
    path.write_text(BAD)
    with pytest.raises(SetupError, match="not a route"):
        PolicyHolder(path)


def test_a_file_that_rests_is_not_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = PolicyHolder(path)
    monkeypatch.setattr(holder_module, "_RACY_S", -1.0)  # as if the last change were long ago
    holder.refresh()
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("read again"))
    assert not holder.refresh()
