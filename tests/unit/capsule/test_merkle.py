"""The tree is the one of RFC 6962 and RFC 9162, its proofs prove just what they say, and all of it costs O(log n)."""

from __future__ import annotations

from base64 import b64decode
from hashlib import sha3_256, sha256
from math import ceil, log2

import pytest
from gatehouse.capsule.merkle import (
    EMPTY_ROOT,
    Frontier,
    InvalidProof,
    NodeId,
    consistency_nodes,
    consistency_proof,
    frontier_nodes,
    inclusion_nodes,
    inclusion_proof,
    leaf_hash,
    node_hash,
    subtrees,
    verify_consistency,
    verify_inclusion,
)
from hypothesis import given
from hypothesis import strategies as st

# github.com/transparency-dev/merkle, rfc6962/rfc6962_test.go and proof/verify_test.go; the same leaves and roots stand
# in the test of Google's certificate-transparency (cpp/merkletree/merkle_tree_test.cc).
LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {  # (index, size): proof
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENCY = {  # (first, second): proof
    (1, 1): [],
    (1, 8): INCLUSION[0, 8],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
    (6, 7): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}
# Answers of a log in service, Google's Argon 2020: golang.org/x/mod, sumdb/tlog/testdata/argon2020.
ARGON_FIRST = (3_654_490, "AuIZ5V6sDUj1vn3Y1K85oOaQ7y+FJJKtyRTl1edIKBQ=")
ARGON_SECOND = (961_984_013, "dwlueapdd7LaOEnX2W2Wp9v2XE+KzejHRQGHwEx0oaM=")
ARGON_CONSISTENCY = """
80Sfbj6UQEdVSZCSIgh9NMPj3vCBzcc1A48B2crJSWg= FZcrgAHUk6nNPviJZq8kEK6jCG1d18pJOFE45ZDc1TQ=
Q67reWXmPBo1UfmwBap4Xi9PMPfFdUSSw3WGlRZdG7k= eJ7CyhR4PxzBxDIsWgrVYW1eFUb9ndgf46tFmiqVrxA=
QrDwp062Grm5WY8KdrhFsBuuNjGzRox2Jb8PmVL5OYw= XM4YMjMEdLH/XJam/ZWyaP14k3cmsOtnPsOWQ54lW1s=
SGiBh+jOTGccXU48ZzgQ88lRcBmtB4wz4oSDndv2QTg= WAS6txqNLYKGL1GdBdpqmV42TTfn6cJsuDsqLXuTCNI=
QFmRS0rirUA7ZN3lxFjDncV+E1OCrn3NUB4RCp+5fzc= Hdbp7It2XBNZmNDBpCN/KPd7vfVqxgzwOosqVIaEA9E=
mxvHL0ZiblBdD7j7pIa1jlfB0gSqfJ6oX0UGo7L0VsU= q5hjyvoW6TL/PThgcitpDcSTrnKX2p1+aqscqH2euRA=
jTOWDqt3IHj2NVFeezyBz2ofpru+ztEywqKUAfFclKI= GIRn0w3HqJdvU9j1WVD//eR6lk2AaTVjyzjsJNP8U88=
x52GJvxG81fnQBrgOTbll1A5tz95/LXK0Ag1NhB0r1I= 6/0OqrcTgc3o5dD5PymmoC96lB9yLPFuTHVvLy8fSGk=
Gf+iKLfcXO5l4JEFmsZvSdG5q1uEeWPfYLrds6pmjz0= DGuaco+McyM3AfRSF6qX7RwSetwe2ieYJmxw5e9rVx0=
2tQJ9V32hnYp+fdpP6TcjmgJmLeNVOMKM0Ml1kk4cNU= 3PapK+IkyJr8I9yAErAmzuZezzLMzsg+PfeRCgNW8NQ=
s6xiYeejb+wtqHA+URJZ2I/SCPyIW8coP6aB00FJbMY= z9lSpmdTcr5M5ZzKlc4EPh3SrSypKFdk6JUF/UccaZU=
GXIElfmnRuWfbA4z7ubV/UwlpSRUbUeec7oL5HDDnh0= pR0SH/NYP6s9+8azWwaeUXA4Ze/3WCIgMfh5YW6wvcE=
f3GuAKYVrF8RBg3s15jvA/YvV9oAliWtzP/imwPhQVA= WHn8zDxlVgkV+lSlmzaOdfSBrTHoRr5nT3d76q0KKWE=
f2uV2ZxVgULzLPKuZcowRY3ZY7fRlX59iDBjV1R8kNQ= NzQVjJsvQwbi7WStMr9oFkh9VbHfK7LB6o7WwAqwNTs=
C0LttBeYHZHgL+032JIcJC3CTBIyza/hsbmJUgJfmDI= nixU5CWTFVDlF4BGdcU6kA7WSYurEpe9jRWc+F/7sOc=
"""

LARGEST = 300


class CountedStore(dict[NodeId, bytes]):
    """Counts how often a node is read."""

    reads = 0

    def __getitem__(self, node: NodeId) -> bytes:
        self.reads += 1
        return super().__getitem__(node)


def capsule_hashes(count: int) -> list[bytes]:
    return [sha3_256(b"%d" % number).digest() for number in range(count)]


def naive_root(leaves: list[bytes]) -> bytes:
    """Return the root, computed literally as RFC 6962 section 2.1 defines MTH."""
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def path_shape(index: int, size: int) -> list[str]:
    """Return each sibling's side from the root down: a tree's size changes nothing else of an inclusion proof."""
    if size <= 1:
        return []
    k = 1
    while k * 2 < size:
        k *= 2
    return ["right", *path_shape(index, k)] if index < k else ["left", *path_shape(index - k, size - k)]


CAPSULES = capsule_hashes(LARGEST)
STORE = CountedStore(Frontier().append(CAPSULES)[1])
EVERY_ROOT = [naive_root(CAPSULES[:size]) for size in range(LARGEST + 1)]

sizes = st.integers(1, LARGEST)
places = sizes.flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size)))
steps = st.integers(2, LARGEST).flatmap(lambda second: st.tuples(st.integers(1, second - 1), st.just(second)))


