"""The load: N keep-alive connections that each send the next request as soon as the last is answered (closed loop).

Run as `python -m bench.load HOST PORT KEY CONNECTIONS SECONDS`, in a process of its own; prints one JSON line. HTTP is
spoken by hand, because a client library would cost as much time as the gateway.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from typing import cast

import uvloop


class Connection(asyncio.Protocol):
    """One keep-alive connection; `exchange` sends a request and returns the status of its answer."""

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


def request_of(host: str, port: int, key: str, serial: int) -> bytes:
    """A chat request of its own: a repeated one would be answered from the cache."""
    body = json.dumps(
        {
            "model": "bench",
            "messages": [
                {"role": "system", "content": "You are a careful assistant."},
                {"role": "user", "content": f"Question {os.getpid()}.{serial}: why is the sky blue at noon?"},
            ],
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}:{port}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def load(host: str, port: int, key: str, connections: int, seconds: float) -> dict[str, object]:
    """Requests per second and the latency quantiles in milliseconds, of the answers that came with status 200."""
    serials, latencies, failures = itertools.count(), list[float](), list[str]()
    end = time.perf_counter() + seconds

    async def one() -> None:
        _, connection = await asyncio.get_running_loop().create_connection(Connection, host, port)
        while (start := time.perf_counter()) < end:
            status = await connection.exchange(request_of(host, port, key, next(serials)))
            if status == 200:
                latencies.append(time.perf_counter() - start)
            else:
                failures.append(f"{status}: {connection.body[:300].decode(errors='replace')}")
        connection.transport.close()

    start = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    elapsed = time.perf_counter() - start
    latencies.sort()

    def quantile(q: float) -> float:
        return 1000 * latencies[min(len(latencies) - 1, int(q * len(latencies)))] if latencies else 0.0

    return {
        "requests": len(latencies),
        "rps": len(latencies) / elapsed,
        "p50_ms": quantile(0.5),
        "p99_ms": quantile(0.99),
        "failures": len(failures),
        "first_failure": failures[0] if failures else None,
    }


if __name__ == "__main__":
    host, port, key, connections, seconds = sys.argv[1:]
    print(json.dumps(uvloop.run(load(host, int(port), key, int(connections), float(seconds)))))
