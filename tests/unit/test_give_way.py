"""Who holds the event loop for long waits for as long before they go on; nobody else waits."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest
from gatehouse.core import give_way
from gatehouse.core.give_way import GiveWay


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await real(0)

    real = asyncio.sleep
    monkeypatch.setattr(give_way, "asyncio", SimpleNamespace(sleep=sleep))  # threads of other tests may sleep too
    return waits


def work(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def test_short_work_waits_for_nothing(slept: list[float]) -> None:
    async with GiveWay():
        pass
    assert slept == []


async def test_long_work_waits_for_as_long_also_when_it_fails(slept: list[float]) -> None:
    async def refused() -> None:
        async with GiveWay():
            work(0.03)
            raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        await refused()
    assert 0.03 <= slept[0] < 0.3
    assert GiveWay.waiting == 0


async def test_the_more_hold_the_loop_the_longer_each_waits(slept: list[float]) -> None:
    async def one() -> None:
        async with GiveWay():
            work(0.03)

    await asyncio.gather(*(one() for _ in range(4)))
    assert len(slept) == 4
    assert slept[3] > 2 * slept[0]
    assert max(slept) <= give_way._MAX_WAIT_S
    assert GiveWay.waiting == 0
