"""The one append to a chain, for every store: it numbers, links and seals what follows a chain's end. Pure.

A store holds the end from reading it until it has committed the records and the new end together. That, and nothing
here, keeps two writers from continuing the same record.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from gatehouse.capsule.keys import KeyFolder
from gatehouse.capsule.merkle import Frontier, subtrees
from gatehouse.capsule.seal import seal
from gatehouse.capsule.stored import ChainEnd, StoredCapsule
from gatehouse.core.errors import SetupError

Document = Mapping[str, Any]


def by_chain(documents: Sequence[Document], stored: Collection[str] = ()) -> list[tuple[str, list[Document]]]:
    """Group documents by the chain that their `domain` names, without those whose id is among `stored`.

    Every writer goes through its chains in this order, so that no two wait for each other.
    """
    chains: dict[str, list[Document]] = {}
    for document in documents:
        if document["id"] not in stored:
            chains.setdefault(document["domain"], []).append(document)
    return sorted(chains.items())


def seal_behind(
    end: ChainEnd, documents: Sequence[Document], keys: KeyFolder, at: datetime
) -> tuple[list[StoredCapsule], ChainEnd]:
    """Seal documents behind a chain's end, which the caller holds; return the records and the new end.

    Raises:
        SetupError: the chain goes on with a key that is not in the folder, or the folder's key cannot be used.
        NotCanonical: the protocol does not allow a document.
    """
    held = keys.current()  # only now: whoever rotates holds every end
    if end.signed_by is not None and held.keyring.find(end.signed_by) is None:
        raise SetupError(
            f"{held.folder}: chain {end.chain!r} was signed by another key, {end.signed_by}. "
            "Give this program the folder of the chain's current keys."
        )
    tree = None if end.frontier is None else Frontier.from_bytes(end.frontier)
    sealed, previous = [], end.hash
    for sequence, document in enumerate(documents, end.size if tree is None else tree.size):
        sealed.append(seal(document, sequence=sequence, previous_hash=previous, signer=held.signer, at=at))
        previous = sealed[-1].hash
    if tree is None:
        records = [StoredCapsule(end.chain, capsule) for capsule in sealed]
        return records, ChainEnd(end.chain, end.size + len(sealed), previous, held.signer.signed_by)
    tree, nodes = tree.append(bytes.fromhex(capsule.hash) for capsule in sealed)
    records = [StoredCapsule(end.chain, capsule, subtrees(capsule.sequence, nodes)) for capsule in sealed]
    return records, ChainEnd(end.chain, tree.size, previous, held.signer.signed_by, tree.to_bytes())
