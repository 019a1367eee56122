"""Gives back in time the slots of callers with a limit on parallel calls (`max_parallel_requests`).

LiteLLM's limiter notes the slots that a call took, for its key, team, user and so on, in a context variable, and
several of its callbacks give back the slots noted there. Where a stream may need keep-alives, it sets the variable in a
task of its own, so the code that ends the stream finds nothing and the slots stay taken for an hour. Here Gatehouse
makes the note before LiteLLM begins and alone gives the slots back: once, and before the caller has the whole answer,
because a caller who has read an answer may send the next request.
"""

from __future__ import annotations

import asyncio

from litellm.proxy import proxy_server
from litellm.proxy.hooks import parallel_request_limiter_v3 as limiter_v3


class _Note(limiter_v3.RequestRateLimiterStash):  # type: ignore[misc]  # LiteLLM ships no types
    """Replace LiteLLM's note on one call; LiteLLM's callbacks find no slots in it."""

    taken: limiter_v3.ParallelSlotAcquisition | None = None

    @property
    def parallel_slot(self) -> None:
        return None

    @parallel_slot.setter
    def parallel_slot(self, slot: limiter_v3.ParallelSlotAcquisition | None) -> None:
        if slot is not None:
            self.taken = slot


class CallSlots:
    """Hold the slots that one call takes. Make it in the call's own task, before LiteLLM sees the call."""

    def __init__(self) -> None:
        self._note = _Note()
        limiter_v3._request_stash.set(self._note)
        self._releasing: asyncio.Task[None] | None = None

    async def release(self) -> None:
        """Give back the slots that the call holds, once, however often this is called, also when it is cancelled."""
        taken, self._note.taken = self._note.taken, None
        limiter = proxy_server.proxy_logging_obj.get_proxy_hook("parallel_request_limiter")
        if taken is not None and isinstance(limiter, limiter_v3.PROXY_MaxParallelRequestsHandler_v3):
            self._releasing = asyncio.create_task(limiter._release_parallel_request_slots(taken))
        if self._releasing is not None:
            await asyncio.shield(self._releasing)
