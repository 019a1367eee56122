"""What a command writes to a file is there in full or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gatehouse.cli.output import write
from gatehouse.core.errors import SetupError


def test_a_file_is_replaced_in_full(tmp_path: Path) -> None:
    path, link = tmp_path / "export.json", tmp_path / "link"
    path.write_bytes(b"of yesterday")
    link.symlink_to(path)
    write([b"of ", b"today"], link)
    assert path.read_bytes() == b"of today"
    assert link.is_symlink()


@pytest.mark.parametrize("error", [SetupError("the database went away"), KeyboardInterrupt()])
def test_what_breaks_off_leaves_the_file_as_it_was(tmp_path: Path, error: BaseException) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"of "
        raise error

    path = tmp_path / "export.json"
    path.write_bytes(b"of yesterday")
    with pytest.raises(type(error)):
        write(pieces(), path)
    assert path.read_bytes() == b"of yesterday"
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_is_not_replaced_by_a_file() -> None:
    with pytest.raises(SetupError, match="not a file"):
        write([b""], Path("/dev/null"))
