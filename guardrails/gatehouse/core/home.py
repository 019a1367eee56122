"""Finds the project folder ("home"): the one holding config.yaml and policy.yaml.

Standard library only, because setup.sh asks before anything is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gatehouse.core.errors import SetupError


def find_home(environ: Mapping[str, str], cwd: Path) -> Path:
    """Return `GATEHOUSE_HOME`, or the nearest folder from `cwd` upward that holds both configuration files.

    Raises `SetupError` when there is none.
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
