"""The calls that LiteLLM has finished and not told its callbacks of yet.

It tells of synchronous calls from threads and of asynchronous ones from a queue, which it leaves unread beyond 200
calls or 5 seconds when the process ends. There is no public way to wait for either without an event loop: this is the
one place that looks inside. What a release of LiteLLM calls otherwise is left alone, and a test says so.
"""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial
from queue import SimpleQueue
from typing import Any

from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
from litellm.litellm_core_utils.thread_pool_executor import executor


def settle(timeout: float) -> bool:
    """Wait until the callbacks of synchronous calls that returned have run, and of asynchronous ones whose event loop
    is gone; False when it took too long.
    """
    if _is_left_behind(GLOBAL_LOGGING_WORKER):
        drain()
    deadline = time.monotonic() + timeout
    while _busy(executor):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.005)
    return True


async def asettle() -> None:
    """Wait until the callbacks of asynchronous calls that returned in this event loop have run."""
    while tasks := [task for task in asyncio.all_tasks() if _tells(task)]:
        await asyncio.wait(tasks)
    await GLOBAL_LOGGING_WORKER.flush()


def drain() -> None:
    """Run the callbacks of asynchronous calls that no event loop will run any more: all of them."""
    while waiting := _waiting(GLOBAL_LOGGING_WORKER):
        GLOBAL_LOGGING_WORKER._flush_on_exit()
        if _waiting(GLOBAL_LOGGING_WORKER) >= waiting:
            return


def forget_threads() -> None:
    """In a forked child: LiteLLM counts on idle threads that stayed in the parent, and would wait for them for ever."""
    for name, fresh in (
        ("_threads", set),
        ("_work_queue", SimpleQueue),
        ("_idle_semaphore", partial(threading.Semaphore, 0)),
        ("_pending_slots", partial(threading.Semaphore, getattr(executor, "_max_pending_tasks", 1))),
        ("_shutdown_lock", threading.Lock),
    ):
        if hasattr(executor, name):
            setattr(executor, name, fresh())


def _tells(task: asyncio.Task[Any]) -> bool:
    """Whether a task of LiteLLM's tells callbacks of a call, or is about to queue that."""
    name = getattr(task.get_coro(), "__qualname__", "")
    return name == "_client_async_logging_helper" or name.startswith("Logging.")


def _is_left_behind(worker: Any) -> bool:
    loop = getattr(worker, "_bound_loop", None)
    return isinstance(loop, asyncio.AbstractEventLoop) and loop.is_closed()


def _busy(pool: Any) -> bool:
    slots = getattr(getattr(pool, "_pending_slots", None), "_value", None)
    most = getattr(pool, "_max_pending_tasks", None)
    return isinstance(slots, int) and isinstance(most, int) and slots < most


def _waiting(worker: Any) -> int:
    queue = getattr(worker, "_queue", None)
    started = getattr(worker, "_unstarted_dequeued_tasks", tuple)
    return (0 if queue is None else int(queue.qsize())) + len(started())
