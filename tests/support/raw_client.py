"""Sends the bytes that a test gives: a header twice, a wrong length, and more that no HTTP library would send."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True)
class RawAnswer:
    """Holds the answer; its status is 0 where the server closed the connection without one."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


async def send(port: int, target: str, headers: list[tuple[str, str]], body: bytes) -> RawAnswer:
    """POST one request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        return await _answer(reader)
    except (ConnectionError, asyncio.IncompleteReadError):
        return RawAnswer(0, {}, b"")
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> RawAnswer:
    status, headers = 100, dict[str, str]()
    while status < 200:  # an interim answer comes before the real one
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split()[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
    if headers.get("transfer-encoding") == "chunked":
        return RawAnswer(status, headers, await _chunks(reader))
    if "content-length" in headers:
        return RawAnswer(status, headers, await reader.readexactly(int(headers["content-length"])))
    return RawAnswer(status, headers, await reader.read())


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    found = b""
    while size := int(await reader.readline(), 16):
        found += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return found
