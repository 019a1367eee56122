"""Appends capsules to their chains, from any number of gateways: numbered, sealed and stored under the head's lock.

Promises: a chain has no gap and no fork, whoever dies when; every capsule is signed by the key that was active while
its head was held; the Merkle tree grows in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gatehouse.capsule.keys import KeyFolder, Keys
from gatehouse.capsule.merkle import subtrees
from gatehouse.capsule.seal import SealedCapsule, seal
from gatehouse.core import metrics
from gatehouse.core.errors import SetupError
from gatehouse.ledger.store import chains
from gatehouse.storage.connection import Connection


@dataclass(frozen=True, slots=True)
class Place:
    """Where a capsule lies, its hash, and the key that signed it."""

    chain: str
    sequence: int
    hash: str
    signed_by: str


class Ledger:
    """The writer of one process.

    Args:
        keys: where the active key is; it may be rotated while this runs.
    """

    def __init__(self, keys: KeyFolder) -> None:
        self._keys = keys

    async def append(
        self, connection: Connection, documents: Sequence[dict[str, Any]], at: datetime
    ) -> dict[str, Place]:
        """Seal capsules inside the caller's transaction; their `domain` names their chain.

        Returns:
            capsule id to its place.

        Raises:
            NotCanonical: the protocol does not allow a document; roll back.
            SetupError: the key cannot be used; roll back.
        """
        chains: dict[str, list[dict[str, Any]]] = {}
        for document in documents:
            chains.setdefault(document["domain"], []).append(document)
        places: dict[str, Place] = {}
        for chain in sorted(chains):  # in one order everywhere, so that no two writers wait for each other
            for capsule in await self._append(connection, chain, chains[chain], at):
                places[capsule.id] = Place(chain, capsule.sequence, capsule.hash, capsule.signed_by)
        metrics.capsules_sealed.inc(len(places))
        return places

    async def _append(
        self, connection: Connection, chain: str, documents: Sequence[dict[str, Any]], at: datetime
    ) -> list[SealedCapsule]:
        head = await chains.lock_head(connection, chain)
        keys = self._keys.current()  # only now: whoever rotates holds every head
        _check_key(keys, head.signed_by, chain)
        capsules: list[SealedCapsule] = []
        previous = head.hash
        for sequence, document in enumerate(documents, head.frontier.size):
            capsule = seal(document, sequence=sequence, previous_hash=previous, signer=keys.signer, at=at)
            capsules.append(capsule)
            previous = capsule.hash
        frontier, nodes = head.frontier.append(bytes.fromhex(capsule.hash) for capsule in capsules)
        await chains.append(connection, chain, capsules, [subtrees(c.sequence, nodes) for c in capsules], frontier)
        return capsules


def _check_key(keys: Keys, signed_by: str | None, chain: str) -> None:
    if signed_by is not None and keys.keyring.find(signed_by) is None:
        raise SetupError(
            f"{keys.folder}: chain {chain!r} goes on with a newer key, {signed_by}. "
            "Give this gateway the ledger's current keys."
        )
