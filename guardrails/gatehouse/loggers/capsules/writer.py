"""The one thread of a process that writes capsules: what is waiting is committed together.

Promises: what was taken is in the store once `flush` returns, or `lost` has counted it and the log said so; a store
that cannot write now is asked again for half a minute; a process that ends, and a forked child, write what is theirs.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from multiprocessing.util import Finalize
from queue import Empty, SimpleQueue
from typing import Any, Final

from gatehouse.capsule.canonical import NotCanonical
from gatehouse.core.clock import now
from gatehouse.core.errors import SetupError
from gatehouse.loggers.capsules.store import CapsuleStore, Unavailable

log = logging.getLogger("gatehouse.capsules")

# The most that is committed at once.
_BATCH: Final = 500
# How long a batch is kept while the store cannot write, and how long a process that ends waits for it.
_PATIENCE_S: Final = 30.0
_AT_EXIT_S: Final = 10.0
# The most that waits; beyond it memory would be the next thing to fail.
_WAITING: Final = 100_000

Document = Mapping[str, Any]


class CapsuleLost(Exception):
    """A call has no capsule. The message says why, without content."""


@dataclass(frozen=True, slots=True)
class _Record:
    document: Document
    written: Future[None] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class _Later:
    """What becomes a record, or nothing, in the writer's thread."""

    make: Callable[[], Document | None]


@dataclass(frozen=True, slots=True)
class _Flush:
    done: threading.Event = field(default_factory=threading.Event)


class _Stop:
    """The thread's last item."""


_Item = _Record | _Later | _Flush | _Stop


