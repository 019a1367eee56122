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
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection

from gatehouse.capsule.keyring import Keyring
from gatehouse.capsule.seal import BrokenChain, Head, SealedCapsule, head_behind, verify_next
from gatehouse.capsule.stored import StoredCapsule
from gatehouse.core.errors import SetupError

# Enough to pay for sending them to another process; and what that may need in memory, in mode `full` too.
_RECORDS = 100
_BYTES = 2_000_000
# Segments given to each worker: one to work on, one to go on with.
_AHEAD = 2
# One process reads and hands out; it cannot feed more than this.
_MOST_WORKERS = 4


@dataclass(frozen=True, slots=True)
class Verified:
    """Records that verified, in order; `broken` says why there are no more."""

    records: list[StoredCapsule]
    broken: BrokenChain | None


# How many records of a segment verify, and what is wrong with the next.
_Result = tuple[int, BrokenChain | None]


def verified(
    records: Iterable[StoredCapsule], keyring: Keyring, chain: str | None, start: Head, *, workers: int | None = None
) -> Iterator[Verified]:
    """Verify a chain's records in the order they come, holding a few segments; ends at the first that is broken.

    Args:
        chain: its name, which every record's `domain` must say; None takes any, for chains of other programs.
        start: what the first record follows.
        workers: processes to share the work; as many as there are cores when not given. Below 2, all is done here.

    Raises:
        SetupError: somebody ended one of the processes.
    """
    if workers is None:
        workers = min(_MOST_WORKERS, len(os.sched_getaffinity(0)))
    head = start
    with ExitStack() as stack:
        pool: _VerifierPool | None = None
        pending: deque[tuple[list[StoredCapsule], _Result | None]] = deque()
        for segment, following in _segments(records):
            sealed = [record.sealed for record in segment]
            if pool is None and following is not None and workers > 1:
                # A chain of one segment is done before a process has started.
                pool = _VerifierPool(workers, keyring, chain)
                stack.callback(pool.close)
            after = None if following is None else following.sealed
            if pool is None:
                pending.append((segment, _verify(sealed, after, keyring, chain, head)))
            else:
                pool.give(sealed, after, head)
                pending.append((segment, None))
            head = head_behind(sealed[-1], keyring)  # not used where that record is broken
            while pending and (pool is None or following is None or len(pending) >= _AHEAD * workers):
                done, result = pending.popleft()
                if result is None and pool is not None:
                    result = pool.take()
                assert result is not None
                good, broken = result
                yield Verified(done[:good], broken)
                if broken is not None:
                    return


class _VerifierPool:
    """Processes that verify segments in turn. Each ends when the pipe to it does, however this process ended."""

    def __init__(self, workers: int, keyring: Keyring, chain: str | None) -> None:
        # Not forked from here: a copy of the database's connection has no place in another process.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._pipes: deque[Connection] = deque()
        self._processes = []
        for _ in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, keyring, chain), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._given: deque[Connection] = deque()

    def give(self, rows: list[SealedCapsule], following: SealedCapsule | None, head: Head) -> None:
        """Have the next one verify a segment."""
        pipe = self._pipes[0]
        self._pipes.rotate(-1)
        try:
            pipe.send((rows, following, head))
        except OSError:
            raise _ended() from None
        self._given.append(pipe)

    def take(self) -> _Result:
        """The result of the segment that was given first."""
        try:
            result: _Result = self._given.popleft().recv()
        except (EOFError, OSError):
            raise _ended() from None
        return result

    def close(self) -> None:
        """End them, whatever they are at."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.terminate()
            process.join()


def _ended() -> SetupError:
    return SetupError("verification: one of its processes was ended, for want of memory perhaps. Run it again.")


def _work(pipe: Connection, keyring: Keyring, chain: str | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that hands out the work
    try:
        while True:
            rows, following, head = pipe.recv()
            pipe.send(_verify(rows, following, keyring, chain, head))
    except (EOFError, OSError):
        return


def _verify(
    rows: list[SealedCapsule], following: SealedCapsule | None, keyring: Keyring, chain: str | None, head: Head
) -> _Result:
    for number, row in enumerate(rows):
        after = rows[number + 1] if number + 1 < len(rows) else following
        try:
            head = verify_next(row, keyring, head, chain=chain, following=after)
        except BrokenChain as error:
            return number, error
    return len(rows), None


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
