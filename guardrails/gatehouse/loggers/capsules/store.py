"""Where `CapsuleLogger` keeps its capsules: what a store promises, which one an address means, and whose key signs.

A store appends a batch to its chains whole or not at all, and in one transaction with the chain's head, so that any
number of threads and processes may append to one chain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from gatehouse.capsule import keys as folder_of_keys
from gatehouse.capsule.keys import KEYRING_NAME, KeyFolder
from gatehouse.capsule.seal import SealedCapsule, seal
from gatehouse.core.clock import now
from gatehouse.core.errors import SetupError

# A page of a chain: enough to be worth a query, few enough for memory.
BATCH: Final = 500


class Unavailable(Exception):
    """The store cannot write now and may later. The message is one clause, without addresses and without content."""


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """Where a chain ends, as its writers noted it: `size` records, and the hash and key of the last one."""

    chain: str
    size: int = 0
    hash: str | None = None
    signed_by: str | None = None


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


class ReadableStore(CapsuleStore, Protocol):
    """A store that can be verified and exported."""

    def ends(self) -> Sequence[ChainEnd]:
        """Every chain, by name, as of one moment, which is also that of `capsules` until `close`."""

    def capsules(self, chain: str) -> Iterator[SealedCapsule]:
        """A chain's records in order, a page at a time; nothing of them is verified."""


def key_folder(folder: Path) -> KeyFolder:
    """The keys in `folder`, made now if there are none: `epoch-0.key` with mode 0600, and keyring.json.

    Raises:
        SetupError: they cannot be made or used.
    """
    if not (folder / KEYRING_NAME).exists():
        try:
            folder_of_keys.create(folder, now())
        except SetupError:
            if not (folder / KEYRING_NAME).exists():  # else another process made them first
                raise
    return KeyFolder(folder)


def seal_behind(
    end: ChainEnd, documents: Sequence[Mapping[str, Any]], keys: KeyFolder, at: datetime
) -> tuple[list[SealedCapsule], ChainEnd]:
    """Seal documents behind a chain's end, which the caller holds; the capsules, and the new end.

    Raises:
        SetupError: the chain goes on with a key that is not in the folder, or the folder's key cannot be used.
        NotCanonical: the protocol does not allow a document.
    """
    held = keys.current()
    if end.signed_by is not None and held.keyring.find(end.signed_by) is None:
        raise SetupError(
            f"{held.folder}: the chain {end.chain!r} was signed by another key, {end.signed_by}. "
            "Name the folder of its keys with `keys=`, or another place for these capsules."
        )
    capsules: list[SealedCapsule] = []
    previous = end.hash
    for sequence, document in enumerate(documents, end.size):
        capsules.append(seal(document, sequence=sequence, previous_hash=previous, signer=held.signer, at=at))
        previous = capsules[-1].hash
    return capsules, ChainEnd(end.chain, end.size + len(capsules), previous, held.signer.signed_by)


def by_chain(documents: Sequence[Mapping[str, Any]], there: set[str]) -> dict[str, list[Mapping[str, Any]]]:
    """Documents by the chain they go to, chains by name, without those that are there already."""
    chains: dict[str, list[Mapping[str, Any]]] = {}
    for document in documents:
        if document["id"] not in there:
            chains.setdefault(document["domain"], []).append(document)
    return dict(sorted(chains.items()))
