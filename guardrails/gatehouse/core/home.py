"""Finds the project folder ("home"), which holds config.yaml and policy.yaml.

It imports the standard library only, because setup.sh runs it before anything is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gatehouse.core.errors import SetupError


def find_home(environ: Mapping[str, str], cwd: Path) -> Path:
    """Return `GATEHOUSE_HOME`, or the nearest folder from `cwd` upward that holds both configuration files.

    Raises `SetupError` where there is none.
    """
    named = environ.get("GATEHOUSE_HOME")
    if named:
        home = Path(named).expanduser().resolve()
        if not home.is_dir():
            raise SetupError(f"GATEHOUSE_HOME: {home} is not a folder. Point it at the folder that holds config.yaml.")
        return home
    for folder in (cwd, *cwd.parents):
        if (folder / "config.yaml").is_file() and (folder / "policy.yaml").is_file():
            return folder
    raise SetupError(
        f"project folder: neither {cwd} nor a folder above it holds config.yaml and policy.yaml. "
        "Go to your Gatehouse checkout, or set GATEHOUSE_HOME."
    )
