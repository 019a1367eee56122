"""Sends many concurrent calls, and notes how each ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True, slots=True)
class Result:
    """Holds how a call ended: `status` is None where the connection broke, `call_id` where no header arrived.

    `said` is the answer's text where the status is not 200, so that a failed assertion shows why.
    """

    status: int | None
    call_id: str | None
    complete: bool
    said: str = ""


async def call_many(
    url: str,
    key: str,
    body: dict[str, Any],
    *,
    calls: int,
    concurrent: int,
    meanwhile: Callable[[], Awaitable[None]] | None = None,
) -> list[Result]:
    """Send `calls` requests, `concurrent` at a time, every other one streamed, while something happens to the stack."""
    gate = asyncio.Semaphore(concurrent)

    async def one(client: httpx.AsyncClient, number: int) -> Result:
        request = body | {"stream": number % 2 == 1, "messages": [{"role": "user", "content": f"call {number}"}]}
        async with gate:
            status = call_id = None
            try:
                async with client.stream("POST", "/v1/chat/completions", json=request) as answer:
                    status, call_id = answer.status_code, answer.headers.get("x-gatehouse-call-id")
                    text = (await answer.aread()).decode()
            except httpx.HTTPError:
                return Result(status, call_id, complete=False)
            complete = not request["stream"] or "[DONE]" in text
            return Result(status, call_id, complete, said="" if status == 200 else text)

    limits = httpx.Limits(max_connections=concurrent, max_keepalive_connections=0)
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, limits=limits) as client:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(client, number)) for number in range(calls)]
            if meanwhile is not None:
                await meanwhile()
        return [task.result() for task in tasks]