class Writer:
    """Takes records from any thread, and from destructors; its thread starts with the first.

    Args:
        before_exit: called when the process ends, before what is waiting is written.
        before_fork: called before this process is forked.
        in_child: called in a forked child.

    Attributes:
        written: records in the store.
        lost: records that are not.
    """

    def __init__(
        self,
        store: CapsuleStore,
        *,
        before_exit: Callable[[], None],
        before_fork: Callable[[], object],
        in_child: Callable[[], None],
    ) -> None:
        self.written = 0
        self.lost = 0
        self._store = store
        self._before_exit = before_exit
        self._before_fork = before_fork
        self._in_child = in_child
        self._patience_s = _PATIENCE_S
        self._exiting = False
        self._reset()
        _writers.add(self)

    def _reset(self) -> None:
        # SimpleQueue's put is reentrant: garbage may be collected, and a destructor run, in the middle of another put.
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._writing = threading.RLock()
        self._held = False

    def start(self) -> None:
        """Have the thread run, unless it does, or can no more."""
        if self._thread is not None or self._exiting:
            return
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, args=(self._queue,), name="capsules", daemon=True)
                thread.start()
                self._thread = thread
                if multiprocessing.parent_process() is not None:
                    # Such a process ends without atexit.
                    Finalize(self, _end, args=(weakref.ref(self),), exitpriority=100)

    def take(self, document: Document) -> Future[None]:
        """Write a record soon; the future says when it is there, or raises `CapsuleLost`."""
        record = _Record(document)
        if self._queue.qsize() >= _WAITING:
            self._lose([record], "too many are waiting for a store that cannot write")
            return record.written
        try:
            self.start()
        except RuntimeError:  # the interpreter is ending: no more threads
            self._exiting = True
        self._queue.put(record)
        if self._exiting:
            self._write_all()
        elif self._thread is None:  # it was stopped in between
            self.start()
        return record.written

    def later(self, make: Callable[[], Document | None]) -> None:
        """Have the writer's thread make a record. Safe in a destructor: takes no lock."""
        self._queue.put(_Later(make))

    def flush(self, timeout: float) -> bool:
        """Wait until all that was taken before is written or lost; False when it took too long."""
        if self._thread is None:
            return self._queue.empty()
        marker = _Flush()
        self._queue.put(marker)
        return marker.done.wait(timeout)

    def stop(self) -> None:
        """Write what waits, and let the thread and the store go; the next record brings both back."""
        with self._starting:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(_Stop())
            thread.join()
        with self._writing:
            self._store.close()

    def end(self) -> None:
        """The process ends: what waits is written now, and what comes later by whoever brings it."""
        if self._exiting:
            return
        self._before_exit()
        self._patience_s = _AT_EXIT_S
        self.flush(_AT_EXIT_S + 1)
        self._exiting = True
        self._write_all()
        if self._writing.acquire(timeout=1):
            self._store.close()
            self._writing.release()

    def before_fork(self) -> None:
        """Have no thread inside SQLite or libpq: a lock that it held there would be held in the child for ever."""
        self._before_fork()
        self._held = self._writing.acquire(timeout=_AT_EXIT_S)

    def after_fork(self) -> None:
        """In the parent: go on."""
        if self._held:
            self._writing.release()

    def forked(self) -> None:
        """In the child: what waits is the parent's to write, with the parent's connection."""
        abandon = getattr(self._store, "abandon", None)
        if abandon is not None:
            abandon()
        self.written = self.lost = 0
        self._exiting = False
        self._reset()
        self._in_child()

    def _run(self, queue: SimpleQueue[_Item]) -> None:
        while self._write(queue.get(), queue):
            pass

    def _write_all(self) -> None:
        while True:
            try:
                item = self._queue.get_nowait()
            except Empty:
                return
            self._write(item, self._queue)

    def _write(self, first: _Item, queue: SimpleQueue[_Item]) -> bool:
        """Commit the first item and what waits behind it; False when the thread is to end."""
        items = [first]
        while len(items) < _BATCH:
            try:
                items.append(queue.get_nowait())
            except Empty:
                break
        with self._writing:
            records = [item for item in items if isinstance(item, _Record)]
            records += [made for item in items if isinstance(item, _Later) and (made := _made(item)) is not None]
            self._commit(records)
        for item in items:
            if isinstance(item, _Flush):
                item.done.set()
        return not any(isinstance(item, _Stop) for item in items)

    def _commit(self, records: list[_Record]) -> None:
        began = time.monotonic()
        pause = 0.05
        while records:
            try:
                self._store.append([record.document for record in records], now())
            except Unavailable as error:
                reason = str(error)
                if time.monotonic() - began < self._patience_s:
                    time.sleep(pause)
                    pause = min(2 * pause, 2.0)
                    continue
            except NotCanonical as error:
                reason = str(error)
                if len(records) > 1:  # one of them: the others are written without it
                    for record in records:
                        self._commit([record])
                    return
            except SetupError as error:
                reason = str(error)
            except Exception as error:
                # Of a store that is not ours: its text may be anything.
                reason = f"the store raised {type(error).__name__}"
            else:
                self.written += len(records)
                for record in records:
                    _settle(record.written, None)
                return
            self._lose(records, reason)
            return

    def _lose(self, records: list[_Record], reason: str) -> None:
        self.lost += len(records)
        log.error("%d capsules could not be written: %s", len(records), reason)
        for record in records:
            _settle(record.written, CapsuleLost(reason))


def _made(item: _Later) -> _Record | None:
    try:
        document = item.make()
    except Exception as error:
        log.error("a capsule could not be made: %s", type(error).__name__)
        return None
    return None if document is None else _Record(document)


def _settle(future: Future[None], error: Exception | None) -> None:
    try:
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
    except InvalidStateError:  # whoever waited for it was cancelled
        pass


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def _end(writer: weakref.ref[Writer]) -> None:
    if (still := writer()) is not None:
        still.end()


def _end_all() -> None:
    for writer in list(_writers):
        writer.end()


def _before_fork() -> None:
    for writer in list(_writers):
        writer.before_fork()


def _after_fork() -> None:
    for writer in list(_writers):
        writer.after_fork()


def _forked() -> None:
    for writer in list(_writers):
        writer.forked()


atexit.register(_end_all)
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_forked)
