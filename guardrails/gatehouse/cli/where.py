"""Finds the gateway's database and folders for commands that read the ledger."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from gatehouse.core.home import find_home
from gatehouse.core.settings import Settings, load_settings
from gatehouse.embedded.envfile import load
from gatehouse.embedded.settings import gateway_environment


def gateway_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the gateway's settings: from the environment where that names a database (a container, a service), else
    those of the embedded stack.

    Raises:
        SetupError: there is neither.
    """
    if not environ.get("DATABASE_URL"):
        home = find_home(environ, Path.cwd())
        environ = {**environ, **gateway_environment(home, load(home))}
    return load_settings(environ)
