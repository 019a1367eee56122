"""The one thread of a process that writes capsules: what is waiting is committed together.

Promises: what was taken is in the store once `flush` returns, or `lost` has counted it and the log said so; a store
that cannot write now is asked again for half a minute; a process that ends, and a forked child, write what is theirs.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import multiprocessing
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError, wait
from dataclasses import dataclass, field
from functools import partial
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
class _Item:
    """What becomes a record, or nothing, in the writer's thread."""

    make: Callable[[], Document | None]
    done: Future[None] = field(default_factory=Future)


_Record = tuple[Document, Future[None]]


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
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()  # None ends the thread
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
                    Finalize(None, _each, args=(Writer.end,), exitpriority=100)

    def take(self, make: Callable[[], Document | None]) -> Future[None]:
        """Have the writer's thread make and write a record. The future says when it is there, or raises CapsuleLost."""
        item = _Item(make)
        if self._queue.qsize() >= _WAITING:
            self._lose([({}, item.done)], "too many are waiting for a store that cannot write")
            return item.done
        try:
            self.start()
        except RuntimeError:  # the interpreter is ending: no more threads
            self._exiting = True
        self._queue.put(item)
        if self._exiting:
            self._write_all()
        elif self._thread is None:  # it was stopped in between
            self.start()
        return item.done

    def later(self, make: Callable[[], Document | None]) -> None:
        """Have the writer's thread make a record. Safe in a destructor: takes no lock."""
        self._queue.put(_Item(make))

    def flush(self, timeout: float) -> bool:
        """Wait until all that was taken before is written or lost; False when it took too long."""
        if self._thread is None:
            return self._queue.empty()
        marker = _Item(lambda: None)
        self._queue.put(marker)
        return bool(wait([marker.done], timeout).done)

    def stop(self) -> None:
        """Write what waits, and let the thread and the store go; the next record brings both back."""
        with self._starting:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
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
        getattr(self._store, "abandon", lambda: None)()
        self.written = self.lost = 0
        self._exiting = False
        self._reset()
        self._in_child()

    def _run(self, queue: SimpleQueue[_Item | None]) -> None:
        while self._write(queue.get(), queue):
            pass

    def _write_all(self) -> None:
        while True:
            try:
                item = self._queue.get_nowait()
            except Empty:
                return
            self._write(item, self._queue)

    def _write(self, first: _Item | None, queue: SimpleQueue[_Item | None]) -> bool:
        """Commit the first item and what waits behind it; False when the thread is to end."""
        found = [first]
        with contextlib.suppress(Empty):
            while len(found) < _BATCH:
                found.append(queue.get_nowait())
        items = [item for item in found if item is not None]
        with self._writing:
            made = [(self._made(item), item.done) for item in items]
            self._commit([(document, done) for document, done in made if document is not None])
        for item in items:
            _settle(item.done)
        return len(items) == len(found)

    def _made(self, item: _Item) -> Document | None:
        try:
            return item.make()
        except Exception as error:
            self._lose([({}, item.done)], f"making it raised {type(error).__name__}")
            return None

    def _commit(self, records: list[_Record]) -> None:
        if not records:
            return
        try:
            self._append([document for document, _ in records])
        except (NotCanonical, SetupError, Unavailable) as error:
            if isinstance(error, NotCanonical) and len(records) > 1:  # one of them: the others are written without it
                for record in records:
                    self._commit([record])
            else:
                self._lose(records, str(error))
        except Exception as error:
            # Of a store that is not ours: its text may be anything.
            self._lose(records, f"the store raised {type(error).__name__}")
        else:
            self.written += len(records)
            for _, done in records:
                _settle(done)

    def _append(self, documents: list[Document]) -> None:
        """Append to the store, which is asked again for a while when it cannot write."""
        began = time.monotonic()
        pause = 0.05
        while True:
            try:
                return self._store.append(documents, now())
            except Unavailable:
                if time.monotonic() - began >= self._patience_s:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def _lose(self, records: list[_Record], reason: str) -> None:
        self.lost += len(records)
        log.error("%d capsules could not be written: %s", len(records), reason)
        for _, done in records:
            _settle(done, CapsuleLost(reason))


def _settle(done: Future[None], error: Exception | None = None) -> None:
    with contextlib.suppress(InvalidStateError):  # it is settled already, or whoever waited for it was cancelled
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def _each(act: Callable[[Writer], None]) -> None:
    for writer in list(_writers):
        act(writer)


atexit.register(_each, Writer.end)
os.register_at_fork(
    before=partial(_each, Writer.before_fork),
    after_in_parent=partial(_each, Writer.after_fork),
    after_in_child=partial(_each, Writer.forked),
)
