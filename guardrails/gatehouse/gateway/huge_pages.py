"""Moves the memory that LiteLLM fills at start-up into huge pages (docs/performance.md has the effect).

A request touches some hundred thousand small objects scattered over half a gigabyte, and much of its time is the
processor looking up where their 4 KiB pages are. Best effort: where the system offers no huge pages (not Linux, before
Linux 6.1, fragmented memory), everything stays as it was.
"""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatehouse.core.http import App, Message, Receive, Scope, Send

_MADV_COLLAPSE = 25
_HUGE = 2 << 20
# Reserved but hardly used memory (stacks of threads) must not be filled up.
_MIN_RESIDENT = 0.9
_MAPPING = re.compile(
    r"^(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) rw-p \S+ \S+ 0 +(?:\[heap\])?\n"  # anonymous, writable, or the heap
    r"(?:\w+: .*\n)*?Rss: +(?P<rss>\d+) kB",
    re.MULTILINE,
)


def in_huge_pages(app: App) -> App:
    """Wrap an ASGI app to use huge pages as soon as it has started."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def settled(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                use_huge_pages()
            await send(message)

        await app(scope, receive, settled if scope["type"] == "lifespan" else send)

    return wrapped


def use_huge_pages() -> int:
    """Move this process's present memory. It takes about a second for half a gigabyte.

    Returns:
        Bytes that are in huge pages now because of this.
    """
    if not sys.platform.startswith("linux"):
        return 0
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)
    moved = 0
    for mapping in _MAPPING.finditer(Path("/proc/self/smaps").read_text()):
        start, end = int(mapping["start"], 16), int(mapping["end"], 16)
        if 1024 * int(mapping["rss"]) < _MIN_RESIDENT * (end - start):
            continue
        # One by one, so that a page that cannot be moved does not stop the rest.
        for page in range(-(-start // _HUGE) * _HUGE, end - _HUGE + 1, _HUGE):
            if madvise(page, _HUGE, _MADV_COLLAPSE) == 0:
                moved += _HUGE
    return moved
