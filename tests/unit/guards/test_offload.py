"""Long work runs beside the event loop, one caller at a time; short work runs on it."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from gatehouse.guards.offload import LIGHT, Offload, effort

LONG = LIGHT
NAME: ContextVar[str] = ContextVar("name", default="nobody")


@pytest.fixture
def offload() -> Offload:
    return Offload()


class Busy:
    """Keeps the thread at work until it is told to go on."""

    def __init__(self, offload: Offload, caller: str = "busy") -> None:
        self.begun, self.go_on, self.over = threading.Event(), threading.Event(), threading.Event()
        self.task = asyncio.create_task(offload.run(LONG, caller, self._work))

    def _work(self) -> None:
        self.begun.set()
        assert self.go_on.wait(20)
        self.over.set()

    async def until_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, 20)


@pytest.fixture
async def busy(offload: Offload) -> Busy:
    found = Busy(offload)
    await found.until_begun()
    return found


async def test_short_work_is_done_at_once_where_it_stands(offload: Offload) -> None:
    running = offload.run(LIGHT - 1, "a", threading.current_thread)
    with pytest.raises(StopIteration) as done:
        running.send(None)
    assert done.value.value is threading.current_thread()


async def test_the_loop_goes_on_during_long_work(offload: Offload, busy: Busy) -> None:
    await asyncio.sleep(0)
    busy.go_on.set()
    await busy.task


async def test_long_work_knows_what_its_caller_knows(offload: Offload) -> None:
    NAME.set("somebody")
    assert await offload.run(LONG, "a", NAME.get) == "somebody"


async def test_what_fails_fails_for_its_caller_alone(offload: Offload) -> None:
    def fail() -> None:
        raise ValueError("of mine")

    with pytest.raises(ValueError, match="of mine"):
        await offload.run(LONG, "a", fail)
    assert await offload.run(LONG, "a", lambda: 5) == 5


async def test_who_asks_for_much_waits_longer_than_who_asks_for_little(offload: Offload, busy: Busy) -> None:
    order: list[str] = []
    many = [asyncio.create_task(offload.run(LONG, "many", lambda: order.append("many"))) for _ in range(8)]
    await asyncio.sleep(0)
    one = asyncio.create_task(offload.run(LONG, "one", lambda: order.append("one")))
    await asyncio.sleep(0)
    busy.go_on.set()
    await asyncio.gather(busy.task, one, *many)
    assert order.index("one") <= 1


async def test_what_is_cancelled_before_its_turn_is_never_done(offload: Offload, busy: Busy) -> None:
    done: list[int] = []
    waiting = asyncio.create_task(offload.run(LONG, "a", lambda: done.append(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    busy.go_on.set()
    await busy.task
    await offload.run(LONG, "b", lambda: None)
    assert done == []


async def test_what_is_cancelled_when_it_has_begun_is_over_before_its_caller_goes_on(busy: Busy) -> None:
    busy.task.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not busy.task.done()
    busy.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await busy.task
    assert busy.over.is_set()


async def test_threads_switch_faster_only_while_there_is_long_work(offload: Offload) -> None:
    usual = sys.getswitchinterval()
    during = await offload.run(LONG, "a", sys.getswitchinterval)
    assert during < usual
    for _ in range(10_000):
        if sys.getswitchinterval() == usual:
            break
        await asyncio.sleep(0.001)
    assert sys.getswitchinterval() == usual


def _entries(value: Any) -> Iterator[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        yield each
        yield from _entries(each)


def _nested(depth: int) -> Any:
    return {"a": _nested(depth - 1)} if depth else []


@pytest.mark.parametrize(
    "value",
    [
        {"messages": [{"role": "user", "content": "a"}] * 50},
        [_nested(90)] * 20,
        [[], {}, [[]], 1, None] * 30,
        {"arguments": [{"a": 1}, 2]},
    ],
    ids=["messages", "deep", "small", "arguments"],
)
@pytest.mark.parametrize(
    "write",
    [
        lambda value: json.dumps(value),
        lambda value: json.dumps({"arguments": json.dumps(value)}),
        lambda value: json.dumps({"a": json.dumps(value)}).replace("{", "\\u007b").replace(",", "\\u002c"),
    ],
    ids=["plain", "in-a-string", "escaped"],
)
def test_each_value_counts_however_it_is_written(value: Any, write: Callable[[Any], str]) -> None:
    assert effort(write(value).encode()) >= sum(1 for _ in _entries(value))


def test_long_texts_count_by_their_size() -> None:
    assert effort(b" " * 256 * LIGHT) >= LIGHT
    assert effort(b'{"a": "' + b"word " * 1000 + b'"}') < 30
