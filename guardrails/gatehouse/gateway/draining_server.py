"""uvicorn's server with a stop in order: not ready first, then no new connections, then the running calls end.

Compose waits 40 seconds for the gateway to stop (`stop_grace_period`): what is below, and what the ledger needs after
it, take less.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

import uvicorn

from gatehouse.core.clock import monotonic

# A load balancer that asks each second has seen by then that the gateway is not ready any more.
LEAD_S: Final = 2.0
# How long running calls may take to end. Then they are cut off.
DRAIN_S: Final = 30


class DrainingServer(uvicorn.Server):
    """Serve until a signal, and for `LEAD_S` after it.

    Args:
        stopping: is told of the signal, once.
    """

    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._asked: tuple[int, float] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; a second signal, or an interrupt from a terminal, does not wait."""
        if self._asked is None and sig != signal.SIGINT:
            self._asked = sig, monotonic() + LEAD_S
            self._stopping()
            return
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Stop once the time is over; uvicorn asks ten times a second."""
        if self._asked is not None and monotonic() >= self._asked[1] and not self.should_exit:
            super().handle_exit(self._asked[0], None)
        return await super().on_tick(counter)
