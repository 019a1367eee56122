"""The SQL of `gatehouse.chains` and `gatehouse.capsules` that the ledger writes with, a function each.

Each runs inside the caller's transaction; the lock on a chain's head lasts until that ends.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from gatehouse.capsule.stored import ChainEnd, StoredCapsule
from gatehouse.storage.connection import Connection


async def lock_head(connection: Connection, chain: str) -> ChainEnd:
    """Wait for the chain's head and keep it from every other writer. A chain that is new begins empty."""
    while True:
        cursor = await connection.execute(
            "select chain, size, head_hash, signed_by, frontier from gatehouse.chains where chain = %s for update",
            (chain,),
        )
        row = await cursor.fetchone()
        if row is not None:
            return ChainEnd(*row)
        await connection.execute("insert into gatehouse.chains (chain) values (%s) on conflict do nothing", (chain,))


async def append(connection: Connection, records: Sequence[StoredCapsule], end: ChainEnd) -> None:
    """Insert records, all signed by one key at one time, and move their chain's end behind them."""
    rows = [
        {
            "sequence": row.sealed.sequence,
            "id": row.sealed.id,
            "previous_hash": row.sealed.previous_hash,
            "canonical": row.sealed.canonical.decode(),
            "hash": row.sealed.hash,
            "signature": row.sealed.signature,
            "subtrees": row.subtrees.hex(),
        }
        for row in records
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
        asdict(end) | {"rows": json.dumps(rows), "signed_at": records[-1].sealed.signed_at},
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
