"""`gatehouse sessions list | stop | resume`: what agents do together, and an end to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Final

import typer

from gatehouse.cli import app
from gatehouse.cli.where import gateway_settings
from gatehouse.core.errors import SetupError
from gatehouse.core.keys import InstallationKeys, Purpose
from gatehouse.core.names import hidden, is_hidden
from gatehouse.core.text import printable
from gatehouse.ledger.store import sessions as db
from gatehouse.ledger.store.sessions import Session

sessions = typer.Typer(no_args_is_help=True, help="Sessions of agents: list, stop and resume them.")
app.add_typer(sessions, name="sessions")

NameArgument = Annotated[str, typer.Argument(help="The session's name: the caller's, or as `list` shows it.")]
KeyOption = Annotated[
    str | None, typer.Option("--key", help="Alias or beginning of the hash of its key, where several use the name.")
]

_KEY_CHARS: Final = 12


@sessions.command("list")
def show(
    hours: Annotated[float, typer.Option("--hours", min=0, help="Sessions with calls in so many hours.")] = 24,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the sessions that had calls, newest first, and all that are stopped."""
    found = db.sessions(gateway_settings().database_url, within=timedelta(hours=hours))
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], default=str))
        return
    for each in found:
        typer.echo(_line(each))
    if not found:
        typer.echo("no session")


@sessions.command()
def stop(name: NameArgument, key: KeyOption = None) -> None:
    """Stop a session: every gateway refuses its next calls within a second. A call that runs ends as it would."""
    settings = gateway_settings()
    found = _one(settings.database_url, settings.keys, name, key)
    db.stop(settings.database_url, found)
    typer.echo(f"stopped  {_named(found)}")


@sessions.command()
def resume(name: NameArgument, key: KeyOption = None) -> None:
    """Let a stopped session go on, on every gateway within a second."""
    settings = gateway_settings()
    found = _one(settings.database_url, settings.keys, name, key)
    db.resume(settings.database_url, found)
    typer.echo(f"resumed  {_named(found)}")


def _one(database_url: str, keys: InstallationKeys, name: str, key: str | None) -> Session:
    found = db.sessions(database_url, recorded(name, keys))
    return chosen([each for each in found if key is None or _is_of(each, key)], name)


def recorded(name: str, keys: InstallationKeys) -> list[str]:
    """Return what records may show in the place of a session's name."""
    if is_hidden(name):
        return [name]
    return [name, *(hidden(name, key) for key in keys.keys(Purpose.RECORDS))]


def chosen(found: Sequence[Session], name: str) -> Session:
    """Return the one session that is meant.

    Raises:
        SetupError: there is none, or several keys use the name.
    """
    if not found:
        raise SetupError(
            f"session {printable(name)}: no call named it. `gatehouse sessions list` shows those that there are."
        )
    if len(found) > 1:
        named = ", ".join(_key(each) for each in found)
        raise SetupError(f"session {printable(name)}: several have this name. Give --key with one of these: {named}.")
    return found[0]


def _is_of(session: Session, key: str) -> bool:
    return session.key_alias == key or (len(key) >= 4 and session.key_hash.startswith(key))


def _key(session: Session) -> str:
    return printable(session.key_alias or session.key_hash[:_KEY_CHARS] or "no key")


def _named(session: Session) -> str:
    return f"{printable(session.session)}  (key {_key(session)})"


def _line(session: Session) -> str:
    state = "stopped" if session.stopped_at else "running" if session.running else "idle"
    last = session.last_at.isoformat(" ", "seconds") if session.last_at else "-"
    agent = f"  agent {printable(session.agent)}" if session.agent else ""
    return f"{state:<7}  {last}  {session.calls:>6} calls  {_cost(session.cost_usd):>9}  {_named(session)}{agent}"


def _cost(usd: float | None) -> str:
    """Return two decimals from one dollar on, else two significant digits."""
    if usd is None:
        return "no cost"
    return f"${usd:,.2f}" if usd >= 1 else f"${usd:.2g}"
