"""uvicorn's HTTP over httptools, with a deadline for the head of each request, which uvicorn lacks."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# The time from the connection, or from the first byte of a further request, to the end of its headers.
HEAD_S: Final = 10.0

_TOO_SLOW: Final = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 49\r\n"
    b"connection: close\r\n\r\nThe headers did not come in time. Send them again"
)


class BoundedHttpProtocol(HttpToolsProtocol):
    """Hang up on a client whose headers do not arrive in time."""

    _head: asyncio.TimerHandle | None = None
    _begun = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun = True
        if self._head is None:
            self._wait_for_head()

    def on_headers_complete(self) -> None:
        self._head_came()
        super().on_headers_complete()

    def _wait_for_head(self) -> None:
        self._head = self.loop.call_later(HEAD_S, self._hang_up)

    def _head_came(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None
        self._begun = False

    def _hang_up(self) -> None:
        self._head = None
        transport: Any = self.transport
        if transport is None or transport.is_closing():
            return
        if self._begun:  # a client that sent nothing receives nothing
            transport.write(_TOO_SLOW)
        transport.close()
