"""Shows, rotates and forgets the installation secrets in `.env`, and names them by their epochs.

`GATEHOUSE_SECRET` is `newest,older,...`: the newest writes, and all of them read. It imports the standard library only,
because Docker mode installs nothing on the host. No text for people contains a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatehouse.core.errors import SetupError
from gatehouse.core.keys import InstallationKeys
from gatehouse.embedded.envfile import GENERATED, change, load

NAME: Final = "GATEHOUSE_SECRET"

RESTART: Final = (
    "Restart the gateway now: ./setup.sh down, then ./setup.sh. Give gateways on other machines the same line first."
)
ROTATED: Final = (
    "Placeholders of personal data change once, so providers' prompt caches find nothing once. Everything that the old "
    "secrets made can still be read. Back up .env."
)
LOST: Final = (
    "Data that only this secret can read is lost for good, such as values that reviewers of open approvals may see. "
    "Rotate first, and wait until every approval of its time is closed."
)


@dataclass(frozen=True, slots=True)
class Changed:
    """Describe the secrets after a change.

    Attributes:
        path: the file.
        epochs: the epochs of its secrets, the newest first.
    """

    path: Path
    epochs: tuple[str, ...]


def epochs(home: Path, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the epochs of the secrets that a gateway here uses, the newest first: from `.env`, else the environment.

    Raises:
        SetupError: there is no secret.
    """
    text = load(home).get(NAME) if (home / ".env").exists() else None
    return InstallationKeys.parse(text or environ.get(NAME) or "").epochs


def table(held: tuple[str, ...]) -> list[str]:
    """Return a line for each epoch, for people."""
    return [f"epoch {epoch}  {'reads' if at else 'writes and reads'}" for at, epoch in enumerate(held)]


def rotate(home: Path) -> Changed:
    """Put a new secret before those in `.env`.

    Raises:
        SetupError: `.env` has none, or cannot be written.
    """
    return _write(home, [GENERATED[NAME](), *_held(home).values()])


def check_forgettable(home: Path, epoch: str) -> bool:
    """Tell whether `.env` has a secret of this epoch that may be forgotten; False where it has none.

    Raises:
        SetupError: the secret is the one that writes, or the text is not an epoch.
    """
    if not re.fullmatch(r"[0-9a-f]{8}", epoch):
        raise SetupError("epoch: it has 8 characters of 0-9 and a-f. `gatehouse keys secret show` prints the epochs.")
    held = _held(home)
    if epoch == next(iter(held)):
        raise SetupError(f"epoch {epoch}: its secret is the one that writes. Run `gatehouse keys secret rotate` first.")
    return epoch in held


def forget(home: Path, epoch: str) -> Changed:
    """Remove an older secret from `.env`.

    Raises:
        SetupError: the secret is the one that writes, or `.env` cannot be written.
    """
    check_forgettable(home, epoch)
    return _write(home, [secret for each, secret in _held(home).items() if each != epoch])


def _held(home: Path) -> dict[str, str]:
    """Return the secrets of `.env` by epoch, the newest first."""
    try:
        text = load(home).get(NAME) or ""
    except SetupError as error:
        raise SetupError(
            f"{error} In Docker, run `./setup.sh secret` on the host. Where the environment brings the secret, write "
            f"{NAME}=<new>,<old> there yourself."
        ) from None
    InstallationKeys.parse(text)
    return {InstallationKeys(secret).epoch: secret for each in text.split(",") if (secret := each.strip())}


def _write(home: Path, held: list[str]) -> Changed:
    path = change(home, NAME, ",".join(held))
    return Changed(path, InstallationKeys(*held).epochs)
