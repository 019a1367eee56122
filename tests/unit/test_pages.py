"""What is allocated when the gateway has started moves into huge pages, where there are any."""

from __future__ import annotations

import mmap
import sys
from typing import Any

import pytest
from gatehouse import pages
from gatehouse.wire import Message, Receive, Scope, Send

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="huge pages are asked for on Linux only")


def huge_kb() -> int:
    with open("/proc/self/smaps_rollup") as rollup:
        return sum(int(line.split()[1]) for line in rollup if line.startswith("AnonHugePages"))


def test_filled_memory_moves_into_huge_pages_and_keeps_its_content() -> None:
    block = mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE)
    for offset in range(0, len(block), 4096):
        block[offset] = offset // 4096 % 251
    before = huge_kb()
    moved = pages.use_huge_pages()
    if not moved:
        pytest.skip("this kernel has no huge pages to give")
    assert huge_kb() > before
    assert all(block[offset] == offset // 4096 % 251 for offset in range(0, len(block), 4096))


def test_memory_that_is_reserved_but_not_used_is_not_filled_up() -> None:
    block = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE)
    for offset in range(0, len(block), 4 << 20):
        block[offset] = 1  # one page of each second huge page
    before = resident_kb()
    pages.use_huge_pages()
    assert resident_kb() - before < 8 << 10


def resident_kb() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


async def test_huge_pages_are_asked_for_once_when_the_app_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(pages, "use_huge_pages", lambda: asked.append("asked"))
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.complete" if scope["type"] == "lifespan" else "http.response.start"})

    async def receive() -> Message:
        raise AssertionError("nothing is received here")

    async def send(message: Any) -> None:
        sent.append(message["type"])

    for kind in ("lifespan", "http"):
        await pages.in_huge_pages(app)({"type": kind}, receive, send)
    assert asked == ["asked"]
    assert sent == ["lifespan.startup.complete", "http.response.start"]
