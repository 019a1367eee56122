"""The SQL that reads the ledger, a function each; synchronous, for commands and worker threads.

Promises: nothing here writes; what one connection reads is one moment of the ledger, whoever writes meanwhile; no more
than `BATCH` capsules are in memory, however long the chain is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import errors

from gatehouse.capsule.merkle import HASH_SIZE, NodeId, leaf_hash
from gatehouse.capsule.seal import SealedCapsule
from gatehouse.capsule.stored import FIRST, LAST, ChainEnd, StoredCapsule, read_in_pages
from gatehouse.core.errors import SetupError

Connection = psycopg.Connection[tuple[Any, ...]]

# In mode `full` a capsule is as long as its conversation: few enough for that, enough to be worth a query.
BATCH: Final = 200

_HASH = re.compile(r"[0-9a-f]{64}")
# A time that Python cannot hold is a changed one: any other will do, for it is compared with the signed bytes.
_COLUMNS = """chain, id::text, sequence, previous_hash, canonical, hash, signature, signed_by,
    least(greatest(signed_at, '0002-01-01+00'), '9998-01-01+00') as signed_at, subtrees"""


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A record, and whose call it is of; nothing of it is verified.

    Attributes:
        gateway: who answers for the call and writes its line; None where there is no such call.
        settled: where the call stands in the order in which that gateway writes its lines.
    """

    chain: str
    sequence: int
    id: str
    hash: str
    gateway: str | None
    settled: int | None


@contextmanager
def reading(database_url: str) -> Iterator[Connection]:
    """A connection that sees the ledger as it is at its first query, until `rollback` lets it see a later one.

    Raises:
        SetupError: as `reachable`.
    """
    with reachable():
        connection = psycopg.connect(
            database_url, connect_timeout=5, application_name="gatehouse audit", options="-c timezone=UTC"
        )
        try:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            yield connection
        finally:
            connection.close()


@contextmanager
def reachable() -> Iterator[None]:
    """Says what is wrong with the database as a person wants to hear it.

    Raises:
        SetupError: it is not there, has no ledger, or this role may not do that.
    """
    try:
        yield
    except (errors.UndefinedTable, errors.InvalidSchemaName):
        raise SetupError("database: there is no ledger in it yet. Start the gateway once.") from None
    except errors.InsufficientPrivilege as error:
        raise SetupError(f"database: {error.diag.message_primary}. Use the gateway's role.") from None
    except psycopg.OperationalError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SetupError(f"database: {reason}. Start Postgres, or correct DATABASE_URL.") from None


def chain_names(connection: Connection) -> list[str]:
    """Every chain that any table of the ledger knows of."""
    return [
        name
        for (name,) in connection.execute(
            """select chain from gatehouse.chains
               union select distinct chain from gatehouse.capsules
               union select distinct chain from gatehouse.checkpoints order by 1"""
        )
    ]


def head_of(connection: Connection, chain: str) -> ChainEnd | None:
    """Where the chain ends, as its writers noted it."""
    row = connection.execute(
        "select chain, size, head_hash, signed_by, frontier from gatehouse.chains where chain = %s", (chain,)
    ).fetchone()
    return ChainEnd(*row) if row else None


def capsules(
    connection: Connection, chain: str, first: int = FIRST, last: int = LAST, *, batch: int = BATCH
) -> Iterator[StoredCapsule]:
    """The capsules from sequence `first` to `last`, both included, in order."""
    cursor = connection.cursor(binary=True)

    def read(after: int, count: int) -> list[StoredCapsule]:
        rows = cursor.execute(
            f"select {_COLUMNS} from gatehouse.capsules"  # noqa: S608
            " where chain = %s and sequence >= %s and sequence <= %s order by sequence limit %s",
            (chain, after, last, count),
            prepare=True,
        )
        return [_stored(row) for row in rows]

    return read_in_pages(read, batch, first)


def last_capsules(connection: Connection, chain: str, count: int) -> list[StoredCapsule]:
    """The chain's last capsules, in order."""
    rows = connection.cursor(binary=True).execute(
        f"select {_COLUMNS} from gatehouse.capsules where chain = %s order by sequence desc limit %s",  # noqa: S608
        (chain, count),
    )
    return [_stored(row) for row in rows][::-1]


