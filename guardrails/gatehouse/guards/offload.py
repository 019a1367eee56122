"""Runs long work on a body in a thread of its own, beside the event loop, so that short calls do not wait for it.

Promises: short work, which is almost all, runs at once and in place; for the rest callers take turns by size; the loop
has at least half of the interpreter meanwhile; and begun work ends before its caller goes on, also when cancelled.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, TypeVar

from gatehouse.guards.fair_turns import FairTurns

_T = TypeVar("_T")

# More than a conversation of a thousand messages needs, and less than makes a stage take 0.05 seconds.
LIGHT: Final = 8_192
_BYTES_PER_VALUE: Final = 256
# How long a thread waits for the interpreter while there is long work, in seconds.
_SWITCH_S: Final = 0.001


def effort(body: bytes | bytearray) -> int:
    """Return about how many values a JSON body has, also inside its strings; long texts count too."""
    by_size = len(body) // _BYTES_PER_VALUE
    if by_size >= LIGHT:  # counting values would itself be long work
        return by_size
    return by_size + body.count(b",") + body.count(b"{") + body.count(b"[") + body.count(b"\\u")


@dataclass(slots=True, eq=False)
class _Job:
    work: Callable[[], Any]
    context: Context
    done: Future[Any] = field(default_factory=Future)


class Offload:
    """Own the process's thread for long work.

    Args:
        light: work with less effort runs at once.
    """

    def __init__(self, light: int = LIGHT) -> None:
        self._light = light
        self._turns = FairTurns[_Job](max_waiting=sys.maxsize, max_short=sys.maxsize)
        self._serials = count()
        self._wanted = threading.Condition()
        self._thread: threading.Thread | None = None

    async def run(self, effort: int, caller: str, work: Callable[[], _T]) -> _T:
        """Do work that waits for nothing.

        Args:
            effort: see `effort`.
            caller: whose turn it takes.
        """
        if effort < self._light:
            return work()
        job = _Job(work, copy_context())
        with self._wanted:
            entry = self._turns.put(caller, next(self._serials), job, effort)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="gatehouse-long-work", daemon=True)
                self._thread.start()
            self._wanted.notify()
        done: asyncio.Future[_T] = asyncio.wrap_future(job.done)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            if job.done.cancel():
                with self._wanted:
                    self._turns.drop(entry)
            else:  # the work may write to what the caller's other tasks read next
                await asyncio.wait((done,))
                done.cancelled() or done.exception()
            raise

    def _work(self) -> None:
        usual = sys.getswitchinterval()
        while True:
            with self._wanted:
                taken = self._turns.take()
                if not taken:
                    sys.setswitchinterval(usual)
                    self._wanted.wait()
                    usual = sys.getswitchinterval()
                    continue
            sys.setswitchinterval(_SWITCH_S)
            _do(taken[0].item)
            del taken


def _do(job: _Job) -> None:
    if not job.done.set_running_or_notify_cancel():
        return
    try:
        found = job.context.run(job.work)
    except BaseException as error:
        job.done.set_exception(error)
    else:
        job.done.set_result(found)


# The instance of this process.
OFFLOAD: Final = Offload()
