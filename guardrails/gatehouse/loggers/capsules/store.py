"""Where `CapsuleLogger` keeps its capsules: what any store promises, and chains in two SQL tables.

A batch is appended whole or not at all, in one transaction with its chains' ends, so that any number of threads and
processes may append to one chain. A driver, which is a subclass, knows one database.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import astuple
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol, runtime_checkable

from gatehouse.capsule.append import by_chain, seal_behind
from gatehouse.capsule.keys import KeyFolder, create_missing
from gatehouse.capsule.seal import SealedCapsule
from gatehouse.capsule.stored import ChainEnd, StoredCapsule, read_in_pages
from gatehouse.core.clock import now

# A page of a chain: enough to be worth a query, few enough for memory.
BATCH: Final = 500

# Each driver writes its own mark for `?`, and the schema of the tables for `@`.
_INSERT: Final = """insert into @capsules
    (chain, id, sequence, previous_hash, canonical, hash, signature, signed_by, signed_at)
    values (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
# The row is the lock on a chain's end, also of a chain that is new.
_HOLD: Final = """insert into @chains (chain, size) values (?, 0)
    on conflict (chain) do update set size = chains.size returning chain, size, hash, signed_by"""
_MOVE: Final = "update @chains set size = ?, hash = ?, signed_by = ? where chain = ?"
_NAMES: Final = "select chain from @chains union select distinct chain from @capsules order by 1"
_END: Final = "select chain, size, hash, signed_by from @chains where chain = ?"
_PAGE: Final = """select cast(id as text), sequence, previous_hash, canonical, hash, signature, signed_by,
    {time} from @capsules where chain = ? and sequence >= ? order by sequence limit ?"""


class Unavailable(Exception):
    """The store cannot write now and may later. The message is one clause, without addresses and without content."""


@runtime_checkable
class CapsuleStore(Protocol):
    """What `CapsuleLogger` asks of a store; one thread at a time calls it."""

    def append(self, documents: Sequence[Mapping[str, Any]], at: datetime) -> None:
        """Seal capsules and commit them behind the chains that their `domain` names, all or none.

        A document whose id is there already is left out, so that a batch may be given again.

        Raises:
            Unavailable: not now; give it again.
            SetupError: not until somebody does what the message says.
            NotCanonical: the protocol does not allow one of the documents.
        """

    def close(self) -> None:
        """Let go of what is open. Another `append` opens it again."""


class ChainStore(ABC):
    """A store that can also be verified and exported. Both the tables and the key are made by the first capsule.

    Args:
        keys: the folder of the keys.
    """

    mark: ClassVar[str]
    schema: ClassVar[str]
    # The column `signed_at` as text of ISO 8601.
    time: ClassVar[str]

    def __init__(self, keys: Path) -> None:
        self.keys = KeyFolder(keys)
        self._connection: Any = None
        self._to_write = False

    @abstractmethod
    def _connect(self, *, to_write: bool) -> Any:
        """Open a connection of DB-API 2; one that only reads sees one moment of the store."""

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[object]:
        """Commit, or roll back, what happens inside; the tables are there."""

    @abstractmethod
    def _translated(self) -> AbstractContextManager[object]:
        """Raise the database's errors as `Unavailable` or `SetupError`."""

    def append(self, documents: Sequence[Mapping[str, Any]], at: datetime) -> None:
        with self._opened(to_write=True) as cursor, self._transaction():
            create_missing(self.keys.path, now())
            ids = [document["id"] for document in documents]
            known = f"select cast(id as text) from @capsules where id in ({', '.join('?' * len(ids))})"  # noqa: S608
            stored = {id_ for (id_,) in self._rows(cursor, known, *ids)} if ids else ()
            for chain, part in by_chain(documents, stored):
                (end,) = self._rows(cursor, _HOLD, chain)
                records, moved = seal_behind(ChainEnd(*end), part, self.keys, at)
                cursor.executemany(self._sql(_INSERT), [_row(record) for record in records])
                cursor.execute(self._sql(_MOVE), (moved.size, moved.hash, moved.signed_by, chain))

    def ends(self) -> list[ChainEnd]:
        """Return every chain's end, by name, as of one moment, which is also that of `capsules` until `close`."""
        with self._opened(to_write=False) as cursor:
            chains = [chain for (chain,) in self._rows(cursor, _NAMES)]
            return [ChainEnd(*end) for chain in chains for end in self._rows(cursor, _END, chain) or [(chain,)]]

    def capsules(self, chain: str) -> Iterator[StoredCapsule]:
        """Yield a chain's records in order; nothing of them is verified."""
        return read_in_pages(partial(self._page, chain), BATCH)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def abandon(self) -> None:
        """Forget what a parent process has open, without touching it."""
        _inherited.append(self._connection)
        self._connection = None

    @contextmanager
    def _opened(self, *, to_write: bool) -> Iterator[Any]:
        with self._translated():
            if self._connection is None or self._to_write is not to_write:
                self.close()
                self._connection, self._to_write = self._connect(to_write=to_write), to_write
            yield self._connection.cursor()

    def _page(self, chain: str, first: int, count: int) -> list[StoredCapsule]:
        with self._opened(to_write=False) as cursor:
            return [
                _record(chain, row) for row in self._rows(cursor, _PAGE.format(time=self.time), chain, first, count)
            ]

    def _rows(self, cursor: Any, query: str, *values: Any) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = cursor.execute(self._sql(query), values).fetchall()
        return rows

    def _sql(self, query: str) -> str:
        return query.replace("?", self.mark).replace("@", self.schema)


# Closing them would end the parent's transaction or session, or check-point its file.
_inherited: list[object] = []


def _row(record: StoredCapsule) -> tuple[Any, ...]:
    *fields, signed_at = astuple(record.sealed)
    return record.chain, *fields, signed_at.isoformat()


def _record(chain: str, row: tuple[Any, ...]) -> StoredCapsule:
    try:
        signed_at = datetime.fromisoformat(row[-1])
    except ValueError:
        signed_at = datetime.min  # a changed one: any other will do, for it is compared with the signed bytes
    return StoredCapsule(chain, SealedCapsule(*(*row[:-1], signed_at)))
