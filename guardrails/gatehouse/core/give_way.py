"""Long work on the event loop makes room for others' work: who held the loop waits for as long before they go on.

Promises: work that is as short as almost all of it is waits for nothing; however many callers send what takes long,
about half of the loop's time is left to others.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

# Longer than any stage of a conversation of a thousand messages.
_LONG_S: Final = 0.02
_MAX_WAIT_S: Final = 2.0


class GiveWay:
    """Used as `async with GiveWay():` around work that does not wait for anything itself."""

    __slots__ = ("_begun",)

    waiting = 0

    async def __aenter__(self) -> None:
        self._begun = time.thread_time()

    async def __aexit__(self, *_: object) -> None:
        worked = time.thread_time() - self._begun
        if worked < _LONG_S:
            return
        GiveWay.waiting += 1
        try:
            # Those that wait have each held the loop for some time like this: together they take half of it.
            await asyncio.sleep(min(worked * GiveWay.waiting, _MAX_WAIT_S))
        finally:
            GiveWay.waiting -= 1
