"""The installation secret in `.env`: shown by its epochs, rotated, and forgotten.

`GATEHOUSE_SECRET` is `newest,older,...`: the newest writes, and all of them read. Standard library only, because in
Docker mode nothing is installed on the host. No secret is in anything that is returned for people.
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
    "What only this secret opens is lost for good, such as values that reviewers of open approvals may see. Rotate "
    "before, and wait until nothing of its time is open."
)


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of the secrets.

    Attributes:
        path: the file.
        epochs: those that it has now, the newest first.
    """

    path: Path
    epochs: tuple[str, ...]


def epochs(home: Path, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The epochs of the secrets that a gateway here has, the newest first: of `.env`, else of the environment.

    Raises:
        SetupError: there is no secret.
    """
    text = load(home).get(NAME) if (home / ".env").exists() else None
    return InstallationKeys.parse(text or environ.get(NAME) or "").epochs


def table(held: tuple[str, ...]) -> list[str]:
    """The epochs for people, a line for each."""
    return [f"epoch {epoch}  {'reads' if at else 'writes and reads'}" for at, epoch in enumerate(held)]


def rotate(home: Path) -> Changed:
    """Put a new secret before those that `.env` has.

    Raises:
        SetupError: `.env` has none, or cannot be written.
    """
    return _write(home, [GENERATED[NAME](), *_held(home).values()])


def check_forgettable(home: Path, epoch: str) -> bool:
    """Whether `.env` has a secret of this epoch that can be forgotten; False where it has none of it.

    Raises:
        SetupError: it is the secret that writes, or that is no epoch.
    """
    if not re.fullmatch(r"[0-9a-f]{8}", epoch):
        raise SetupError("epoch: 8 characters of 0-9 and a-f were expected. `gatehouse keys secret show` prints them.")
    held = _held(home)
    if epoch == next(iter(held)):
        raise SetupError(f"epoch {epoch}: it is the secret that writes. Run `gatehouse keys secret rotate` first.")
    return epoch in held


def forget(home: Path, epoch: str) -> Changed:
    """Take an older secret out of `.env`.

    Raises:
        SetupError: it is the secret that writes, or `.env` cannot be written.
    """
    check_forgettable(home, epoch)
    return _write(home, [secret for each, secret in _held(home).items() if each != epoch])


def _held(home: Path) -> dict[str, str]:
    """The secrets of `.env` by epoch, the newest first."""
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
