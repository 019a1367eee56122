"""`mock_api`: a model that is slow, wrong or broken as configured, for tests and demonstrations.

The operator configures all of it in config.yaml under `model_info.provider_settings`; a request can change nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gatehouse.providers.echo import DEFAULT_DIMENSIONS, EchoProvider, words
from gatehouse.providers.provider import Provider
from gatehouse.providers.values import ChatRequest, EmbeddingRequest, Piece, ToolCall

Milliseconds = Annotated[float, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Failure(_Strict):
    """Fail with `status`: always, every n-th call, or at a rate; before the answer, or `after_chunks` pieces in."""

    status: int = Field(default=500, ge=400, le=599)
    message: str = "mock_api is configured to fail"
    every: int = Field(default=1, ge=1)
    rate: float = Field(default=1.0, ge=0, le=1)
    after_chunks: int = Field(default=0, ge=0)


class Tool(_Strict):
    """Describe a tool call to answer with."""

    name: str
    arguments: dict[str, Any] = {}


class MockSettings(_Strict):
    """Hold `model_info.provider_settings` of a mock_api model. Without an answer of any kind it echoes.

    `fixture` is a JSON file with a recorded OpenAI chat completion, relative to GATEHOUSE_HOME: its message is used.
    `latency_ms` comes before the answer, `chunk_latency_ms` between pieces; above the model's `timeout` they time out.
    """

    latency_ms: Milliseconds = 0
    chunk_latency_ms: Milliseconds = 0
    answer: str | None = None
    tool_calls: list[Tool] = []
    fixture: Path | None = None
    failure: Failure | None = None
    dimensions: int = DEFAULT_DIMENSIONS


class MockAPIProvider(EchoProvider):
    """Answer as `MockSettings` says. One counter per deployment drives `failure.every`."""

    name = "mock_api"

    def __init__(self) -> None:
        super().__init__()
        self._calls: Counter[str] = Counter()

    async def answer_in_pieces(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        settings = self._settings(request)
        failure = self._failure_of_this_call(request, settings)
        await asyncio.sleep(settings.latency_ms / 1000)
        pieces = self._pieces(request, settings)
        break_at = min(failure.after_chunks, len(pieces)) if failure else None
        for number, piece in enumerate([*pieces, None]):
            if failure and number == break_at:
                raise self.error(failure.status, failure.message, request.model)
            if piece is not None:
                if number:
                    await asyncio.sleep(settings.chunk_latency_ms / 1000)
                yield piece

    async def embed(self, request: EmbeddingRequest) -> Sequence[Sequence[float]]:
        settings = self._settings(request)
        failure = self._failure_of_this_call(request, settings)
        await asyncio.sleep(settings.latency_ms / 1000)
        if failure:
            raise self.error(failure.status, failure.message, request.model)
        return await super().embed(request)

    def _settings(self, request: ChatRequest | EmbeddingRequest) -> MockSettings:
        try:
            return MockSettings.model_validate(request.settings)
        except ValidationError as error:
            mistakes = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            raise self.error(
                500, f"provider_settings of {request.model} in config.yaml: {mistakes}", request.model
            ) from None

    def _failure_of_this_call(self, request: ChatRequest | EmbeddingRequest, settings: MockSettings) -> Failure | None:
        failure = settings.failure
        if failure is None:
            return None
        self._calls[request.deployment] += 1
        due = self._calls[request.deployment] % failure.every == 0
        return failure if due and random.random() < failure.rate else None  # noqa: S311  # no secret depends on it

    def _pieces(self, request: ChatRequest, settings: MockSettings) -> list[Piece]:
        if settings.fixture is not None:
            text, calls = _recorded(Path(os.environ.get("GATEHOUSE_HOME", "."), settings.fixture))
        else:
            calls = [ToolCall(name=each.name, arguments=each.arguments) for each in settings.tool_calls]
            text = settings.answer or ""
            if settings.answer is None and not calls:
                text = request.last_user_text
        numbered = [ToolCall(name=c.name, arguments=c.arguments, id=f"call_{n}") for n, c in enumerate(calls)]
        return [*words(text), *numbered]


@lru_cache(maxsize=64)
def _recorded(path: Path) -> tuple[str, list[ToolCall]]:
    message = json.loads(path.read_text())["choices"][0]["message"]
    functions = [call["function"] for call in message.get("tool_calls") or []]
    calls = [ToolCall(name=each["name"], arguments=json.loads(each["arguments"])) for each in functions]
    return message.get("content") or "", calls


provider: Provider = MockAPIProvider()
