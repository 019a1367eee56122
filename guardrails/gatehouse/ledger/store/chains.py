"""The SQL of `gatehouse.chains` and `gatehouse.capsules` that the ledger writes with, a function each.

Each runs inside the caller's transaction; the lock on a chain's head lasts until that ends.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from gatehouse.capsule.merkle import Frontier
from gatehouse.capsule.seal import SealedCapsule
from gatehouse.storage.connection import Connection


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Where a chain ends: what the next capsule continues.

    Attributes:
        hash: of the last capsule; None while there is none.
        signed_by: the last one's key, or the one that a rotation made active since.
        frontier: the Merkle tree's edge; its size is the next sequence.
    """

    hash: str | None
    signed_by: str | None
    frontier: Frontier


async def lock_head(connection: Connection, chain: str) -> ChainHead:
    """Wait for the chain's head and keep it from every other writer. A chain that is new begins empty."""
    while True:
        cursor = await connection.execute(
            "select head_hash, signed_by, frontier from gatehouse.chains where chain = %s for update", (chain,)
        )
        row = await cursor.fetchone()
        if row is not None:
            return ChainHead(row[0], row[1], Frontier.from_bytes(row[2]))
        await connection.execute("insert into gatehouse.chains (chain) values (%s) on conflict do nothing", (chain,))


async def append(
    connection: Connection, chain: str, capsules: Sequence[SealedCapsule], subtrees: Sequence[bytes], after: Frontier
) -> None:
    """Insert capsules, all signed by one key at one time, and move the chain's head behind them.

    Args:
        subtrees: for each capsule the column of that name.
        after: the tree's edge with these capsules in it.
    """
    last = capsules[-1]
    rows = [
        {
            "sequence": row.sequence,
            "id": row.id,
            "previous_hash": row.previous_hash,
            "canonical": row.canonical.decode(),
            "hash": row.hash,
            "signature": row.signature,
            "subtrees": nodes.hex(),
        }
        for row, nodes in zip(capsules, subtrees, strict=True)
    ]
    await connection.execute(
        """with sealed as (
               insert into gatehouse.capsules
                      (chain, sequence, id, previous_hash, canonical, hash, signature, signed_by, signed_at, subtrees)
               select %(chain)s, sequence, id, previous_hash, convert_to(canonical, 'UTF8'), hash, signature,
                      %(signed_by)s, %(signed_at)s, decode(subtrees, 'hex')
                 from jsonb_to_recordset(%(rows)s::jsonb) as r(sequence bigint, id uuid, previous_hash text,
                      canonical text, hash text, signature text, subtrees text))
           update gatehouse.chains
              set size = %(size)s, head_hash = %(hash)s, signed_by = %(signed_by)s, frontier = %(frontier)s
            where chain = %(chain)s""",
        {
            "chain": chain,
            "rows": json.dumps(rows),
            "size": after.size,
            "hash": last.hash,
            "signed_by": last.signed_by,
            "signed_at": last.signed_at,
            "frontier": after.to_bytes(),
        },
        prepare=True,
    )


async def rotate_heads(connection: Connection, signed_by: str) -> None:
    """Note on every chain which key signs from now on. The caller holds all heads."""
    await connection.execute("update gatehouse.chains set signed_by = %s", (signed_by,))


async def lock_all_heads(connection: Connection) -> dict[str, int]:
    """Keep every chain from every writer, new chains included; chain to its next sequence."""
    # No writer can insert a head, or lock one, while this is held.
    await connection.execute("lock table gatehouse.chains in exclusive mode")
    cursor = await connection.execute("select chain, size from gatehouse.chains order by chain")
    return dict(await cursor.fetchall())
