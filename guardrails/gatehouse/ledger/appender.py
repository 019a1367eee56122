"""Appends capsules to their chains, from any number of gateways: numbered, sealed and stored under the head's lock.

Promises: a chain has no gap and no fork, whoever dies when; every capsule is signed by the key that was active while
its head was held; the Merkle tree grows in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gatehouse.capsule.append import by_chain, seal_behind
from gatehouse.capsule.keys import KeyFolder
from gatehouse.core import metrics
from gatehouse.ledger.store import chains
from gatehouse.storage.connection import Connection


@dataclass(frozen=True, slots=True)
class Place:
    """Where a capsule lies, its hash, and the key that signed it."""

    chain: str
    sequence: int
    hash: str
    signed_by: str


async def append(
    connection: Connection, keys: KeyFolder, documents: Sequence[dict[str, Any]], at: datetime
) -> dict[str, Place]:
    """Seal capsules inside the caller's transaction; their `domain` names their chain.

    Args:
        keys: where the active key is; it may be rotated at any time.

    Returns:
        capsule id to its place.

    Raises:
        NotCanonical: the protocol does not allow a document; roll back.
        SetupError: the key cannot be used; roll back.
    """
    places: dict[str, Place] = {}
    for chain, part in by_chain(documents):
        records, end = seal_behind(await chains.lock_head(connection, chain), part, keys, at)
        await chains.append(connection, records, end)
        for sealed in (record.sealed for record in records):
            places[sealed.id] = Place(chain, sealed.sequence, sealed.hash, sealed.signed_by)
    metrics.capsules_sealed.inc(len(places))
    return places
