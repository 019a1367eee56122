"""Chains of capsules in Postgres, in a schema of their own: any number of programs on any number of machines.

Promises: a lock on the chain's head is held from reading it to committing what follows it, so no two writers continue
the same record. Writers of one chain need the same keys. The gateway's own ledger is another schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from gatehouse.core.errors import SetupError
from gatehouse.loggers.capsules.store import ChainStore, Unavailable
from gatehouse.storage.connection import OPTIONS

_OPTIONS: Final[dict[str, Any]] = OPTIONS | {
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


class PostgresStore(ChainStore):
    """A store in the database at `url`, in a schema of its own.

    Args:
        url: of a role that may make a schema, or that the schema was granted to.

    Raises:
        SetupError: the address cannot be read.
    """

    mark, schema, time = "%s", "gatehouse_capsules.", "to_jsonb(signed_at) #>> '{}'"

    def __init__(self, url: str, keys: Path) -> None:
        try:
            conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            # libpq quotes what it could not read, and that may be the password.
            raise SetupError("capsules: it is not a postgresql:// address. Percent-encode its password.") from None
        super().__init__(keys)
        self._url = url

    def _connect(self, *, to_write: bool) -> psycopg.Connection[tuple[Any, ...]]:
        connection = psycopg.connect(self._url, **_OPTIONS)
        if not to_write:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ  # one moment for all that is read
            connection.read_only = True
        return connection

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._connection.transaction():
            _prepare(self._connection)
            yield

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (errors.UndefinedTable, errors.InvalidSchemaName):
            raise SetupError("capsules: this database has none. Name the one that the logger writes.") from None
        except errors.InsufficientPrivilege as error:
            raise SetupError(f"capsules: {error.diag.message_primary}. Grant it to the role of the address.") from None
        except psycopg.Error as error:
            # The transaction's end may be unknown: what is given again is looked for by its id.
            self.close()
            raise Unavailable(f"Postgres: {error.diag.message_primary or type(error).__name__}") from None


def _prepare(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    there = "select to_regclass('gatehouse_capsules.capsules') is not null"
    if connection.execute(there).fetchone() == (True,):
        return
    connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
    if connection.execute(there).fetchone() != (True,):
        connection.execute(_SCHEMA)
