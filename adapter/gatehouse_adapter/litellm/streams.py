"""Wraps LiteLLM's streams: replaces placeholders with their values, and reports whether a stream ended or broke off.

Everything else of LiteLLM's stream can be reached through the wrapper.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

from gatehouse_adapter.litellm import facts
from gatehouse_adapter.litellm.errors import withheld
from gatehouse_adapter.litellm.reporting import Facts, Report, Verdict
from gatehouse_adapter.litellm.unmasking import Replacements, Restorer


class _Stream:
    def __init__(self, stream: Any, replacements: Mapping[str, str], report: Report, messages: Any) -> None:
        known = Replacements(replacements)
        self._restorer = Restorer(known) if known else None
        self._stream = stream
        self._report = report
        self._messages = messages
        self._chunks: list[Any] = []
        self._over = False
        self._said: Future[Verdict | None] | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_stream" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self._stream, name)

    def __del__(self) -> None:
        if "_report" in self.__dict__:
            self._left()

    def _came(self, chunk: Any) -> Any:
        self._chunks.append(chunk)
        return self._restorer.chunk(chunk) if self._restorer else chunk

    def _ended(self) -> Any | None:
        """Return one more chunk, if something is still held back."""
        self._over = True
        self._said = self._report.success(self._facts)
        return self._restorer.rest() if self._restorer else None

    def _judge(self, verdict: Verdict | None) -> None:
        if verdict is not None:
            raise withheld(verdict, self._report.call_id)

    def _broke(self, exc: BaseException) -> None:
        self._over = True
        if isinstance(exc, Exception):
            self._report.failure(exc, self._facts)
        else:
            self._left()

    def _left(self) -> None:
        self._over = True
        self._report.partial(self._facts)

    @property
    def _facts(self) -> Facts:
        return partial(facts.of_chunks, tuple(self._chunks), self._messages)


class GovernedStream(_Stream):
    """Iterate over the chunks of `completion(stream=True)`. Use it as a context manager to leave it early."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if not self._over:
            try:
                return self._came(next(self._stream))
            except StopIteration:
                if (rest := self._ended()) is not None:
                    return rest
            except BaseException as exc:
                self._broke(exc)
                raise
        said, self._said = self._said, None
        self._judge(said.result() if said else None)
        raise StopIteration

    def close(self) -> None:
        """Leave the stream; the pieces so far are reported as partial."""
        self._left()
        inner = getattr(self._stream, "completion_stream", None)
        with suppress(Exception):  # the second close, or a provider's stream without one
            inner.close()  # type: ignore[union-attr]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncGovernedStream(_Stream):
    """Iterate over the chunks of `acompletion(stream=True)`."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if not self._over:
            try:
                return self._came(await anext(self._stream))
            except StopAsyncIteration:
                if (rest := self._ended()) is not None:
                    return rest
            except BaseException as exc:
                self._broke(exc)
                raise
        said, self._said = self._said, None
        self._judge(await asyncio.wrap_future(said) if said else None)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Leave the stream; the pieces so far are reported as partial."""
        self._left()
        with suppress(Exception):
            await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
