"""Reads the parts' log files: the last lines, and new lines as they come."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

BLOCK = 65536


def tail(path: Path, count: int) -> list[str]:
    """Return the last `count` lines of a file, reading at most its last 64 kB; none where there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - BLOCK))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return lines[-count:] if count > 0 else []


def follow(paths: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """Yield (part, line) for every new line, for ever; continue in the new file after a rotation."""
    files: dict[str, BinaryIO] = {}
    for name, path in paths.items():
        if path.exists():
            files[name] = path.open("rb")
            files[name].seek(0, 2)
    while True:
        quiet = True
        for name, path in paths.items():
            if name not in files and path.exists():
                files[name] = path.open("rb")
            file = files.get(name)
            while file and (line := file.readline()):
                if not line.endswith(b"\n"):
                    file.seek(-len(line), 1)  # the line is not complete yet
                    break
                quiet = False
                yield name, line.decode("utf-8", "replace").rstrip("\r\n")
            if file and _replaced(file, path):
                file.close()
                del files[name]
        if quiet:
            time.sleep(0.2)


def _replaced(file: BinaryIO, path: Path) -> bool:
    """Tell whether `path` is no longer the open file, or was truncated."""
    try:
        now, opened = path.stat(), os.fstat(file.fileno())
    except OSError:
        return False
    return now.st_ino != opened.st_ino or now.st_size < file.tell()
