"""Verifies the records of a chain on every core, a segment at a time, with the findings in the chain's order.

A segment is verified as what follows the last record of the one before, as that record presents itself. When both
verify, they verify together: the first segment's last hash was checked against its bytes, and the second links to it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass

from gatehouse.audit.keyring import Keyring
from gatehouse.audit.seal import BrokenChain, Fault, Head, SealedCapsule, verify_next
from gatehouse.db.capsules import StoredCapsule
from gatehouse.errors import SetupError

# Enough to pay for sending them to another process; and what that may need in memory, in mode `full` too.
_RECORDS = 500
_BYTES = 4_000_000
# One process reads and hands out; it cannot feed more than this.
_MOST_WORKERS = 4


@dataclass(frozen=True, slots=True)
class Broken:
    """What `BrokenChain` says, as a value."""

    fault: Fault
    sequence: int
    capsule_id: str | None
    detail: str


@dataclass(frozen=True, slots=True)
class Verified:
    """Records that verified, in order, and where they lead; `broken` says why there are no more."""

    records: list[StoredCapsule]
    head: Head
    broken: Broken | None


def verified(
    records: Iterable[StoredCapsule], keyring: Keyring, chain: str | None, start: Head, *, workers: int | None = None
) -> Iterator[Verified]:
    """Verify a chain's records in the order they come, holding a few segments; ends at the first that is broken.

    Args:
        chain: as `seal.verify_chain` takes it.
        start: what the first record follows.
        workers: processes beside this one; 0 does all the work here. As many as there are cores when not given.

    Raises:
        SetupError: somebody ended one of the processes.
    """
    if workers is None:
        workers = min(_MOST_WORKERS, len(os.sched_getaffinity(0)))
    head = start
    with ExitStack() as stack:
        pool: ProcessPoolExecutor | None = None
        pending: deque[tuple[list[StoredCapsule], Future[tuple[int, Head, Broken | None]]]] = deque()
        for segment, following in _segments(records):
            sealed = [record.sealed for record in segment]
            if pool is None and following is not None and workers > 1:
                # A chain of one segment is done before a process has started.
                pool = _pool(workers)
                stack.callback(pool.shutdown, wait=True, cancel_futures=True)
            arguments = (sealed, None if following is None else following.sealed, keyring, chain, head)
            future: Future[tuple[int, Head, Broken | None]]
            if pool is None:
                future = Future()
                future.set_result(_verify(*arguments))
            else:
                future = pool.submit(_verify, *arguments)
            pending.append((segment, future))
            head = _claimed(sealed[-1], keyring)
            while pending and (len(pending) > workers or following is None):
                done, result = pending.popleft()
                try:
                    good, reached, broken = result.result()
                except BrokenProcessPool:
                    raise SetupError(
                        "verification: one of its processes was ended, for want of memory perhaps. Run it again."
                    ) from None
                yield Verified(done[:good], reached, broken)
                if broken is not None:
                    return


def _pool(workers: int) -> ProcessPoolExecutor:
    # Not forked from here: a copy of the database's connection has no place in another process.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_ignore_interrupt)


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that hands out the work


def _verify(
    rows: list[SealedCapsule], following: SealedCapsule | None, keyring: Keyring, chain: str | None, head: Head
) -> tuple[int, Head, Broken | None]:
    """How many of the rows verify, the head they lead to, and what is wrong with the next."""
    for number, row in enumerate(rows):
        after = rows[number + 1] if number + 1 < len(rows) else following
        try:
            head = verify_next(row, keyring, head, chain=chain, following=after)
        except BrokenChain as error:
            return number, head, Broken(error.fault, error.sequence, error.capsule_id, error.detail)
    return len(rows), head, None


def _claimed(row: SealedCapsule, keyring: Keyring) -> Head:
    """The head behind a record that verifies; behind one that does not, nobody looks."""
    epoch = keyring.find(row.signed_by)
    return Head(row.sequence, row.hash, epoch.number if epoch else -1)


def _segments(records: Iterable[StoredCapsule]) -> Iterator[tuple[list[StoredCapsule], StoredCapsule | None]]:
    """The records in pieces, each with the record that comes after it."""
    segment: list[StoredCapsule] = []
    size = 0
    for record in records:
        if len(segment) >= _RECORDS or size >= _BYTES:
            yield segment, record
            segment, size = [], 0
        segment.append(record)
        size += len(record.sealed.canonical)
    if segment:
        yield segment, None
