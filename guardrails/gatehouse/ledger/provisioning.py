"""What a gateway stands on, beside its configuration: the database, and the ledger's first key.

`prepare` brings both up to date and may be run at any time, by several at once. `wait_until_prepared` is for a gateway
whose role may not do that itself.
"""

from __future__ import annotations

from pathlib import Path

from gatehouse.capsule import keys
from gatehouse.core import clock
from gatehouse.core.errors import SetupError
from gatehouse.storage import prepare as database
from gatehouse.storage.litellm_schema import shipped_migrations

# Printed where one role does both.
ONE_ROLE = (
    "warning: the gateway's role owns the database, so only triggers guard the ledger, and an owner can drop those. "
    "Give it a role of its own in DATABASE_URL, and `gatehouse prepare` the owner's in GATEHOUSE_OWNER_DATABASE_URL."
)


def prepare(owner_url: str, gateway_url: str | None, key_dir: Path) -> list[str]:
    """Bring up to date what the gateway stands on. The database answers already.

    Args:
        owner_url: address with the role that owns the database.
        gateway_url: address with the gateway's role; None when that is the owner's.
        key_dir: the folder of the ledger's keys; made when it is not there.

    Returns:
        what was done, a line each; nothing when nothing was to do.

    Raises:
        SetupError: something of it cannot be done; for one, the ledger has capsules, and its keys are not there.
    """
    done = database.prepare_database(owner_url, gateway_url)
    if not (key_dir / keys.KEYRING_NAME).exists() and database.has_capsules(owner_url):
        raise SetupError(
            f"{key_dir}: the ledger has capsules, and its keys are not here. Restore this folder from a backup; "
            "without it nobody can verify them, and nothing can be added."
        )
    if keys.create_missing(key_dir, clock.now()):
        done.append(f"{key_dir}: the ledger's first key made; keep a backup of this folder")
    return done


def wait_until_prepared(gateway_url: str, key_dir: Path, seconds: float) -> None:
    """Wait until somebody who may has prepared everything.

    Raises:
        SetupError: nobody did within `seconds`, or the database is newer than this gateway.
    """
    shipped = shipped_migrations()

    def missing_in(connection: database.Connection) -> str | None:
        missing = database.pending_in(connection, shipped)
        if missing is None and not (key_dir / keys.KEYRING_NAME).exists():
            missing = f"the ledger's key in {key_dir}"
        how = "Run `gatehouse prepare`, with the owner's address in GATEHOUSE_OWNER_DATABASE_URL."
        return f"it is not prepared: {missing} is missing. {how}" if missing else None

    database.wait_for(gateway_url, seconds, missing_in)
