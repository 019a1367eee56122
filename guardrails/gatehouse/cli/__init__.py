"""The `gatehouse` command. It puts together commands that have a module each."""

from __future__ import annotations

import importlib
import sys

import typer

from gatehouse.core.errors import SetupError

app = typer.Typer(
    name="gatehouse",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Governance gateway for AI agents.",
)

_PARTS = (
    "serve prepare stack init engine audit records sessions keys policy replay pii approvals capsules spend"
).split()


def main() -> None:
    """Run the command; print a `SetupError` as one sentence and exit with 1."""
    for part in _PARTS:
        importlib.import_module(f"gatehouse.cli.{part}")
    try:
        app()
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
