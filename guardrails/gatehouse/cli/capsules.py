"""`gatehouse capsules`: verifies, checkpoints and exports the records of `CapsuleLogger`; needs no gateway."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from gatehouse.capsule import keys as folder_of_keys
from gatehouse.capsule.keyring import read_keyring
from gatehouse.capsule.keys import KEYRING_NAME
from gatehouse.cli import app
from gatehouse.cli.audit import OutputOption, progress_bar, report_document, report_lines
from gatehouse.cli.output import exit_2_if_not_checked, write
from gatehouse.core.errors import SetupError
from gatehouse.ledger.inspection import read_note
from gatehouse.loggers.capsules.opening import open_store
from gatehouse.loggers.capsules.store import ChainStore, Unavailable

capsules = typer.Typer(no_args_is_help=True, help="CapsuleLogger's records: verify, checkpoint and export them.")
app.add_typer(capsules, name="capsules")

Target = Annotated[str, typer.Argument(metavar="FILE", help="The SQLite file, or the postgresql:// address.")]
ChainName = Annotated[str, typer.Option("--chain", help="The chain: the logger's `domain`.")]
KeysOption = Annotated[
    Path | None, typer.Option("--keys", help="The folder of the keys; FILE.keys, or capsules.keys with Postgres.")
]


@capsules.command()
def verify(
    target: Target,
    chain: Annotated[str | None, typer.Option(help="Only this chain; by default all of them.")] = None,
    keyring: Annotated[
        Path | None, typer.Option("--keyring", help="The public keys; by default those beside the file.")
    ] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="A stored checkpoint, to compare; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Verify every record and every chain's end. Exit code 0: verified, 1: broken, 2: not checked."""
    from gatehouse.loggers.capsules.verify import verify_store

    begin = time.monotonic()
    with exit_2_if_not_checked(), progress_bar() as bar, _reading(target) as store:
        store.ends()  # fails where the store is missing, before its keys are looked for
        public_keys = read_keyring(keyring or store.keys.path / KEYRING_NAME)
        given = [read_note(path) for path in checkpoint or ()]
        reports = list(verify_store(store, public_keys, chain=chain, given=given, progress=bar.advance))
    ok = all(report.finding is None for report in reports)
    if as_json:
        typer.echo(json.dumps(report_document(ok, reports, []), indent=2))
    else:
        for line in report_lines(ok, reports, [], 0, time.monotonic() - begin):
            typer.echo(line)
    if not ok:
        raise typer.Exit(1)


@capsules.command()
def checkpoint(target: Target, chain: ChainName = "chat", keys: KeysOption = None) -> None:
    """Verify a chain, sign a checkpoint over all of it, and print it; store it where others cannot change it."""
    from gatehouse.loggers.capsules.verify import sign_verified

    with _reading(target) as store:
        write([sign_verified(store, folder_of_keys.load(keys or store.keys.path), chain)], None)


@capsules.command()
def export(target: Target, chain: ChainName = "chat", output: OutputOption = None) -> None:
    """Write a chain as JSON, which `gatehouse audit verify --file` and qp-capsule's `capsule verify` read."""
    from gatehouse.capsule.export import export_json

    with _reading(target) as store:
        if chain not in {end.chain for end in store.ends()}:
            raise SetupError(f"chain {chain!r}: there is no such chain. `gatehouse capsules verify` lists them.")
        write(export_json(record.sealed for record in store.capsules(chain)), output)


@contextmanager
def _reading(target: str) -> Iterator[ChainStore]:
    store = open_store(target)
    try:
        with closing(store):
            yield store  # type: ignore[misc]  # both of Gatehouse's stores can be read
    except Unavailable as error:
        raise SetupError(f"{error}. Wait until the other process is done, or name another file.") from None
