"""Opens the store that an address names."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path

from gatehouse.core.errors import SetupError
from gatehouse.loggers.capsules.store import CapsuleStore


def open_store(
    target: CapsuleStore | str | PathLike[str] | None, keys: str | PathLike[str] | None = None
) -> CapsuleStore:
    """The store that `capsules` of `CapsuleLogger` means; nothing is read or written yet.

    Args:
        target: None for `capsules.db` in the working directory, the path of an SQLite file, a `postgresql://` address,
            a store, or qp-capsule's `Capsules`.
        keys: the folder of the keys; `<file>.keys` beside the file, `capsules.keys` in the working directory when left
            out.

    Raises:
        SetupError: it is an address or an object of something else.
    """
    if target is not None and not isinstance(target, str | PathLike):
        return _store_of(target)
    address = fspath(target if target is not None else "capsules.db")
    if address.startswith(("postgresql://", "postgres://")):
        from gatehouse.loggers.capsules.postgres import PostgresStore

        return PostgresStore(address, Path(keys or "capsules.keys").absolute())
    if "://" in address:
        raise SetupError("capsules: that address is not one of Postgres. Give a path, or postgresql://….")
    from gatehouse.loggers.capsules.sqlite import SqliteStore

    path = Path(address).absolute()
    return SqliteStore(path, Path(keys).absolute() if keys else keys_beside(path))


def _store_of(target: object) -> CapsuleStore:
    # Of qp-capsule's class, by what is needed of it.
    if callable(getattr(getattr(target, "chain", None), "seal_and_store", None)):
        from gatehouse.loggers.capsules.library import LibraryStore  # brings LiteLLM

        return LibraryStore(target)
    if isinstance(target, CapsuleStore):
        return target
    raise SetupError(
        f"capsules: {type(target).__name__} cannot keep capsules. Give a path, a postgresql:// address, an object with "
        "append and close, or Capsules of qp-capsule."
    )


def keys_beside(path: Path) -> Path:
    """The folder of the keys that sign what is in an SQLite file."""
    return path.with_name(f"{path.name}.keys")
