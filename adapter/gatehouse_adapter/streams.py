"""A streamed answer: pieces as they come, and an error unless the answer is complete.

Leaving the loop in any way (its end, break, an exception, cancellation) closes the connection, which tells the gateway
to stop the model. `async with` closes it also when the loop never starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Self

import httpx

from gatehouse_adapter._internal import answers, clock, failures
from gatehouse_adapter._internal.sending import Sender
from gatehouse_adapter._internal.sse import EventDecoder
from gatehouse_adapter.errors import StreamInterrupted, TimedOut
from gatehouse_adapter.results import ChatChunk

__all__ = ["ChatStream"]

_END = "[DONE]"
# The bytes that close the body follow the end mark at once; reading them lets the connection be used again.
_DRAIN_SECONDS = 0.5


class ChatStream:
    """Read an answer of `LiteLLMAdapter.complete_chat(stream=True)`, once.

    Attributes:
        call_id: the gateway's id of the call; None when it gave none.
    """

    def __init__(self, response: httpx.Response, sender: Sender, *, timeout: float) -> None:
        self.call_id = failures.call_id(response.headers)
        self._response = response
        self._sender = sender
        self._timeout = timeout
        self._started = False

    async def __aiter__(self) -> AsyncIterator[ChatChunk]:
        # A generator instead of __anext__: asyncio finalizes it as soon as the loop over it ends.
        if self._started:
            raise RuntimeError("This stream has been read already. Call complete_chat again for a new answer.")
        self._started = True
        decoder = EventDecoder()
        parts = self._response.aiter_bytes()
        count = 0
        try:
            # The time counts from chunk to chunk: keep-alive comments do not extend it, a slow reader does not use it
            # up.
            deadline = clock.monotonic() + self._timeout
            while part := await self._next(parts, deadline, count):
                with self._sender.reading(self._response):
                    events = list(decoder.push(part))
                for event in events:
                    if event == _END:
                        await self._drain(parts)
                        return
                    yield self._chunk(event)
                    count += 1
                    deadline = clock.monotonic() + self._timeout
            raise self._interrupted("it ended without its end mark", count)
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the connection; a second time does nothing."""
        await self._response.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _next(self, parts: AsyncIterator[bytes], deadline: float, count: int) -> bytes:
        """Return the next bytes; none at the end."""
        try:
            async with asyncio.timeout(deadline - clock.monotonic()):
                return await anext(parts, b"")
        except TimeoutError:
            raise TimedOut(
                f"No new piece of the stream arrived for {self._timeout:g} s. Allow a longer timeout.",
                status=self._response.status_code,
                call_id=self.call_id,
            ) from None
        except (httpx.TimeoutException, httpx.DecodingError) as exc:
            raise self._sender.broken(exc, self._response) from exc
        except (httpx.HTTPError, httpx.StreamError) as exc:
            raise self._interrupted(f"the connection broke ({type(exc).__name__})", count) from exc

    def _chunk(self, event: str) -> ChatChunk:
        with self._sender.reading(self._response):
            raw = answers.json_object(event)
            if raw.get("error"):
                raise self._sender.error_inside(raw, self._response)
            return answers.chunk(raw, self.call_id)

    def _interrupted(self, why: str, count: int) -> StreamInterrupted:
        return StreamInterrupted(
            f"The stream broke off after {count} chunks: {why}. The answer is incomplete; "
            "the call may be charged, so repeat it only on purpose.",
            status=self._response.status_code,
            call_id=self.call_id,
        )

    async def _drain(self, parts: AsyncIterator[bytes]) -> None:
        with suppress(TimeoutError, httpx.HTTPError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                async for _ in parts:
                    pass
