"""Chains of capsules in one SQLite file, which several processes may write to at once.

Promises: BEGIN IMMEDIATE holds the file from reading a chain's head to committing what follows it, so no two writers
continue the same record; a commit is on the disk (synchronous=FULL). The file, like its keys, is its owner's alone.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from gatehouse.core.errors import SetupError
from gatehouse.loggers.capsules.store import ChainStore, Unavailable

# "GHcl": says in the file's header whose it is.
_APPLICATION: Final = 0x4748636C
_VERSION: Final = 1
# How long a writer waits for the others; each holds the file for one batch.
_BUSY_SECONDS: Final = 30.0

_SCHEMA: Final = """
create table chains (
    chain     text primary key,
    size      integer not null,
    hash      text,
    signed_by text
) strict;
create table capsules (
    chain         text not null,
    sequence      integer not null,
    id            text not null unique,
    previous_hash text,
    canonical     blob not null,
    hash          text not null,
    signature     text not null,
    signed_by     text not null,
    signed_at     text not null,
    primary key (chain, sequence)
) strict;
create trigger capsules_are_not_changed before update on capsules
begin select raise(abort, 'capsules are append-only'); end;
create trigger capsules_are_not_removed before delete on capsules
begin select raise(abort, 'capsules are append-only'); end;
"""


class SqliteStore(ChainStore):
    """A store in the file at `path`, which is made with mode 0600."""

    mark, schema, time = "?", "", "signed_at"

    def __init__(self, path: Path, keys: Path) -> None:
        super().__init__(keys)
        self.path = path

    def _connect(self, *, to_write: bool) -> sqlite3.Connection:
        return _open(self.path) if to_write else _open_to_read(self.path)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _transaction(self._connection):
            yield

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise Unavailable(f"{self.path}: {error}") from None
        except sqlite3.DatabaseError as error:
            raise SetupError(f"{self.path}: {error}. Name another file, or restore this one from a backup.") from None


def _open(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}. Name a file that can be written.") from None
    connection = _connect(str(path))
    try:
        connection.execute("pragma synchronous = full")
        with _transaction(connection):
            _prepare(connection, path)
        # Readers, such as a verification, do not keep a writer waiting. It is remembered in the file.
        if connection.execute("pragma journal_mode").fetchone() != ("wal",):
            connection.execute("pragma journal_mode = wal")
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    application, version = _header(connection)
    if (application, version) == (_APPLICATION, _VERSION):
        return
    if connection.execute("select exists (select 1 from sqlite_master)").fetchone() != (0,):
        raise SetupError(f"{path}: it holds something else than capsules of this version. Name another file.")
    for statement in _SCHEMA.split(";\n"):  # executescript would commit in between
        connection.execute(statement)
    connection.execute(f"pragma application_id = {_APPLICATION}")
    connection.execute(f"pragma user_version = {_VERSION}")


def _header(connection: sqlite3.Connection) -> tuple[int, int]:
    application = connection.execute("pragma application_id").fetchone()[0]
    return application, connection.execute("pragma user_version").fetchone()[0]


def _open_to_read(path: Path) -> sqlite3.Connection:
    if not path.exists():
        raise SetupError(f"{path}: there is no such file. Name the one that the logger writes.")
    address = f"file:{quote(str(path))}?mode=ro"
    connection = _connect(address, uri=True)
    try:
        header = _header(connection)
    except sqlite3.OperationalError:
        # A copy in a folder that nobody may write to: nobody writes to the file then, either.
        connection.close()
        connection = _connect(f"{address}&immutable=1", uri=True)
        header = _header(connection)
    if header != (_APPLICATION, _VERSION):
        connection.close()
        raise SetupError(f"{path}: it is not a file of capsules. Name the one that the logger writes.")
    connection.execute("begin")  # one moment for all that is read
    return connection


def _connect(address: str, *, uri: bool = False) -> sqlite3.Connection:
    # One thread at a time uses it: the writer, and at the end of the process whoever ends it.
    return sqlite3.connect(address, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=uri)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("begin immediate")
    with connection:  # commits, or rolls back
        yield