def refused(call: object, *args: object) -> bool:
    try:
        call(*args)  # type: ignore[operator]
    except InvalidProof:
        return True
    return False


def test_hashes_are_those_of_rfc_6962() -> None:
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert leaf_hash(b"L123456").hex() == "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
    assert node_hash(b"N123", b"N456").hex() == "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb"


def test_roots_and_proofs_are_those_of_the_certificate_transparency_vectors() -> None:
    store = Frontier().append(LEAVES)[1]
    for size, root in enumerate(ROOTS, 1):
        assert Frontier().append(LEAVES[:size])[0].root().hex() == root
    for (index, size), proof in INCLUSION.items():
        assert [value.hex() for value in inclusion_proof(index, size, store)] == proof
    for (first, second), proof in CONSISTENCY.items():
        assert [value.hex() for value in consistency_proof(first, second, store)] == proof


def test_the_proof_of_a_log_in_service_verifies() -> None:
    (first, first_root), (second, second_root) = ARGON_FIRST, ARGON_SECOND
    proof = [b64decode(text) for text in ARGON_CONSISTENCY.split()]
    assert len(consistency_nodes(first, second)) <= 2 * ceil(log2(second))
    verify_consistency(first, second, proof, b64decode(first_root), b64decode(second_root))
    with pytest.raises(InvalidProof):
        verify_consistency(first - 1, second, proof, b64decode(first_root), b64decode(second_root))


def test_growing_leaf_by_leaf_gives_the_root_of_the_definition() -> None:
    frontier = Frontier()
    assert frontier.root() == EVERY_ROOT[0]
    for size, leaf in enumerate(CAPSULES, 1):
        frontier, _ = frontier.append([leaf])
        assert frontier.root() == EVERY_ROOT[size]
        assert len(frontier.hashes) <= log2(size) + 1


@given(st.lists(st.integers(0, 20), max_size=8))
def test_batches_create_every_complete_node_once(batches: list[int]) -> None:
    leaves = capsule_hashes(sum(batches))
    frontier, store, size = Frontier(), dict[NodeId, bytes](), 0
    for batch in batches:
        before = frontier
        frontier, created = frontier.append(leaves[size : size + batch])
        assert (before.size, frontier.size) == (size, size + batch)
        assert not store.keys() & created.keys()
        store |= created
        size += batch
    assert store.keys() == {NodeId(level, at) for level in range(10) for at in range(size >> level)}
    for node, value in store.items():
        start = node.position << node.level
        assert value == naive_root(leaves[start : start + (1 << node.level)])


def test_beside_each_leaf_stand_the_subtrees_that_it_finishes_the_smallest_first() -> None:
    for sequence in range(LARGEST):
        finished = [size for size in (2, 4, 8, 16, 32, 64, 128, 256) if (sequence + 1) % size == 0]
        roots = [naive_root(CAPSULES[sequence + 1 - size : sequence + 1]) for size in finished]
        assert subtrees(sequence, STORE) == b"".join(roots)