def capsule_of(connection: Connection, call_id: UUID) -> StoredCapsule | None:
    """A call's capsule."""
    cursor = connection.cursor(binary=True)
    row = cursor.execute(
        f"select {_COLUMNS} from gatehouse.capsules where id = %s",  # noqa: S608
        (call_id,),
    ).fetchone()
    return _stored(row) if row else None


def tree_nodes(connection: Connection, chain: str, nodes: Iterable[NodeId]) -> dict[NodeId, bytes]:
    """Nodes of the chain's Merkle tree, in one query; one that is not stored, or not whole, is left out."""
    wanted = {node: ((node.position + 1) << node.level) - 1 for node in nodes}
    rows = connection.execute(
        "select sequence, hash, subtrees from gatehouse.capsules where chain = %s and sequence = any(%s::bigint[])",
        (chain, sorted(set(wanted.values()))),
    )
    stored = {sequence: (digest, subtrees) for sequence, digest, subtrees in rows}
    found: dict[NodeId, bytes] = {}
    for node, sequence in wanted.items():
        digest, subtrees = stored.get(sequence, ("", b""))
        value = subtrees[(node.level - 1) * HASH_SIZE : node.level * HASH_SIZE] if node.level else b""
        if node.level == 0 and _HASH.fullmatch(digest):
            value = leaf_hash(bytes.fromhex(digest))
        if len(value) == HASH_SIZE:
            found[node] = value
    return found


def recorded(connection: Connection, chain: str, sequences: Sequence[int]) -> list[RecordedCall]:
    """The records of a chain at these sequences, as far as they are there."""
    rows = connection.execute(
        # A look into the index for each, whatever the planner thinks of the tables' size: `limit` keeps it from a join.
        """select s.chain, s.sequence, s.id::text, s.hash, c.gateway_id::text, c.settle_seq
             from unnest(%s::bigint[]) w(sequence)
            cross join lateral (select * from gatehouse.capsules
                                 where chain = %s and sequence = w.sequence limit 1) s
             left join lateral (select * from gatehouse.calls where call_id = s.id limit 1) c on true""",
        (list(sequences), chain),
    )
    return [RecordedCall(*row) for row in rows]


def recorded_by(connection: Connection, gateway: str, after: int, before: int) -> Iterator[RecordedCall]:
    """The records of a gateway's calls between two places of the order in which it settled them, in that order."""
    while True:
        rows = connection.execute(
            """select s.chain, s.sequence, s.id::text, s.hash, c.gateway_id::text, c.settle_seq
                 from gatehouse.calls c join gatehouse.capsules s on s.id = c.call_id
                where c.gateway_id = %s and c.settled_at is not null and c.settle_seq > %s and c.settle_seq < %s
                order by c.settle_seq limit 1000""",
            (gateway, after, before),
        ).fetchall()
        yield from (RecordedCall(*row) for row in rows)
        if not rows:
            return
        after = rows[-1][-1]


def calls_without_capsule(connection: Connection) -> tuple[int, UUID | None]:
    """How many calls are settled and not in the ledger, and the first. Those from before there was one do not count."""
    return _count(
        connection,
        """select count(*), min(c.call_id::text)::uuid from gatehouse.calls c
            where c.settled_at >= (select applied_at from gatehouse.migrations where name = '0002_ledger.sql')
              and not exists (select from gatehouse.capsules s where s.id = c.call_id)""",
    )


def capsules_without_call(connection: Connection) -> tuple[int, UUID | None]:
    """How many capsules are of no settled call, and the first."""
    return _count(
        connection,
        """select count(*), min(s.id::text)::uuid from gatehouse.capsules s
            where not exists (select from gatehouse.calls c where c.call_id = s.id and c.settled_at is not null)""",
    )


def _count(connection: Connection, query: str) -> tuple[int, UUID | None]:
    row = connection.execute(query.encode()).fetchone()
    return (row[0], row[1]) if row else (0, None)


def _stored(row: tuple[Any, ...]) -> StoredCapsule:
    return StoredCapsule(row[0], SealedCapsule(*row[1:-1]), row[-1])
