"""Verifies what `CapsuleLogger` wrote as the ledger is verified: every record, in order, in constant memory.

Nothing in a file says that its end was cut off together with its count of records: that is what checkpoints are for,
signed over a chain that was verified first, and kept where whoever owns the file cannot write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gatehouse.capsule.checkpoint import Checkpoint, origin_of, sign_checkpoint
from gatehouse.capsule.keyring import Keyring
from gatehouse.capsule.keys import Keys
from gatehouse.capsule.stored import ChainEnd
from gatehouse.capsule.verification import ChainReport, Note, chains_to_verify, notes_by_chain, verify
from gatehouse.core.errors import SetupError
from gatehouse.loggers.capsules.store import ChainStore


def verify_store(
    store: ChainStore,
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
    kept = notes_by_chain(given)
    ends = {end.chain: end for end in store.ends()}
    for name in chains_to_verify({*ends, *kept}, chain):
        yield verify(
            store.capsules(name),
            keyring,
            chain=name,
            notes=[kept.get(name, [])],
            end=ends.get(name, ChainEnd(name)),
            stored_tree=False,
            progress=progress,
        )


def sign_verified(store: ChainStore, keys: Keys, chain: str) -> bytes:
    """Sign a checkpoint over all of a chain, which verifies.

    Raises:
        SetupError: it cannot be read, there is nothing in it, or it does not verify.
    """
    if chain not in {end.chain for end in store.ends()}:
        raise SetupError(f"chain {chain!r}: there is no capsule in it to sign for. Make a call first.")
    (report,) = verify_store(store, keys.keyring, chain=chain)
    if report.finding is not None or report.root is None:
        raise SetupError(f"chain {chain!r}: it is broken, and is not signed for: {report.finding}.")
    checkpoint = Checkpoint(origin_of(chain), report.records, report.root)
    return sign_checkpoint(checkpoint, keys.keyring.active.public_key, keys.signer.sign)
