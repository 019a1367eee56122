"""`gatehouse keys`: the ledger's signing keys, and the installation secret."""

from __future__ import annotations

import asyncio
import os
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from gatehouse.capsule import keys as folder_of_keys
from gatehouse.capsule.document import DEFAULT_CHAIN
from gatehouse.capsule.keyring import read_keyring
from gatehouse.capsule.keys import KEYRING_NAME, Keys
from gatehouse.cli import app
from gatehouse.cli.audit import ChainOption, print_keyring
from gatehouse.cli.where import gateway_settings
from gatehouse.core.clock import now
from gatehouse.core.home import find_home
from gatehouse.embedded import secret as installation_secret
from gatehouse.ledger.store.capsules import reachable

keys = typer.Typer(no_args_is_help=True, help="The keys that sign the ledger, and the installation secret.")
app.add_typer(keys, name="keys")
secret = typer.Typer(
    no_args_is_help=True,
    help="The installation secret (GATEHOUSE_SECRET), from which the keys for placeholders, hashes and copies come.",
)
keys.add_typer(secret, name="secret")


@keys.command()
def show(chain: ChainOption = DEFAULT_CHAIN) -> None:
    """Print the public keys of every epoch."""
    print_keyring(read_keyring(gateway_settings().key_dir / KEYRING_NAME), chain)


@keys.command()
def rotate() -> None:
    """Make a new key that signs from now on, in all running gateways; older signatures stay verifiable."""
    settings = gateway_settings()
    before = folder_of_keys.load(settings.key_dir).keyring
    with reachable():
        after = asyncio.run(_rotate(settings.database_url, settings.key_dir, now())).keyring
    typer.echo(f"old key  epoch {before.active.number}  {before.active.name}")
    typer.echo(f"new key  epoch {after.active.number}  {after.active.name}")
    typer.echo(f"{settings.key_dir / KEYRING_NAME} has both public keys. Give it to your auditors.")


async def _rotate(database_url: str, folder: Path, at: datetime) -> Keys:
    """Rotate while holding every chain, so that each record comes before or after the rotation.

    If the transaction is lost after the keyring was written, nothing else is: the heads only repeat the keyring.
    """
    from gatehouse.ledger.store import chains
    from gatehouse.storage.connection import connect

    async with await connect(database_url) as connection, connection.transaction():
        sizes = await chains.lock_all_heads(connection)
        held = folder_of_keys.rotate(folder, {chain: size for chain, size in sizes.items() if size}, at)
        await chains.rotate_heads(connection, held.keyring.active.name)
    return held


@secret.command("show")
def show_secret() -> None:
    """Print the epochs of the secrets, the newest first; never a secret."""
    _print(*installation_secret.table(installation_secret.epochs(find_home(os.environ, Path.cwd()), os.environ)))


@secret.command("rotate")
def rotate_secret() -> None:
    """Put a new secret before the others in .env. After a restart it writes, and the older ones still read."""
    changed = installation_secret.rotate(find_home(os.environ, Path.cwd()))
    _print(*installation_secret.table(changed.epochs), installation_secret.ROTATED, installation_secret.RESTART)


@secret.command("forget")
def forget_secret(
    epoch: Annotated[str, typer.Argument(help="The secret's epoch, as `gatehouse keys secret show` prints it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Skip the question.")] = False,
) -> None:
    """Remove an older secret from .env. Whatever only that secret can read is lost."""
    home = find_home(os.environ, Path.cwd())
    if not installation_secret.check_forgettable(home, epoch):
        _print(f"epoch {epoch}: .env has no such secret; nothing was changed.")
        return
    if not yes:
        typer.confirm(f"{installation_secret.LOST}\nForget the secret of epoch {epoch}?", abort=True)
    changed = installation_secret.forget(home, epoch)
    _print(*installation_secret.table(changed.epochs), installation_secret.RESTART)


def _print(*lines: str) -> None:
    for line in lines:
        typer.echo(line)