@given(places, st.booleans())
def test_a_writer_resumes_where_another_stopped(place: tuple[int, int], from_store: bool) -> None:
    stop, size = place
    stopped, _ = Frontier().append(CAPSULES[:stop])
    resumed = Frontier.load(stop, STORE) if from_store else Frontier.from_bytes(stopped.to_bytes())
    assert resumed == stopped
    assert len(stopped.to_bytes()) == 8 + 32 * len(frontier_nodes(stop))
    assert resumed.append(CAPSULES[stop:size])[0].root() == EVERY_ROOT[size]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 7,
        b"\x00" * 9,
        (1).to_bytes(8, "big"),
        (0).to_bytes(8, "big") + bytes(32),
        (1).to_bytes(8, "big") + bytes(31),
        (1).to_bytes(8, "big") + bytes(33),
        (3).to_bytes(8, "big") + bytes(32),
    ],
)
def test_bytes_that_are_no_frontier_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="frontier"):
        Frontier.from_bytes(data)


def test_every_inclusion_proof_verifies_and_is_short() -> None:
    for size in (*range(1, 70), 127, 128, 129, 255, 256, 257, LARGEST):
        for index in range(size):
            proof = inclusion_proof(index, size, STORE)
            assert len(proof) <= ceil(log2(size))
            verify_inclusion(CAPSULES[index], index, size, proof, EVERY_ROOT[size])


def test_every_consistency_proof_verifies_and_is_short() -> None:
    for second in (*range(1, 70), 127, 128, 129, 255, 256, 257, LARGEST):
        for first in range(second + 1):
            proof = consistency_proof(first, second, STORE)
            assert len(proof) <= ceil(log2(second)) + 1
            verify_consistency(first, second, proof, EVERY_ROOT[first], EVERY_ROOT[second])


@given(places, st.data())
def test_a_changed_inclusion_proof_fails(place: tuple[int, int], data: st.DataObject) -> None:
    index, size = place
    leaf, root, proof = CAPSULES[index], EVERY_ROOT[size], inclusion_proof(index, size, STORE)

    def fails(leaf: bytes, index: int, size: int, proof: list[bytes], root: bytes) -> bool:
        return refused(verify_inclusion, leaf, index, size, proof, root)

    assert fails(changed(leaf, data), index, size, proof, root)
    assert fails(leaf, index, size, proof, changed(root, data))
    assert fails(leaf, index, size, [*proof, root], root)
    assert fails(leaf, index, size, [root, *proof], root)
    assert fails(leaf, data.draw(st.integers(-2, LARGEST).filter(lambda other: other != index)), size, proof, root)
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        assert fails(leaf, index, size, [*proof[:at], changed(proof[at], data), *proof[at + 1 :]], root)
        assert fails(leaf, index, size, [*proof[:at], proof[at][:-1], *proof[at + 1 :]], root)
        assert fails(leaf, index, size, [*proof[:at], *proof[at + 1 :]], root)
        # The parent of two leaves is no leaf, though the path above it is right.
        assert fails(leaf_hash(leaf) + proof[0], index >> 1, (size + 1) >> 1, proof[1:], root)
    # The hashes alone cannot tell sizes apart that leave the path as it is; the signed checkpoint does.
    other = data.draw(st.integers(-2, 2 * LARGEST))
    same_path = index < other and path_shape(index, other) == path_shape(index, size)
    assert fails(leaf, index, other, proof, root) != same_path


@given(steps, st.data())
def test_a_changed_consistency_proof_fails(step: tuple[int, int], data: st.DataObject) -> None:
    first, second = step
    old, new, proof = EVERY_ROOT[first], EVERY_ROOT[second], consistency_proof(first, second, STORE)

    def fails(first: int, second: int, proof: list[bytes], old: bytes, new: bytes) -> bool:
        return refused(verify_consistency, first, second, proof, old, new)

    assert fails(first, second, proof, changed(old, data), new)
    assert fails(first, second, proof, old, changed(new, data))
    assert fails(first, second, proof, new, old)
    assert fails(second, first, proof, new, old)
    assert fails(first, second, [], old, new)
    assert fails(first, second, [*proof, new], old, new)
    assert fails(first, second, [old, *proof], old, new)
    assert fails(data.draw(st.integers(-2, second).filter(lambda other: other != first)), second, proof, old, new)
    assert fails(first, data.draw(st.integers(-2, first)), proof, old, new)
    assert fails(first, 2 * second, proof, old, new)
    at = data.draw(st.integers(0, len(proof) - 1))
    assert fails(first, second, [*proof[:at], changed(proof[at], data), *proof[at + 1 :]], old, new)
    assert fails(first, second, [*proof[:at], proof[at][:-1], *proof[at + 1 :]], old, new)
    assert fails(first, second, [*proof[:at], *proof[at + 1 :]], old, new)


