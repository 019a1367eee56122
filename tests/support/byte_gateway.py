"""Serves bytes on a real socket: a test says what each path answers, and reads what arrived."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

KEY = "sk-gatehouse-secret-of-the-tests"
ASK = [{"role": "user", "content": "hello"}]
DONE = b"data: [DONE]\n\n"

Handler = Callable[[Any, asyncio.StreamWriter], Awaitable[None]]
"""Takes the parsed body of a request and answers it."""


@dataclass
class ByteGateway:
    """Serves bytes: a handler for each path writes them, and the server keeps every request."""

    handlers: dict[str, Handler] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""
    errors: list[BaseException] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.idle.clear()
        try:
            while line := await reader.readline():
                path = line.split()[1].decode()
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (row.partition(":") for row in head if row)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append((path, headers, json.loads(body) if body else None))
                answering = asyncio.ensure_future(self.handlers[path.partition("?")[0]](self.requests[-1][2], writer))
                leaving = asyncio.ensure_future(reader.read(1))
                await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
                if not answering.done():  # the client left in the middle of the answer
                    answering.cancel()
                    return
                if writer.is_closing():
                    return
                await answering
                following = await leaving
                if not following:
                    return
                reader._buffer[:0] = following  # type: ignore[attr-defined]  # put back: the next request's first byte
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except Exception as exc:
            self.errors.append(exc)
        finally:
            writer.close()
            self.open -= 1
            if self.open == 0:
                self.idle.set()

    async def all_closed(self) -> None:
        await asyncio.wait_for(self.idle.wait(), 5)


def answers_with(content: Any, status: int = 200, **headers: str) -> Handler:
    """Return a handler that answers whole, with a length."""

    async def handler(body: Any, writer: asyncio.StreamWriter) -> None:
        answer = content if isinstance(content, bytes) else json.dumps(content).encode()
        fields = {"content_type": "application/json", "content_length": str(len(answer)), **headers}
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        writer.write(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + answer)
        await writer.drain()

    return handler


def streams(*parts: bytes | float, end: bool = True) -> Handler:
    """Return a handler of a chunked event stream: it sends bytes, and waits numbers in seconds; `end=False` breaks."""

    async def handler(body: Any, writer: asyncio.StreamWriter) -> None:
        head = (
            "content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\nx-gatehouse-call-id: c-9"
        )
        writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode())
        for part in parts:
            if isinstance(part, bytes):
                writer.write(b"%x\r\n%s\r\n" % (len(part), part))
                await writer.drain()
            else:
                await asyncio.sleep(part)
        if end:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        else:
            writer.close()

    return handler


def piece(content: str = "", **fields: Any) -> bytes:
    raw = {"id": "x", "model": "demo", "choices": [{"index": 0, "delta": {"content": content}}], **fields}
    return f"data: {json.dumps(raw)}\n\n".encode()


ANSWER = {
    "id": "chatcmpl-1",
    "model": "demo",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}
MODELS = {"data": [{"id": "demo", "object": "model", "owned_by": "openai"}, {"id": "demo-mock"}]}
HEALTH = {"status": "ok", "parts": {"ledger": "up"}}


async def demo(body: Any, writer: asyncio.StreamWriter) -> None:
    if body.get("stream"):
        usage = piece(choices=[], usage=ANSWER["usage"])
        await streams(piece("Hel"), b": ping\n\n", piece("lo."), usage, DONE)(body, writer)
    else:
        await answers_with(ANSWER, x_gatehouse_call_id="c-1", x_litellm_response_cost="0.002")(body, writer)


@asynccontextmanager
async def serving() -> AsyncIterator[ByteGateway]:
    """Serve a gateway that behaves well until a test changes it."""
    found = ByteGateway(
        {
            "/health/readiness": answers_with({"status": "healthy", "db": "connected"}),
            "/governance/v1/health": answers_with(HEALTH),
            "/v1/models": answers_with(MODELS),
            "/v1/chat/completions": demo,
        }
    )
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield found
    server.close()
    assert found.errors == []
