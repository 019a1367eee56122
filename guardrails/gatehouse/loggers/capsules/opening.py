"""Opens the store that an address names."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import Final

from gatehouse.core.errors import SetupError
from gatehouse.loggers.capsules.store import CapsuleStore

DEFAULT_FILE: Final = Path("capsules.db")

DEFAULT_KEYS: Final = Path("capsules.keys")

POSTGRES: Final = ("postgresql://", "postgres://")


def open_store(
    target: CapsuleStore | str | PathLike[str] | None, keys: str | PathLike[str] | None = None
) -> CapsuleStore:
    """The store that `capsules` of `CapsuleLogger` means; nothing is read or written yet.

    Args:
        target: None for `capsules.db` in the working directory, the path of an SQLite file, a `postgresql://` address,
            or a store.
        keys: the folder of the keys; `<file>.keys` beside the file, `capsules.keys` in the working directory when left
            out.

    Raises:
        SetupError: it is an address of something else.
    """
    if target is not None and not isinstance(target, str | PathLike):
        return target
    address = fspath(target if target is not None else DEFAULT_FILE)
    if address.startswith(POSTGRES):
        from gatehouse.loggers.capsules.postgres import PostgresStore

        return PostgresStore(address, Path(keys or DEFAULT_KEYS).absolute())
    if "://" in address:
        raise SetupError("capsules: that address is not one of Postgres. Give a path, or postgresql://….")
    from gatehouse.loggers.capsules.sqlite import SqliteStore

    path = Path(address).absolute()
    return SqliteStore(path, Path(keys).absolute() if keys else keys_beside(path))


def keys_beside(path: Path) -> Path:
    """The folder of the keys that sign what is in an SQLite file."""
    return path.with_name(f"{path.name}.keys")
