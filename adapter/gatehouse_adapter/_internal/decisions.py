"""Waits for reviewers' decisions.

One stream of the gateway's events serves all waiting calls of an adapter, so that a decision wakes its call at once.
Events may be lost (when a gateway restarts, or a proxy buffers answers), so after a wake-up the adapter asks for the
state, and also at intervals.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx

from gatehouse_adapter._internal import answers, clock
from gatehouse_adapter._internal.sending import Sender
from gatehouse_adapter._internal.sse import EventDecoder
from gatehouse_adapter.errors import ApprovalTimeout, GatehouseError, Refused
from gatehouse_adapter.results import Approval

_EVENTS = "/governance/v1/approvals/events"
# The gateway sends a sign of life every 15 s.
_SILENCE_SECONDS = 40.0
_LOOK_SECONDS = 1.0
_LOOK_AT_MOST_SECONDS = 15.0
_OPENING_SECONDS = 30.0
# States in which a call waits; `approved` ends the wait too.
_UNDECIDED = ("requested", None)


class Decisions:
    """Wait for the decisions of one adapter."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._following: asyncio.Task[None] | None = None

    async def wait(self, approval: Approval, get: Callable[[str], Awaitable[Approval]], *, seconds: float) -> Approval:
        """Return the approval once it is decided, or the one that a reviewer's edit made; look at its `state`.

        Args:
            get: asks for an approval's state.

        Raises:
            ApprovalTimeout: there is no decision within so many seconds.
            Refused: the gateway does not let this key see it.
        """
        deadline = clock.monotonic() + seconds
        pause = _LOOK_SECONDS
        while True:
            async with self._told_of(approval.id) as woken:
                while True:
                    woken.clear()
                    approval = await self._look(approval, get, deadline)
                    if approval.state not in _UNDECIDED or clock.monotonic() >= deadline:
                        break
                    with suppress(TimeoutError):
                        async with asyncio.timeout(min(pause * clock.jitter(), deadline - clock.monotonic())):
                            await woken.wait()
                    pause = min(pause * 2, _LOOK_AT_MOST_SECONDS)
            if approval.state in _UNDECIDED:
                raise ApprovalTimeout(
                    f"No reviewer decided within {seconds:g} s. The approval stays pending: send the same call "
                    "again later with its id.",
                    approval=approval,
                )
            if approval.replaced_by is None:
                return approval
            approval = Approval(id=approval.replaced_by, expires_at=None, status_url=None)

    @staticmethod
    async def _look(approval: Approval, get: Callable[[str], Awaitable[Approval]], deadline: float) -> Approval:
        """Return its state now; the last known one while the gateway is unreachable."""
        try:
            async with asyncio.timeout(max(0.1, deadline - clock.monotonic())):
                return await get(approval.id)
        except Refused:
            raise
        except (GatehouseError, TimeoutError):
            return approval

    async def aclose(self) -> None:
        """Stop following."""
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    @asynccontextmanager
    async def _told_of(self, approval_id: str) -> AsyncIterator[asyncio.Event]:
        woken = asyncio.Event()
        self._waiting.setdefault(approval_id, set()).add(woken)
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow(), name="gatehouse-adapter-approvals")
        try:
            yield woken
        finally:
            others = self._waiting[approval_id]
            others.discard(woken)
            if not others:
                del self._waiting[approval_id]
            if not self._waiting and self._following is not None:
                following, self._following = self._following, None
                following.cancel()

    async def _follow(self) -> None:
        """Wake the calls that an event concerns, and all of them when the stream begins."""
        attempt = 0
        while True:
            with suppress(GatehouseError, httpx.HTTPError, httpx.StreamError, TimeoutError, ValueError):
                async with self._stream() as response:
                    attempt = 0
                    for waiters in self._waiting.values():
                        _wake(waiters)
                    await self._read(response)
            await clock.sleep(min(_LOOK_AT_MOST_SECONDS, 2.0**attempt) * clock.jitter())
            attempt = min(attempt + 1, 10)

    @asynccontextmanager
    async def _stream(self) -> AsyncIterator[httpx.Response]:
        headers = {"accept": "text/event-stream"}
        async with asyncio.timeout(_OPENING_SECONDS):
            response = await self._sender.open(
                "GET", _EVENTS, deadline=clock.monotonic() + _OPENING_SECONDS, headers=headers, silence=_SILENCE_SECONDS
            )
        try:
            yield response
        finally:
            await response.aclose()

    async def _read(self, response: httpx.Response) -> None:
        decoder = EventDecoder()
        parts = response.aiter_bytes()
        while True:
            async with asyncio.timeout(_SILENCE_SECONDS):
                part = await anext(parts, b"")
            if not part:
                return
            for event in decoder.push(part):
                found: Any = answers.json_object(event).get("id")
                if isinstance(found, str):
                    _wake(self._waiting.get(found, ()))


def _wake(waiters: Any) -> None:
    for woken in tuple(waiters):
        woken.set()