def test_the_rightmost_path_does_not_pass_for_that_of_a_smaller_tree() -> None:
    proof = inclusion_proof(7, 8, STORE)  # only left siblings, as the top of every path
    for index, size in ((0, 1), (1, 2), (3, 4), (2, 3), (15, 16)):
        assert refused(verify_inclusion, CAPSULES[7], index, size, proof, EVERY_ROOT[8])


def test_a_byte_moved_between_two_hashes_is_named() -> None:
    first, second, *rest = consistency_proof(6, 8, STORE)
    assert node_hash(first, second) == node_hash(first + second[:1], second[1:])
    with pytest.raises(InvalidProof, match="not 32 bytes long"):
        verify_consistency(6, 8, [first + second[:1], second[1:], *rest], EVERY_ROOT[6], EVERY_ROOT[8])
    with pytest.raises(InvalidProof, match="not 32 bytes long"):
        verify_inclusion(CAPSULES[6], 6, 8, [first + second[:1], second[1:], *rest], EVERY_ROOT[8])


@given(steps, st.data())
def test_a_rewritten_past_has_no_consistency_proof(step: tuple[int, int], data: st.DataObject) -> None:
    first, second = step
    forged = list(CAPSULES[:second])
    at = data.draw(st.integers(0, first - 1))
    forged[at] = changed(forged[at], data)
    frontier, store = Frontier().append(forged)
    proof = consistency_proof(first, second, store)
    assert refused(verify_consistency, first, second, proof, EVERY_ROOT[first], frontier.root())


def test_trees_of_one_size_or_of_none_need_no_proof() -> None:
    root, other = EVERY_ROOT[5], EVERY_ROOT[6]
    verify_consistency(0, 0, [], EMPTY_ROOT, EMPTY_ROOT)
    verify_consistency(0, 5, [], EMPTY_ROOT, root)
    verify_consistency(5, 5, [], root, root)
    assert refused(verify_consistency, 0, 0, [], root, root)
    assert refused(verify_consistency, 0, 0, [], EMPTY_ROOT, root)
    assert refused(verify_consistency, 0, 5, [], other, root)
    assert refused(verify_consistency, 0, 5, [root], EMPTY_ROOT, root)
    assert refused(verify_consistency, 5, 5, [], root, other)
    assert refused(verify_consistency, 5, 5, [root], root, root)
    assert refused(verify_inclusion, b"", 0, 0, [], EMPTY_ROOT)
    assert refused(verify_inclusion, CAPSULES[0], 1, 1, [], EVERY_ROOT[1])


@given(places)
def test_a_proof_reads_only_the_nodes_it_names_and_few_of_them(place: tuple[int, int]) -> None:
    index, size = place
    for nodes, prove in (
        (inclusion_nodes(index, size), lambda store: inclusion_proof(index, size, store)),
        (consistency_nodes(index, size), lambda store: consistency_proof(index, size, store)),
        (frontier_nodes(size), lambda store: Frontier.load(size, store)),
    ):
        fetched = CountedStore({node: STORE[node] for node in nodes})
        prove(fetched)
        assert fetched.reads == len(nodes) == len(set(nodes)) <= 2 * ceil(log2(size)) + 1


def test_work_grows_with_the_logarithm_of_the_tree() -> None:
    size = 2**40 - 1  # a trillion capsules, the raggedest border
    for index in (0, 1, size // 3, size // 2, size - 2, size - 1):
        assert len(inclusion_nodes(index, size)) <= 80
        assert len(consistency_nodes(index, size)) <= 81
    assert len(frontier_nodes(size)) == 40


def test_a_missing_node_is_named() -> None:
    store = dict(STORE)
    del store[NodeId(2, 1)]
    with pytest.raises(KeyError, match=r"NodeId\(level=2, position=1\)"):
        inclusion_proof(0, 8, store)


@pytest.mark.parametrize(("index", "size"), [(-1, 5), (5, 5), (0, 0)])
def test_a_leaf_outside_the_tree_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="has no leaf"):
        inclusion_proof(index, size, STORE)
    with pytest.raises(ValueError, match="does not extend"):
        consistency_proof(size + 1, size, STORE)


def changed(value: bytes, data: st.DataObject) -> bytes:
    at, mask = data.draw(st.integers(0, len(value) - 1)), data.draw(st.integers(1, 255))
    return value[:at] + bytes([value[at] ^ mask]) + value[at + 1 :]
