"""The SQL of `gatehouse.checkpoints`, a function each; synchronous, for commands and worker threads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gatehouse.ledger.store.capsules import Connection


@dataclass(frozen=True, slots=True)
class ChainState:
    """A chain's head, and its last checkpoint, as they are at one moment.

    Attributes:
        frontier: bytes of the Merkle tree's edge.
        signed_size: leaves under the last checkpoint; 0 when there is none.
    """

    chain: str
    size: int
    frontier: bytes
    signed_size: int
    note: bytes | None


def chain_states(connection: Connection, chain: str | None = None) -> list[ChainState]:
    """Every chain, or one."""
    rows = connection.execute(
        """select c.chain, c.size, c.frontier, coalesce(k.size, 0), k.note
             from gatehouse.chains c left join lateral (
                  select size, note from gatehouse.checkpoints
                   where chain = c.chain order by size desc limit 1) k on true
            where c.chain = coalesce(%s, c.chain)
            order by c.chain""",
        (chain,),
        prepare=True,
    )
    return [ChainState(*row) for row in rows]


def add(connection: Connection, chain: str, size: int, note: bytes) -> bool:
    """Store a checkpoint; false when another gateway was quicker, whose checkpoint stays."""
    inserted = connection.execute(
        "insert into gatehouse.checkpoints (chain, size, note) values (%s, %s, %s) on conflict do nothing",
        (chain, size, note),
    )
    return inserted.rowcount == 1


def checkpoints_after(connection: Connection, chain: str, size: int) -> Iterator[tuple[int, bytes]]:
    """Checkpoints over more than `size` leaves, as size and note, the smallest first."""
    while True:
        rows = connection.execute(
            "select size, note from gatehouse.checkpoints where chain = %s and size > %s order by size limit 500",
            (chain, size),
        ).fetchall()
        yield from rows
        if not rows:
            return
        size = rows[-1][0]


def checkpoint_over(connection: Connection, chain: str, size: int) -> tuple[int, bytes] | None:
    """The smallest checkpoint over at least so many leaves."""
    return connection.execute(
        "select size, note from gatehouse.checkpoints where chain = %s and size >= %s order by size limit 1",
        (chain, size),
    ).fetchone()


def latest_checkpoint(connection: Connection, chain: str) -> bytes | None:
    """The note of the largest checkpoint."""
    row = connection.execute(
        "select note from gatehouse.checkpoints where chain = %s order by size desc limit 1", (chain,)
    ).fetchone()
    return row[0] if row else None
