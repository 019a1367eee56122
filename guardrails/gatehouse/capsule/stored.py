"""Records and ends of chains as a store keeps them; nothing of them is verified."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gatehouse.capsule.seal import SealedCapsule

# No writer stores a record there, but whoever tampers can.
FIRST: Final = -(2**63)
LAST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class StoredCapsule:
    """A record of a chain. `subtrees` is empty where the store keeps no Merkle tree."""

    chain: str
    sealed: SealedCapsule
    subtrees: bytes = b""


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """Where a chain ends, as its writers noted it: what the next record continues.

    Attributes:
        hash: of the last record; None while there is none.
        signed_by: the last one's key, or the one that a rotation made active since.
        frontier: bytes of the Merkle tree's edge; None where the store keeps no tree.
    """

    chain: str
    size: int = 0
    hash: str | None = None
    signed_by: str | None = None
    frontier: bytes | None = None


def read_in_pages(
    read: Callable[[int, int], Sequence[StoredCapsule]], batch: int, first: int = FIRST
) -> Iterator[StoredCapsule]:
    """Yield a chain's records in order, with one page of them in memory.

    Args:
        read: returns the records from a sequence on, in order and no more than so many.
    """
    while page := read(first, batch):
        yield from page
        first = page[-1].sealed.sequence + 1
        if len(page) < batch or first > LAST:
            return
