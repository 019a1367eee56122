"""The Merkle tree over a chain's capsule hashes (RFC 6962 section 2, RFC 9162 section 2.1): roots and proofs.

Promises: roots and proofs are the standard's, bit by bit; appending needs only the frontier, and a proof only the nodes
it names, both O(log n); nothing here does I/O. Leaf `i` is the 32 bytes of the SHA3-256 of the capsule at sequence `i`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple, Protocol

HASH_SIZE = 32
EMPTY_ROOT = sha256(b"").digest()

Range = tuple[int, int]


class InvalidProof(ValueError):
    """A proof does not prove what it should; the message is one clause that says why."""


class NodeId(NamedTuple):
    """A complete subtree: the one over leaves `position * 2**level` up to `(position + 1) * 2**level`, exclusive.

    Complete subtrees never change, so they are what is stored. Level 0 are the leaf hashes, which can as well be
    computed from the capsules.
    """

    level: int
    position: int


class NodeStore(Protocol):
    """Where proofs read complete subtrees; a dict will do. A node that is not there is a `KeyError`."""

    def __getitem__(self, node: NodeId, /) -> bytes: ...


def leaf_hash(data: bytes) -> bytes:
    """RFC 9162 section 2.1.1. The prefixes 0 and 1 keep a node from being passed off as a leaf."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 9162 section 2.1.1."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """All that a tree needs to remember to grow: the roots of its maximal complete subtrees (a compact range).

    Attributes:
        size: leaves in the tree.
        hashes: one for each bit set in `size`, the largest subtree first.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise ValueError(f"{len(self.hashes)} hashes are not the frontier of {self.size} leaves")
        if any(len(value) != HASH_SIZE for value in self.hashes):
            raise ValueError("a hash of the frontier is not 32 bytes long")

    def append(self, leaves: Iterable[bytes]) -> tuple[Frontier, dict[NodeId, bytes]]:
        """The frontier after these leaves, and every complete subtree they finish, in the order of completion.

        Over its life a tree of n leaves has n nodes on level 0 and fewer than n above.
        """
        size, stack, created = self.size, list(self.hashes), dict[NodeId, bytes]()
        for leaf in leaves:
            level, position, value = 0, size, leaf_hash(leaf)
            created[NodeId(level, position)] = value
            while position & 1:  # a right child: its parent is complete now
                level, position, value = level + 1, position >> 1, node_hash(stack.pop(), value)
                created[NodeId(level, position)] = value
            stack.append(value)
            size += 1
        return Frontier(size, tuple(stack)), created

    def root(self) -> bytes:
        """The root hash, 32 bytes; that of the empty tree is `EMPTY_ROOT`."""
        return _fold(self.hashes) if self.hashes else EMPTY_ROOT

    def to_bytes(self) -> bytes:
        """The size as 8 bytes, big-endian, then the hashes."""
        return self.size.to_bytes(8) + b"".join(self.hashes)

    @classmethod
    def from_bytes(cls, data: bytes) -> Frontier:
        """The inverse of `to_bytes`.

        Raises:
            ValueError: the bytes are not a frontier.
        """
        if len(data) < 8:
            raise ValueError("a frontier is at least 8 bytes long")
        hashes = tuple(data[at : at + HASH_SIZE] for at in range(8, len(data), HASH_SIZE))
        return cls(int.from_bytes(data[:8]), hashes)

    @classmethod
    def load(cls, size: int, store: NodeStore) -> Frontier:
        """The frontier that a tree had at this size, from the nodes that `frontier_nodes` names."""
        return cls(size, tuple(store[node] for node in frontier_nodes(size)))


def frontier_nodes(size: int) -> list[NodeId]:
    """The nodes that `Frontier.load` reads: at most floor(log2(size)) + 1."""
    return _complete((0, size))


def inclusion_nodes(index: int, size: int) -> list[NodeId]:
    """The nodes that `inclusion_proof` reads, for fetching them at once: fewer than 2 * ceil(log2(size))."""
    return [node for part in _inclusion_ranges(index, size) for node in _complete(part)]


def consistency_nodes(first: int, second: int) -> list[NodeId]:
    """The nodes that `consistency_proof` reads, for fetching them at once: at most 2 * ceil(log2(second))."""
    return [node for part in _consistency_ranges(first, second) for node in _complete(part)]


def inclusion_proof(index: int, size: int, store: NodeStore) -> list[bytes]:
    """RFC 9162 section 2.1.3.1: that leaf `index` is in the tree of the first `size` leaves.

    At most ceil(log2(size)) hashes, from the leaf up.

    Raises:
        ValueError: there is no such leaf in a tree of that size.
        KeyError: the store lacks a node; the key says which.
    """
    return [_subtree(part, store) for part in _inclusion_ranges(index, size)]


def consistency_proof(first: int, second: int, store: NodeStore) -> list[bytes]:
    """RFC 9162 section 2.1.4.1: that the tree of `second` leaves begins with that of `first`.

    At most ceil(log2(second)) + 1 hashes.

    Raises:
        ValueError: the sizes are not in order.
        KeyError: the store lacks a node; the key says which.
    """
    return [_subtree(part, store) for part in _consistency_ranges(first, second)]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """RFC 9162 section 2.1.3.2. Takes the leaf itself, never its hash, so that no inner node can pose as a leaf.

    `size` must come from where `root` comes from, a signed checkpoint: sizes between which the path to the leaf is the
    same are not told apart by the hashes alone.

    Raises:
        InvalidProof: the leaf is not shown to be at `index` of the tree with that size and root.
    """
    if not 0 <= index < size:
        raise InvalidProof(f"a tree of {size} leaves has no leaf {index}")
    _check_hashes(proof)
    place, last, value = index, size - 1, leaf_hash(leaf)
    for sibling in proof:
        if last == 0:
            raise InvalidProof(f"{len(proof)} hashes are more than the path of leaf {index} of {size} has")
        if place & 1 or place == last:
            value = node_hash(sibling, value)
            while not place & 1 and place:  # on the right border a level without a sibling has no hash
                place, last = place >> 1, last >> 1
        else:
            value = node_hash(value, sibling)
        place, last = place >> 1, last >> 1
    if last:
        raise InvalidProof(f"{len(proof)} hashes are fewer than the path of leaf {index} of {size} has")
    if value != root:
        raise InvalidProof(f"the path of leaf {index} leads to root {value.hex()}, not to {root.hex()}")


def verify_consistency(first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes) -> None:
    """RFC 9162 section 2.1.4.2; like any log, consistent with the empty tree, by an empty proof.

    Each size must come from where its root comes from, a signed checkpoint.

    Raises:
        InvalidProof: the second tree is not shown to begin with all leaves of the first.
    """
    if not 0 <= first <= second:
        raise InvalidProof(f"a tree of {second} leaves does not extend one of {first}")
    _check_hashes(proof)
    if first == 0 and first_root != EMPTY_ROOT:
        raise InvalidProof(f"the root at 0 leaves is {EMPTY_ROOT.hex()}, not {first_root.hex()}")
    if first == second and first_root != second_root:
        raise InvalidProof(f"there are two roots at {first} leaves, {first_root.hex()} and {second_root.hex()}")
    if first in (0, second):
        if proof:
            raise InvalidProof(f"between {first} and {second} leaves there is nothing to prove, yet there are hashes")
        return
    path = [first_root, *proof] if first.bit_count() == 1 else list(proof)  # a complete tree is its own first node
    if not path:
        raise InvalidProof(f"there are no hashes between {first} and {second} leaves")
    place, last = first - 1, second - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise InvalidProof(f"{len(proof)} hashes are more than there are between {first} and {second} leaves")
        if place & 1 or place == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        place, last = place >> 1, last >> 1
    if last:
        raise InvalidProof(f"{len(proof)} hashes are fewer than there are between {first} and {second} leaves")
    if old != first_root:
        raise InvalidProof(f"the root at {first} leaves is {old.hex()}, not {first_root.hex()}")
    if new != second_root:
        raise InvalidProof(f"the root at {second} leaves is {new.hex()}, not {second_root.hex()}")


def _check_hashes(proof: Sequence[bytes]) -> None:
    if any(len(value) != HASH_SIZE for value in proof):
        raise InvalidProof("a hash of the proof is not 32 bytes long")


def _fold(hashes: Sequence[bytes]) -> bytes:
    """The root over neighbouring complete subtrees, the largest first."""
    value = hashes[-1]
    for left in reversed(hashes[:-1]):
        value = node_hash(left, value)
    return value


def _subtree(part: Range, store: NodeStore) -> bytes:
    return _fold([store[node] for node in _complete(part)])


def _complete(part: Range) -> list[NodeId]:
    """The maximal complete subtrees of a subtree of the tree, the largest first: one, but on the right border."""
    start, end = part
    nodes = []
    while start < end:
        level = (end - start).bit_length() - 1
        nodes.append(NodeId(level, start >> level))
        start += 1 << level
    return nodes


def _split(start: int, end: int) -> int:
    """Where RFC 9162 divides a subtree: after the largest power of two smaller than its size."""
    return start + (1 << (end - start - 1).bit_length() - 1)


def _inclusion_ranges(index: int, size: int) -> list[Range]:
    """PATH of RFC 9162 section 2.1.3.1: the siblings on the way from the leaf to the root."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    start, end, parts = 0, size, list[Range]()
    while end - start > 1:
        middle = _split(start, end)
        if index < middle:
            parts.append((middle, end))
            end = middle
        else:
            parts.append((start, middle))
            start = middle
    return parts[::-1]


def _consistency_ranges(first: int, second: int) -> list[Range]:
    """SUBPROOF of RFC 9162 section 2.1.4.1."""
    if not 0 <= first <= second:
        raise ValueError(f"a tree of {second} leaves does not extend one of {first}")
    start, end, parts = 0, second, list[Range]()
    while first and end != first:
        middle = _split(start, end)
        if first <= middle:
            parts.append((middle, end))
            end = middle
        else:
            parts.append((start, middle))
            start = middle
    if start:  # else the last subtree is the whole first tree, whose root the verifier has
        parts.append((start, first))
    return parts[::-1]


def subtrees(sequence: int, nodes: dict[NodeId, bytes]) -> bytes:
    """The hashes of the complete subtrees above the leaves that end with leaf `sequence`, smallest first."""
    levels = range(1, (sequence ^ (sequence + 1)).bit_length())  # one for each 1 at the end of its binary digits
    return b"".join(nodes[NodeId(level, sequence >> level)] for level in levels)
