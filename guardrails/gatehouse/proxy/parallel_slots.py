"""The slots of callers who may make only so many calls at a time (`max_parallel_requests`), given back in time.

LiteLLM's limiter notes the slots that a call took, of its key, team, user and so on, in a context variable, and several
of its callbacks give back what they find noted there. It sets the variable in a task of its own where a stream may need
signs of life, so the code that ends the stream finds nothing, and the slots stay taken for an hour. Here the note is
made before LiteLLM begins, and its slots are given back by us alone: once, and before the caller has all of the answer,
for whoever has read an answer may send the next request.
"""

from __future__ import annotations

import asyncio

from litellm.proxy import proxy_server
from litellm.proxy.hooks import parallel_request_limiter_v3 as limiter_v3


class _Note(limiter_v3.RequestRateLimiterStash):  # type: ignore[misc]  # LiteLLM ships no types
    """LiteLLM's note on one call; its callbacks find no slots in it."""

    taken: limiter_v3.ParallelSlotAcquisition | None = None

    @property
    def parallel_slot(self) -> None:
        return None

    @parallel_slot.setter
    def parallel_slot(self, slot: limiter_v3.ParallelSlotAcquisition | None) -> None:
        if slot is not None:
            self.taken = slot


class CallSlots:
    """The slots that one call takes. Make it in the call's own task, before LiteLLM sees the call."""

    def __init__(self) -> None:
        self._note = _Note()
        limiter_v3._request_stash.set(self._note)
        self._releasing: asyncio.Task[None] | None = None

    async def release(self) -> None:
        """Give back what the call holds: once, however often this is called, also where it is cancelled."""
        taken, self._note.taken = self._note.taken, None
        limiter = proxy_server.proxy_logging_obj.get_proxy_hook("parallel_request_limiter")
        if taken is not None and isinstance(limiter, limiter_v3.PROXY_MaxParallelRequestsHandler_v3):
            self._releasing = asyncio.create_task(limiter._release_parallel_request_slots(taken))
        if self._releasing is not None:
            await asyncio.shield(self._releasing)
