"""`gatehouse up | down | status | logs`: the embedded stack at the command line."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gatehouse.cli import app
from gatehouse.core.errors import SetupError
from gatehouse.core.home import find_home
from gatehouse.embedded.envfile import ensure
from gatehouse.embedded.logs import follow, tail
from gatehouse.embedded.stack import Report, Stack

PARTS = ("gateway", "postgres", "redis", "prometheus", "supervisor")
NOT_RUNNING = 3  # as `systemctl status` and the LSB's init scripts exit

console = Console(highlight=False, soft_wrap=True)


def _stack() -> Stack:
    return Stack(find_home(os.environ, Path.cwd()))


@contextmanager
def _progress(doing: str) -> Iterator[Report]:
    """Print a line for every step, and on a terminal a moving sign with the current step below them."""
    with console.status(doing) as status:

        def report(line: str) -> None:
            console.print(f"  {line}", markup=False)
            status.update(escape(f"{doing}: {line}"))

        yield report


def _interrupted(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


@app.command()
def up(foreground: Annotated[bool, typer.Option(help="Stay attached; Ctrl-C stops everything.")] = False) -> None:
    """Start Postgres, Redis, the gateway and Prometheus, and wait until they answer."""
    run_up(_stack(), foreground=foreground)


def run_up(stack: Stack, *, foreground: bool) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):  # a signal that ends this command also stops what it started
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores the signal on purpose
            signal.signal(number, _interrupted)
    for line in ensure(stack.home).notes():
        console.print(line, markup=False)
    with _progress("starting") as report:
        started = stack.up(report, attached=foreground)
    if started:
        console.print("Gatehouse is up.")
    elif foreground:
        raise SetupError("gatehouse: it already runs in the background. Run `gatehouse down` first.")
    else:
        console.print("Gatehouse is up already; nothing was changed.")
        if stack.env_is_newer():
            console.print(".env has changed since: run `gatehouse down` and `gatehouse up` to apply it.")
    _print_addresses(stack)
    if foreground:
        _stay(stack)


def _print_addresses(stack: Stack) -> None:
    settings = stack.settings()
    rows = {"API": f"{settings.gateway_url}/v1", "Web interface": f"{settings.gateway_url}/ui"}
    rows |= {row.part.capitalize(): row.address for row in stack.status() if row.part != "gateway"}
    for name, address in rows.items():
        console.print(f"  {name + ':':<15} {address}", markup=False)


def _stay(stack: Stack) -> None:
    console.print("Ctrl-C stops everything.")
    try:
        while stack.processes() is not None:
            time.sleep(0.5)
    except KeyboardInterrupt:
        pass
    with _progress("stopping") as report:
        stack.down(report)
    console.print("Gatehouse is down; its data is kept.")


@app.command()
def down() -> None:
    """Stop everything and wait until it has ended. Data is kept."""
    with _progress("stopping") as report:
        stopped = _stack().down(report)
    console.print("Gatehouse is down; its data is kept." if stopped else "Gatehouse is not running.")


@app.command()
def status() -> None:
    """Show every part. Exit code 0 when all of them run, 3 when not."""
    rows = _stack().status()
    table = Table("part", "state", "pid", "address", "uptime", box=None, pad_edge=False)
    for row in rows:
        style = "green" if row.state == "running" else "red" if row.state == "stopped" else "yellow"
        uptime = f"{row.uptime // 3600}:{row.uptime // 60 % 60:02}:{row.uptime % 60:02}" if row.pid else "-"
        table.add_row(row.part, f"[{style}]{row.state}[/]", str(row.pid or "-"), escape(row.address), uptime)
    console.print(table)
    if any(row.state != "running" for row in rows):
        raise typer.Exit(NOT_RUNNING)


@app.command()
def logs(
    part: Annotated[str | None, typer.Argument(help=f"One of {', '.join(PARTS)}; by default all of them.")] = None,
    follow_on: Annotated[
        bool, typer.Option("--follow", "-f", help="Show new lines as they come; Ctrl-C ends.")
    ] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many lines of each part to show.")] = 20,
) -> None:
    """Show the last lines of the parts' logs."""
    if part is not None and part not in PARTS:
        raise SetupError(f"logs: there is no part {part!r}. Name one of {', '.join(PARTS)}.")
    folder = _stack().state / "logs"
    paths = {name: folder / f"{name}.log" for name in ([part] if part else PARTS)}
    if not follow_on and not any(path.exists() for path in paths.values()):
        raise SetupError(f"logs: {folder} has none yet. Run `gatehouse up`.")
    news = follow(paths)
    for name, path in paths.items():
        for line in tail(path, lines):
            _print_line(name, line, alone=part is not None)
    if follow_on:
        try:
            for name, line in news:
                _print_line(name, line, alone=part is not None)
        except KeyboardInterrupt:
            pass


def _print_line(name: str, line: str, *, alone: bool) -> None:
    console.out(line if alone else f"{name:<10} | {line}", highlight=False)
