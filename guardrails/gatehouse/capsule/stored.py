"""Records as a store keeps them."""

from __future__ import annotations

from dataclasses import dataclass

from gatehouse.capsule.seal import SealedCapsule


@dataclass(frozen=True, slots=True)
class StoredCapsule:
    """A row of `gatehouse.capsules`; nothing of it is verified."""

    chain: str
    sealed: SealedCapsule
    subtrees: bytes


@dataclass(frozen=True, slots=True)
class StoredHead:
    """A row of `gatehouse.chains`; nothing of it is verified."""

    size: int
    hash: str | None
    signed_by: str | None
    frontier: bytes
