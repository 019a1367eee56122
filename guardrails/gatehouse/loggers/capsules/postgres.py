"""Chains of capsules in Postgres, in a schema of their own: any number of programs on any number of machines.

Promises: a lock on the chain's head is held from reading it to committing what follows it, so no two writers continue
the same record. Writers of one chain need the same keys. The gateway's own ledger is another schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from gatehouse.capsule.keys import KeyFolder
from gatehouse.capsule.seal import SealedCapsule
from gatehouse.core.errors import SetupError
from gatehouse.loggers.capsules.store import BATCH, ChainEnd, Unavailable, by_chain, key_folder, seal_behind

_OPTIONS: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "application_name": "gatehouse capsules",
    "options": "-c timezone=UTC -c statement_timeout=30000",
}
# Any number that no other program on this database uses; it spells "GHcl".
_LOCK: Final = 0x4748636C

_SCHEMA: Final = """
create schema gatehouse_capsules;
create table gatehouse_capsules.chains (
    chain     text primary key,
    size      bigint not null default 0,
    hash      text,
    signed_by text
);
create table gatehouse_capsules.capsules (
    chain         text not null,
    sequence      bigint not null,
    id            uuid not null unique,
    previous_hash text,
    canonical     bytea not null,
    hash          text not null,
    signature     text not null,
    signed_by     text not null,
    signed_at     timestamptz not null,
    primary key (chain, sequence)
);
create function gatehouse_capsules.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'capsules are append-only: % is refused', tg_op using errcode = 'insufficient_privilege';
end $$;
create trigger append_only before update or delete or truncate on gatehouse_capsules.capsules
    for each statement execute function gatehouse_capsules.refuse_change();
"""


class PostgresStore:
    """A store in the database at `url`; its schema is made by the first capsule.

    Args:
        url: of a role that may make a schema, or that the schema was granted to.
        keys: the folder of the keys; made by the first capsule too.

    Raises:
        SetupError: the address cannot be read.
    """

    def __init__(self, url: str, keys: Path) -> None:
        try:
            conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            # libpq quotes what it could not read, and that may be the password.
            raise SetupError("capsules: it is not a postgresql:// address. Percent-encode its password.") from None
        self._url = url
        self._keys = keys
        self._key_folder: KeyFolder | None = None
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._prepared = False

    def append(self, documents: Sequence[Mapping[str, Any]], at: datetime) -> None:
        with self._told() as connection, connection.transaction():
            if not self._prepared:
                _prepare(connection)
            if self._key_folder is None:
                self._key_folder = key_folder(self._keys)
            ids = [document["id"] for document in documents]
            found = connection.execute("select id::text from gatehouse_capsules.capsules where id = any(%s)", (ids,))
            there = {id_ for (id_,) in found}
            for chain, part in by_chain(documents, there).items():
                capsules, end = seal_behind(_lock_end(connection, chain), part, self._key_folder, at)
                connection.cursor().executemany(_INSERT, [_row(chain, capsule) for capsule in capsules])
                connection.execute(_MOVE, (end.size, end.hash, end.signed_by, chain))
        self._prepared = True

    def ends(self) -> Sequence[ChainEnd]:
        with self._told() as connection:
            connection.rollback()
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ  # one moment for all that is read
            connection.read_only = True
            rows = connection.execute(
                """select coalesce(h.chain, c.chain), coalesce(h.size, 0), h.hash, h.signed_by
                     from gatehouse_capsules.chains h
                     full join (select distinct chain from gatehouse_capsules.capsules) c on c.chain = h.chain
                    order by 1"""
            )
            return [ChainEnd(*row) for row in rows]

    def capsules(self, chain: str) -> Iterator[SealedCapsule]:
        after = -(2**63)
        while True:
            with self._told() as connection:
                rows = connection.cursor(binary=True).execute(_PAGE, (chain, after, BATCH)).fetchall()
            for row in rows:
                yield SealedCapsule(*row)
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

    @contextmanager
    def _told(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """The connection, and Postgres' errors as ours."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(self._url, **_OPTIONS)
            yield self._connection
        except (errors.UndefinedTable, errors.InvalidSchemaName):
            raise SetupError("capsules: this database has none. Name the one that the logger writes.") from None
        except errors.InsufficientPrivilege as error:
            raise SetupError(f"capsules: {error.diag.message_primary}. Grant it to the role of the address.") from None
        except psycopg.Error as error:
            # The transaction's end may be unknown: what is given again is looked for by its id.
            self.close()
            raise Unavailable(f"Postgres: {error.diag.message_primary or type(error).__name__}") from None


# Closing them would end the parent's session.
_inherited: list[object] = []

_INSERT: Final = "insert into gatehouse_capsules.capsules values (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
_MOVE: Final = "update gatehouse_capsules.chains set size = %s, hash = %s, signed_by = %s where chain = %s"
# A time that Python cannot hold is a changed one: any other will do, for it is compared with the signed bytes.
_PAGE: Final = """
    select id::text, sequence, previous_hash, canonical, hash, signature, signed_by,
           least(greatest(signed_at, '0002-01-01+00'), '9998-01-01+00')
      from gatehouse_capsules.capsules where chain = %s and sequence >= %s order by sequence limit %s"""


def _prepare(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    there = "select to_regclass('gatehouse_capsules.capsules') is not null"
    if connection.execute(there).fetchone() == (True,):
        return
    connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
    if connection.execute(there).fetchone() != (True,):
        connection.execute(_SCHEMA)


def _lock_end(connection: psycopg.Connection[tuple[Any, ...]], chain: str) -> ChainEnd:
    query = "select chain, size, hash, signed_by from gatehouse_capsules.chains where chain = %s for update"
    while (row := connection.execute(query, (chain,)).fetchone()) is None:
        connection.execute("insert into gatehouse_capsules.chains (chain) values (%s) on conflict do nothing", (chain,))
    return ChainEnd(*row)


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
        capsule.signed_at,
    )
