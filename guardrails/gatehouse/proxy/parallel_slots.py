"""Gives back in time the slots of callers with a limit on parallel calls (`max_parallel_requests`).

LiteLLM's limiter notes the slots that a call took, for its key, team, user and so on, in a context variable, and
several of its callbacks give back the slots noted there. Where a stream may need keep-alives, it sets the variable in a
task of its own, so the code that ends the stream finds nothing and the slots stay taken for an hour. Here Gatehouse
makes the note before LiteLLM begins and alone gives the slots back: once, and before the caller has the whole answer,
because a caller who has read an answer may send the next request.

In Redis a slot is a lease. The gateway renews the slots of its running calls every few seconds, and a slot that is not
renewed lapses: that of a gateway that died, or one that could not be given back while Redis was away.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from litellm.proxy import proxy_server
from litellm.proxy.hooks import parallel_request_limiter_v3 as limiter_v3

LEASE_S: Final = 20
# A call whose client left may go on at the provider. It keeps its slots for so long at most, so that a client cannot
# have many calls at once by leaving them, and a provider that never answers blocks no caller.
KEPT_AFTER_LEAVING_S: Final = 15.0

# Renews slots of one gauge. LiteLLM scores a slot with the time of Redis' clock, and drops those older than the lease.
RENEW_SLOTS: Final = """
local now = redis.call('TIME')[1]
for i = 2, #ARGV do
    redis.call('ZADD', KEYS[1], now, ARGV[i])
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
"""

Script = Callable[..., Awaitable[object]]


class SlotLeases:
    """Hold the slots of all calls of this process."""

    def __init__(self) -> None:
        self.held: dict[str, Sequence[str]] = {}  # the names of a slot's gauges, by the slot's id
        self._scripts: tuple[Script, Script] | None = None

    def open(self) -> CallSlots:
        """Return the holder of the slots that a new call takes."""
        return CallSlots(self)

    def in_redis(self, renew: Script, limiter: Any) -> None:
        """Make the slots that LiteLLM takes in Redis leases. Those in the memory of this process end with it.

        Args:
            renew: runs `RENEW_SLOTS`.
            limiter: LiteLLM's limiter of parallel calls.
        """
        limiter_v3.PARALLEL_REQUEST_SLOT_TTL_SECONDS = LEASE_S
        # LiteLLM refuses by its last count of a gauge, which knows nothing of the slots that other gateways gave back.
        limiter._read_local_gauge_counts = _none_taken
        self._scripts = renew, limiter.parallel_release_script

    async def renew(self) -> None:
        """Renew the slots that are held in Redis."""
        if self._scripts is not None:
            await renew_all(self.held, *self._scripts)


async def renew_all(held: Mapping[str, Sequence[str]], renew: Script, release: Script) -> None:
    """Renew every slot that is held, and give back again those that were given back meanwhile.

    Args:
        held: the names of a slot's gauges, by the slot's id; it changes while this runs.
        renew: runs `RENEW_SLOTS`.
        release: runs LiteLLM's script that gives slots back.
    """
    gauges: defaultdict[str, list[str]] = defaultdict(list)
    for slot, names in held.items():
        for name in names:
            gauges[name].append(slot)
    for name, slots in gauges.items():
        await renew(keys=[name], args=[LEASE_S, *slots])
        if over := [slot for slot in slots if slot not in held]:
            await release(keys=[name] * len(over), args=over)


class _Note(limiter_v3.RequestRateLimiterStash):  # type: ignore[misc]  # LiteLLM ships no types
    """Replace LiteLLM's note on one call; LiteLLM's callbacks find no slots in it."""

    call: CallSlots | None = None

    @property
    def parallel_slot(self) -> None:
        return None

    @parallel_slot.setter
    def parallel_slot(self, slot: limiter_v3.ParallelSlotAcquisition | None) -> None:
        if slot is not None and self.call is not None:
            self.call.take(slot)


class CallSlots:
    """Hold the slots that one call takes. Make it in the call's own task, before LiteLLM sees the call."""

    def __init__(self, leases: SlotLeases) -> None:
        self._leases = leases
        self._taken: list[Any] = []
        self._releasing: asyncio.Task[None] | None = None
        self._leaving: asyncio.TimerHandle | None = None
        note = _Note()
        note.call = self
        limiter_v3._request_stash.set(note)

    def take(self, slot: limiter_v3.ParallelSlotAcquisition) -> None:
        """Note slots that LiteLLM took for the call."""
        self._taken.append(slot)
        self._leases.held[slot["slot_id"]] = slot["counter_keys"]

    def leave(self) -> None:
        """Give the slots back a while after the client left, where the call does not end before."""
        if self._leaving is None:
            self._leaving = asyncio.get_running_loop().call_later(KEPT_AFTER_LEAVING_S, self._release)

    async def release(self) -> None:
        """Give back the slots that the call holds, once, however often this is called, also when it is cancelled."""
        self._release()
        if self._releasing is not None:
            await asyncio.shield(self._releasing)

    def _release(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
        taken, self._taken = self._taken, []
        for slot in taken:
            self._leases.held.pop(slot["slot_id"], None)
        if taken and (limiter := limiter_in_use()) is not None:
            self._releasing = asyncio.create_task(_give_back(limiter, taken))


async def _give_back(limiter: Any, taken: Sequence[Any]) -> None:
    for slot in taken:
        await limiter._release_parallel_request_slots(slot)


async def _none_taken(gauges: Sequence[str], _span: object = None) -> list[int]:
    return [0] * len(gauges)


def limiter_in_use() -> Any:
    """Return LiteLLM's limiter of parallel calls, where it is the one that is known here."""
    limiter = proxy_server.proxy_logging_obj.get_proxy_hook("parallel_request_limiter")
    return limiter if isinstance(limiter, limiter_v3.PROXY_MaxParallelRequestsHandler_v3) else None
