"""`gatehouse spend`: compares LiteLLM's tables of money with the ledger, and repairs them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
import yaml

from gatehouse.cli import app
from gatehouse.cli.where import gateway_settings
from gatehouse.core.errors import SetupError
from gatehouse.core.text import printable, shown_usd
from gatehouse.ledger.reconciliation import DAYS, by_table, reconcile, said
from gatehouse.ledger.store.spend import Difference
from gatehouse.policy.load import load_policy
from gatehouse.storage.connection import connect

spend_app = typer.Typer(no_args_is_help=True, help="LiteLLM's tables of money: compare them with the ledger.")
app.add_typer(spend_app, name="spend")


@spend_app.callback()
def group() -> None:
    """Keep the group's name where it has one command."""


@spend_app.command("reconcile")
def reconcile_command(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what differs. Exit code 1: something does.")
    ] = False,
    days: Annotated[
        int, typer.Option(min=1, max=3650, help="Days of logs and daily tables, today (UTC) included.")
    ] = DAYS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare the spend of keys, users, teams and so on, LiteLLM's spend logs and its daily tables with the ledger, and
    set them right."""
    settings = gateway_settings()
    only_raise = bool(load_policy(settings.policy_path).policy.ungoverned_routes)
    logged = _logs_spend(settings.config_path)
    try:
        found = asyncio.run(_reconcile(settings.database_url, not dry_run, only_raise, logged, days))
    except (psycopg.OperationalError, OSError):
        raise SetupError("database: it cannot be reached. Start it, or correct DATABASE_URL.") from None
    if found is None:
        raise SetupError("spend: a gateway is comparing it just now. Run this again in a minute.")
    if as_json:
        typer.echo(json.dumps({"repaired": not dry_run, "differences": [_row(each) for each in found]}))
    else:
        for line in report(found, repaired=not dry_run):
            typer.echo(line)
    if dry_run and found:
        raise typer.Exit(1)


def report(found: list[Difference], *, repaired: bool) -> list[str]:
    """Return what a person reads of a comparison."""
    if not found:
        return ["spend: LiteLLM's tables and the ledger say the same."]
    lines = [
        f"{each.table} {printable(each.what)}: LiteLLM ${shown_usd(each.litellm_usd)}, "
        f"ledger ${shown_usd(each.ledger_usd)}"
        for each in found
    ]
    end = "Repaired." if repaired else "Nothing was changed; run it without --dry-run to repair that."
    return [*lines, f"spend: {len(found)} differences ({said(by_table(found))}). {end}"]


def _row(each: Difference) -> dict[str, Any]:
    return {**asdict(each), "usd": each.usd}


def _logs_spend(config: Path) -> bool:
    """Tell whether config.yaml lets LiteLLM keep a log of each call's spend."""
    try:
        settings = yaml.safe_load(config.read_text()) or {}
    except (OSError, yaml.YAMLError):
        raise SetupError(f"{config}: LiteLLM's configuration cannot be read. Restore it.") from None
    return (settings.get("general_settings") or {}).get("disable_spend_logs") is not True


async def _reconcile(
    database_url: str, repair: bool, only_raise: bool, logged: bool, days: int
) -> list[Difference] | None:
    async with await connect(database_url) as connection:
        return await reconcile(connection, repair=repair, only_raise=only_raise, logged=logged, days=days)
