"""Verifies what `CapsuleLogger` wrote as the ledger is verified: every record, in order, in constant memory.

Nothing in a file says that its end was cut off together with its count of records: that is what checkpoints are for,
signed over a chain that was verified first, and kept where whoever owns the file cannot write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gatehouse.capsule.checkpoint import Checkpoint, origin_of, sign_checkpoint
from gatehouse.capsule.keyring import Keyring
from gatehouse.capsule.keys import Keys
from gatehouse.capsule.stored import StoredCapsule
from gatehouse.capsule.verification import Broken, ChainReport, Note, Problem, Walk, chain_of, verify
from gatehouse.core.errors import SetupError
from gatehouse.loggers.capsules.store import ChainEnd, ReadableStore


def verify_store(
    store: ReadableStore,
    keyring: Keyring,
    *,
    chain: str | None = None,
    given: Sequence[Note] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[ChainReport]:
    """Verify every chain of a store, or one: its records, its end as its writers noted it, and checkpoints of it.

    Raises:
        SetupError: it cannot be read, or there is no such chain.
    """
    kept: dict[str, list[Note]] = {}
    for note in given:
        kept.setdefault(chain_of(note), []).append(note)
    ends = {end.chain: end for end in store.ends()}
    names = sorted({*ends, *kept}) if chain is None else [chain]
    for name in names:
        if name not in ends and name not in kept:
            there = ", ".join(sorted(ends)) or "none yet"
            raise SetupError(f"chain {name!r}: there is no such chain. There are: {there}.")
        notes = sorted(kept.get(name, []), key=lambda note: note.size)
        yield _verify(store, keyring, ends.get(name, ChainEnd(name)), notes, progress)[0]


def sign_verified(store: ReadableStore, keys: Keys, chain: str) -> bytes:
    """A signed checkpoint over all of a chain, which verifies.

    Raises:
        SetupError: it cannot be read, there is nothing in it, or it does not verify.
    """
    end = next((end for end in store.ends() if end.chain == chain), None)
    if end is None:
        raise SetupError(f"chain {chain!r}: there is no capsule in it to sign for. Make a call first.")
    report, root = _verify(store, keys.keyring, end, (), lambda _: None)
    if report.finding is not None or root is None:
        raise SetupError(f"chain {chain!r}: it is broken, and is not signed for: {report.finding}.")
    checkpoint = Checkpoint(origin_of(chain), report.records, root)
    return sign_checkpoint(checkpoint, keys.keyring.active.public_key, keys.signer.sign)


def _verify(
    store: ReadableStore, keyring: Keyring, end: ChainEnd, notes: Sequence[Note], progress: Callable[[int], None]
) -> tuple[ChainReport, bytes | None]:
    """The report, and the root of the Merkle tree over the chain where it verifies."""
    root: bytes | None = None

    def ends(walk: Walk) -> None:
        nonlocal root
        _compare(end, walk)
        root = walk.frontier.root()

    records = (StoredCapsule(end.chain, capsule, b"") for capsule in store.capsules(end.chain))
    chain = end.chain
    report = verify(records, keyring, chain=chain, notes=[notes], end=ends, stored_tree=False, progress=progress)
    return report, root


def _compare(end: ChainEnd, walk: Walk) -> None:
    """The end of the walk against what the writers noted."""
    if end.size > walk.records:
        detail = f"the chain's noted end speaks of {end.size} records, {walk.records} are there"
        raise Broken(Problem.TAIL_CUT_OFF, detail, walk.records)
    if (end.size, end.hash) != (walk.records, walk.head.hash):
        raise Broken(Problem.WRONG_HEAD, "the chain's noted end is not what the records lead to")
