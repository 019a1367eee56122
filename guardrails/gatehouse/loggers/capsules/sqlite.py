"""Chains of capsules in one SQLite file, which several processes may write to at once.

Promises: BEGIN IMMEDIATE holds the file from reading a chain's head to committing what follows it, so no two writers
continue the same record; a commit is on the disk (synchronous=FULL). The file, like its keys, is its owner's alone.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from gatehouse.capsule.keys import KeyFolder
from gatehouse.capsule.seal import SealedCapsule
from gatehouse.core.errors import SetupError
from gatehouse.loggers.capsules.store import BATCH, ChainEnd, Unavailable, by_chain, key_folder, seal_behind

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


class SqliteStore:
    """A store in the file at `path`, which is made, with mode 0600, by the first capsule.

    Args:
        keys: the folder of the keys; made by the first capsule too.
    """

    def __init__(self, path: Path, keys: Path) -> None:
        self.path = path
        self._keys = keys
        self._key_folder: KeyFolder | None = None
        self._connection: sqlite3.Connection | None = None

    def append(self, documents: Sequence[Mapping[str, Any]], at: datetime) -> None:
        with _told(self.path):
            connection = self._connection or self._open()
            if self._key_folder is None:
                self._key_folder = key_folder(self._keys)
            with _transaction(connection):
                ids = [document["id"] for document in documents]
                there = {found for id_ in ids for (found,) in connection.execute(_ID, (id_,))}
                for chain, part in by_chain(documents, there).items():
                    capsules, end = seal_behind(_end(connection, chain), part, self._key_folder, at)
                    connection.executemany(_INSERT, [_row(chain, capsule) for capsule in capsules])
                    connection.execute(_MOVE, (chain, end.size, end.hash, end.signed_by))

    def ends(self) -> Sequence[ChainEnd]:
        with _told(self.path):
            if self._connection is None:
                self._connection = _open_to_read(self.path)
                self._connection.execute("begin")  # one moment for all that is read
            names = "select chain from chains union select distinct chain from capsules order by 1"
            chains = [chain for (chain,) in self._connection.execute(names)]
            return [_end(self._connection, chain) for chain in chains]

    def capsules(self, chain: str) -> Iterator[SealedCapsule]:
        after = -(2**63)
        with _told(self.path):
            while rows := self._reading().execute(_PAGE, (chain, after, BATCH)).fetchall():
                for row in rows:
                    yield _sealed(row)
                if len(rows) < BATCH or rows[-1][1] == 2**63 - 1:
                    return
                after = rows[-1][1] + 1

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def abandon(self) -> None:
        """Forget what a parent process has open, without touching it."""
        _inherited.append(self._connection)
        self._connection = None

    def _reading(self) -> sqlite3.Connection:
        if self._connection is None:
            self.ends()
        assert self._connection is not None
        return self._connection

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise SetupError(f"{self.path}: {error.strerror}. Name a file that can be written.") from None
        connection = _connect(str(self.path))
        try:
            connection.execute("pragma synchronous = full")
            with _transaction(connection):
                _prepare(connection, self.path)
            # Readers, such as a verification, do not keep a writer waiting. It is remembered in the file.
            if connection.execute("pragma journal_mode").fetchone() != ("wal",):
                connection.execute("pragma journal_mode = wal")
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection


# Closing them would end the parent's transaction, or check-point its file.
_inherited: list[object] = []

_ID: Final = "select id from capsules where id = ?"
_INSERT: Final = "insert into capsules values (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_MOVE: Final = "insert or replace into chains values (?, ?, ?, ?)"
_PAGE: Final = (
    "select id, sequence, previous_hash, canonical, hash, signature, signed_by, signed_at from capsules"
    " where chain = ? and sequence >= ? order by sequence limit ?"
)


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
    return connection


def _connect(address: str, *, uri: bool = False) -> sqlite3.Connection:
    # One thread at a time uses it: the writer, and at the end of the process whoever ends it.
    return sqlite3.connect(address, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=uri)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("begin immediate")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise Unavailable(f"{path}: {error}") from None
    except sqlite3.DatabaseError as error:
        raise SetupError(f"{path}: {error}. Name another file, or restore this one from a backup.") from None


def _end(connection: sqlite3.Connection, chain: str) -> ChainEnd:
    row = connection.execute("select size, hash, signed_by from chains where chain = ?", (chain,)).fetchone()
    return ChainEnd(chain, *row) if row else ChainEnd(chain)


def _row(chain: str, capsule: SealedCapsule) -> tuple[Any, ...]:
    return (
        chain,
        capsule.sequence,
        capsule.id,
        capsule.previous_hash,
        capsule.canonical,
        capsule.hash,
        capsule.signature,
        capsule.signed_by,
        capsule.signed_at.isoformat(),
    )


def _sealed(row: tuple[Any, ...]) -> SealedCapsule:
    try:
        signed_at = datetime.fromisoformat(row[7])
    except ValueError:
        signed_at = datetime.min  # a changed one: any other will do, for it is compared with the signed bytes
    return SealedCapsule(row[0], row[1], row[2], row[3], row[4], row[5], row[6], signed_at)
