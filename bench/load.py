"""The load: N keep-alive connections that each send the next request as soon as the last is answered (closed loop).

It writes HTTP by hand, because a client library would take as much time as the gateway.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import uvloop

_serials = itertools.count()


class Connection(asyncio.Protocol):
    """Hold one keep-alive connection; `exchange` sends a request and returns the status of its answer."""

    def __init__(self) -> None:
        self.buffer = b""
        self.answered: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0 or self.answered is None:
            return
        lines = self.buffer[:head].lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        if len(self.buffer) >= head + 4 + length:
            self.body, self.buffer = self.buffer[head + 4 : head + 4 + length], b""
            self.answered.set_result(int(lines[0].split()[1]))

    def connection_lost(self, error: Exception | None) -> None:
        if self.answered is not None and not self.answered.done():
            self.answered.set_exception(ConnectionError("the gateway closed the connection"))

    async def exchange(self, request: bytes) -> int:
        self.answered = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.answered


@dataclass(frozen=True)
class Load:
    """Hold a load's results: answers with status 200 and their latencies in milliseconds, and every other answer."""

    seconds: float
    latencies_ms: list[float]
    failures: list[str]


def questions() -> Iterator[bytes]:
    """Yield different chat requests, because a repeated text would not be scanned again."""
    for serial in _serials:
        question = f"Question {os.getpid()}.{serial}: why is the sky blue at noon?"
        yield chat({"role": "system", "content": "You are a careful assistant."}, {"role": "user", "content": question})


def chat(*messages: dict[str, str]) -> bytes:
    """Return the body of a chat request."""
    return json.dumps({"model": "bench", "messages": messages}).encode()


def apply_load(
    port: int, key: str, connections: int, seconds: float = float("inf"), bodies: Iterator[bytes] | None = None
) -> Load:
    """Load the gateway on 127.0.0.1:`port` until the time is over or all bodies are sent; wait for the last answer."""
    return uvloop.run(_apply(port, key, connections, seconds, questions() if bodies is None else bodies))


async def _apply(port: int, key: str, connections: int, seconds: float, bodies: Iterator[bytes]) -> Load:
    latencies, failures = list[float](), list[str]()
    loop = asyncio.get_running_loop()
    opened = [(await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(connections)]
    start = time.perf_counter()
    end = start + seconds

    async def one(connection: Connection) -> None:
        while (sent := time.perf_counter()) < end:
            if (body := next(bodies, None)) is None:
                break
            status = await connection.exchange(request(port, key, body))
            if status == 200:
                latencies.append(1000 * (time.perf_counter() - sent))
            else:
                failures.append(f"{status}: {connection.body[:300].decode(errors='replace')}")
        connection.transport.close()

    await asyncio.gather(*map(one, opened))
    return Load(time.perf_counter() - start, latencies, failures)


def request(port: int, key: str, body: bytes) -> bytes:
    """Return a chat request as bytes."""
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
