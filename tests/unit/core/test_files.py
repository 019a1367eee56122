"""A file is there whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from gatehouse.core.files import write_whole


def pieces_and_a_fault() -> Iterator[bytes]:
    yield b"half"
    raise KeyboardInterrupt


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_takes_the_place_of_what_was_there(tmp_path: Path, mode: int) -> None:
    path = tmp_path / ("n" * 250)
    for text in (b"first", b"second and longer"):
        write_whole(path, [text[:3], text[3:]], mode)
        assert path.read_bytes() == text
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_in_full_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, [b"before"])
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, pieces_and_a_fault())
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_nobody_reads_the_file_before_it_has_its_mode(tmp_path: Path) -> None:
    seen: list[int] = []

    def look() -> Iterator[bytes]:
        seen.extend(stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir())
        yield b""

    write_whole(tmp_path / "file", look(), 0o644)
    assert seen == [0o600]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_root_leaves_a_file_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.chown(path, 1234, 1234)
    write_whole(path, [b"more"], owner=path.stat())
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1234)
