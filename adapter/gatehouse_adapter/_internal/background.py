"""One event loop in one thread for the whole process, which talks to gateways for callers in any thread.

It starts with the first call, starts anew in a forked child, and at the interpreter's exit lets running work finish
within a bound.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

T = TypeVar("T")
P = TypeVar("P", bound="Part")


class _Loop(asyncio.SelectorEventLoop):
    """Look up hosts without threads while the interpreter exits; by then it may block."""

    async def getaddrinfo(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().getaddrinfo(*args, **options)
        except RuntimeError:
            return socket.getaddrinfo(*args, **options)


class Part(Protocol):
    """Describe an object that lives on the loop."""

    async def farewell(self) -> None:
        """Finish running work, within a bound of its own, and close."""


class Background:
    """Run a loop and its thread.

    Attributes:
        busy: parts with work that no caller waits for. Only the loop touches it.
    """

    def __init__(self) -> None:
        self.busy: set[Part] = set()
        self._parts: WeakKeyDictionary[object, Part] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._loop = _Loop()
        self._thread = threading.Thread(target=self._run, name="gatehouse-background", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run the work there; cancelling the future cancels it there."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def part(self, owner: object, make: Callable[[Background], P]) -> P:
        """Return the owner's part, made on first use; it goes when the owner does and no work is left."""
        with self._lock:
            found = self._parts.get(owner)
            if found is None:
                found = self._parts[owner] = make(self)
            return cast(P, found)

    def end(self) -> None:
        """Let all parts finish, then stop."""
        with self._lock:
            parts = set(self._parts.values())

        async def farewells() -> None:
            everybody = parts | self.busy
            await asyncio.gather(*(part.farewell() for part in everybody), return_exceptions=True)

        with suppress(Exception):
            self.submit(farewells()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(1)


_lock = threading.Lock()
_current: Background | None = None


def background() -> Background:
    """Return this process's loop."""
    global _current
    with _lock:
        if _current is None:
            _current = Background()
        return _current


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run the work there and wait for it. Whatever ends the wait, such as Ctrl-C, also ends the work."""
    future = background().submit(work)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _forget() -> None:
    """Forget the loop in a forked child: the thread and its work stayed with the parent."""
    global _current, _lock
    _lock = threading.Lock()
    _current = None


def _end() -> None:
    with _lock:
        ending = _current
    if ending is not None:
        ending.end()


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
