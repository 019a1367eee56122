"""How commands write what was asked for, and exit."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from gatehouse.core.errors import SetupError
from gatehouse.core.files import write_whole


def write(pieces: Iterable[bytes], path: Path | None) -> None:
    """Write to standard output, or to a file, which receives all of it or stays as it was.

    Raises:
        SetupError: the file cannot be written.
    """
    if path is None:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise SetupError(f"{path}: it is not a file. Name one, or leave out -o.")
    try:
        write_whole(target, pieces)
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}. Name a file that can be written.") from None


@contextmanager
def exit_2_if_not_checked() -> Iterator[None]:
    """Exit with 2 when a check could not run, in commands whose exit code 1 means that the check failed."""
    try:
        yield
    except SetupError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
