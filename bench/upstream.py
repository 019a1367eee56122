"""A model that costs nothing: it answers every POST with the same chat completion, on one keep-alive connection each.

A GET returns the body of the last POST, so that a run can see what reached the model; with `--keep`, all bodies and the
seconds of the epoch at which each arrived.

Run as `python -m bench.upstream PORT [--keep]`, in its own process, so that only the gateway is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from typing import cast

import uvloop

COMPLETION = {
    "id": "chatcmpl-constant",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "constant",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Always the same answer."}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
}
BODY = json.dumps(COMPLETION).encode()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
ANSWER = HEAD % len(BODY) + BODY


class Constant(asyncio.Protocol):
    """Read only as much HTTP/1.1 as needed to know where a request ends (RFC 9112, Content-Length bodies only)."""

    last = b"{}"
    kept: list[tuple[float, str]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (head := self.buffer.find(b"\r\n\r\n")) >= 0:
            length = 0
            for line in self.buffer[:head].lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line[15:])
            if len(self.buffer) < head + 4 + length:
                return
            request, self.buffer = self.buffer[: head + 4 + length], self.buffer[head + 4 + length :]
            if request.startswith(b"GET"):
                known = Constant.last if Constant.kept is None else json.dumps(Constant.kept).encode()
                self.transport.write(HEAD % len(known) + known)
                continue
            Constant.last = request[head + 4 :]
            if Constant.kept is not None:
                Constant.kept.append((time.time(), Constant.last.decode()))
            self.transport.write(ANSWER)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Constant, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    Constant.kept = [] if "--keep" in sys.argv else None
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(int(sys.argv[1])))
