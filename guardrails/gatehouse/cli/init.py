"""`gatehouse init`: makes `.env` with new secrets, or adds what a newer version needs to an existing one."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from gatehouse.cli import app
from gatehouse.core.home import find_home
from gatehouse.embedded.envfile import ensure


@app.command()
def init() -> None:
    """Make .env with new secrets; values that are set in it are never changed."""
    found = ensure(find_home(os.environ, Path.cwd()))
    for line in found.notes() or [f"{found.path} is complete; nothing was changed."]:
        typer.echo(line)
