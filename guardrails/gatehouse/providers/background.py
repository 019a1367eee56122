"""Lets synchronous and asynchronous code wait for each other: one event loop in a thread for all synchronous callers,
and threads for synchronous code that an event loop waits for.

Both start when first needed, belong to the process, and start anew in a forked child. A caller on the loop itself (an
asynchronous provider that makes a synchronous call) gets another loop, because a loop cannot wait for itself.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

T = TypeVar("T")

# The most parallel synchronous calls; more wait for a thread. The event loop's own threads are few, and LiteLLM needs
# them for every call.
MAX_THREADS: Final = 64

_END: Final = object()


class BackgroundLoop:
    """Run an event loop in a daemon thread, for code that cannot await."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inner: BackgroundLoop | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return or raise what `work` does. Ctrl-C, or anything else that ends the wait, cancels it."""
        return _result(asyncio.run_coroutine_threadsafe(work, self._running()))

    def iterate(self, chunks: AsyncIterator[T]) -> Iterator[T]:
        """Yield the items of `chunks`, each produced on demand. Closing the iterator closes `chunks`."""
        loop = self._running()
        asked, given = _on(loop, _queues())
        reading = asyncio.run_coroutine_threadsafe(_read(chunks, asked, given), loop)
        ended = False
        try:
            while True:
                loop.call_soon_threadsafe(asked.put_nowait, None)
                item = _result(asyncio.run_coroutine_threadsafe(given.get(), loop))
                if item is _END:
                    ended = True
                    break
                yield item
        finally:
            if not ended:
                reading.cancel()
        reading.result()  # raises the exception of `chunks`

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._thread is threading.current_thread():
                if self._inner is None:
                    self._inner = BackgroundLoop()
                inner = self._inner
            else:
                if self._loop is None:
                    self._loop = asyncio.new_event_loop()
                    self._thread = threading.Thread(
                        target=self._loop.run_forever, name="gatehouse-background", daemon=True
                    )
                    self._thread.start()
                return self._loop
        return inner._running()


def loop() -> BackgroundLoop:
    """Return the process's loop."""
    return _shared.loop


async def in_thread(function: Callable[..., T], *args: Any, **call: Any) -> T:
    """Run `function` in a thread with the caller's context variables, and return its result.

    While the process ends it runs here instead. Cancelling ends the wait at once. The thread cannot be stopped: it
    continues, and its result is dropped.
    """
    context = contextvars.copy_context()
    try:
        running = _shared.threads.submit(context.run, lambda: function(*args, **call))
    except RuntimeError:  # the interpreter is ending, and starts no threads any more
        return function(*args, **call)
    return await asyncio.wrap_future(running)


async def iterate_in_thread(items: Iterator[T]) -> AsyncGenerator[T, None]:
    """Yield the items of `items`, each produced in a thread on demand; `items` is closed at the end."""
    context = contextvars.copy_context()
    threads, pending = _shared.threads, None
    try:
        while True:
            pending = threads.submit(context.run, lambda: next(items, _END))
            item = await asyncio.wrap_future(pending)
            if item is _END:
                return
            yield item  # type: ignore[misc]
    finally:
        close = getattr(items, "close", None)
        if close is not None and pending is not None:  # a thread may still run it: close after it
            pending.add_done_callback(lambda _: threads.submit(close))


class _Shared:
    def __init__(self) -> None:
        self.loop = BackgroundLoop()
        self.threads = ThreadPoolExecutor(MAX_THREADS, "gatehouse-provider")


_shared = _Shared()


def _after_fork() -> None:
    global _shared  # threads do not survive a fork
    _shared = _Shared()


os.register_at_fork(after_in_child=_after_fork)


def _result(future: Future[T]) -> T:
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    return _result(asyncio.run_coroutine_threadsafe(work, loop))


async def _queues() -> tuple[asyncio.Queue[None], asyncio.Queue[Any]]:
    return asyncio.Queue(), asyncio.Queue()


async def _read(chunks: AsyncIterator[T], asked: asyncio.Queue[None], given: asyncio.Queue[Any]) -> None:
    """Read in one task from start to end, because what `chunks` opens (a timeout, a connection) belongs to its task."""
    try:
        await asked.get()
        async for chunk in chunks:
            given.put_nowait(chunk)
            await asked.get()
    finally:
        given.put_nowait(_END)
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()
