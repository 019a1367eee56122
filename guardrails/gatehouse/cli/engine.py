"""`gatehouse engine`: prepares Prisma's query engine for LiteLLM, and shows which one is in use."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gatehouse.cli import app
from gatehouse.core.home import find_home
from gatehouse.storage import prisma_engine

engine = typer.Typer(no_args_is_help=True, help="Prisma's query engine, through which LiteLLM reaches its database.")
app.add_typer(engine, name="engine")


class Choice(StrEnum):
    """Name the engines to choose from."""

    AUTO = "auto"
    NATIVE = "native"
    WASM = "wasm"


@engine.command()
def install(
    choice: Annotated[Choice, typer.Option("--engine", help="auto: native if available, else wasm.")] = Choice.AUTO,
    dev: Annotated[bool, typer.Option("--dev", help="Also install the tools that check prisma-engine.")] = False,
) -> None:
    """Prepare Prisma for LiteLLM on this machine; quick when that is done already."""
    wanted = None if choice is Choice.AUTO else prisma_engine.EngineKind(choice.value)
    prisma_engine.install(find_home(os.environ, Path.cwd()), wanted, typer.echo, dev=dev)


@engine.command()
def check() -> None:
    """Show which engine is in use and whether it answers."""
    ready = prisma_engine.current(find_home(os.environ, Path.cwd()))
    typer.echo(f"prisma engine: {ready.kind}, {prisma_engine.engine_version(ready)}, {ready.engine}")
