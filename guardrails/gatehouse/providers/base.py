"""The base class of custom providers, with LiteLLM's own methods and signatures. An author writes one of each kind.

Chat, embeddings and images each have a synchronous and an asynchronous form, and chat streams in both. A missing form
is derived from another; one that cannot be derived is refused by name. An error is the same in every form.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator
from contextlib import aclosing
from typing import Any, TypeVar

import httpx
from litellm.llms.custom_llm import CustomLLM

from gatehouse.providers import background
from gatehouse.providers.failures import upstream_error
from gatehouse.providers.shapes import chunks_of

T = TypeVar("T")


class BaseCustomProvider(CustomLLM):  # type: ignore[misc]  # LiteLLM is untyped for us
    """Serve a model through LiteLLM's methods. Write `completion` or `acompletion`, and whatever else the model can do.

    LiteLLM calls every method by keyword (`model`, `messages`, `model_response`, `optional_params`, `timeout`, ...; its
    `CustomLLM` lists them): name those that you read and take the rest as `**call`.

    | written | derived |
    |---|---|
    | `completion` | `acompletion` in a thread, `streaming` and `astreaming` in one piece |
    | `acompletion` | `completion` on a background loop, `streaming` and `astreaming` in one piece |
    | `streaming` or `astreaming` | the other of the two |
    | `embedding` or `aembedding`, `image_generation` or `aimage_generation` | the other of the two |

    A derived form gives up after `timeout` (in a stream: for each chunk). Cancelling one ends the wait at once; its
    thread continues in the background. One instance serves all calls at once, so keep nothing about a call on it.

    Attributes:
        name: the provider's name in errors; by default the name under which it is registered.
    """

    name: str = ""

    def error(self, status: int, message: str, model: str) -> Exception:
        """Return the exception that makes the caller see HTTP `status` with `message`."""
        return upstream_error(status, message, model=model, provider=self.name or type(self).__name__)

    # LiteLLM chooses the parameters, and an author picks some of them: with `Any` a type checker accepts every choice.

    def completion(self, *args: Any, **call: Any) -> Any:
        """Return a whole answer, a `ModelResponse`."""
        return self._from_async("acompletion", "chat", args, call)

    async def acompletion(self, *args: Any, **call: Any) -> Any:
        """Return a whole answer, a `ModelResponse`."""
        return await self._from_sync("completion", "chat", args, call)

    def streaming(self, *args: Any, **call: Any) -> Iterator[Any]:
        """Yield an answer in pieces, each a `GenericStreamingChunk`."""
        if self._writes("astreaming"):
            yield from background.loop().iterate(_each_in_time(self.astreaming(*args, **call), self, args, call))
        else:
            yield from chunks_of(self.completion(*args, **_unstreamed(call)))

    async def astreaming(self, *args: Any, **call: Any) -> AsyncIterator[Any]:
        """Yield an answer in pieces, each a `GenericStreamingChunk`."""
        if self._writes("streaming"):
            chunks = background.iterate_in_thread(self.streaming(*args, **call))
            async with aclosing(_each_in_time(chunks, self, args, call)) as in_time:
                async for chunk in in_time:
                    yield chunk
        else:
            for chunk in chunks_of(await self.acompletion(*args, **_unstreamed(call))):
                yield chunk

    def embedding(self, *args: Any, **call: Any) -> Any:
        """Return an `EmbeddingResponse`."""
        return self._from_async("aembedding", "embeddings", args, call)

    async def aembedding(self, *args: Any, **call: Any) -> Any:
        """Return an `EmbeddingResponse`."""
        return await self._from_sync("embedding", "embeddings", args, call)

    def image_generation(self, *args: Any, **call: Any) -> Any:
        """Return an `ImageResponse`."""
        return self._from_async("aimage_generation", "images", args, call)

    async def aimage_generation(self, *args: Any, **call: Any) -> Any:
        """Return an `ImageResponse`."""
        return await self._from_sync("image_generation", "images", args, call)

    def _writes(self, name: str) -> bool:
        return getattr(type(self), name) is not getattr(BaseCustomProvider, name)

    def _from_async(self, name: str, what: str, args: tuple[Any, ...], call: dict[str, Any]) -> Any:
        if not self._writes(name):
            raise self._not_offered(what, args, call)
        return background.loop().run(_in_time(getattr(self, name)(*args, **call), self, args, call))

    async def _from_sync(self, name: str, what: str, args: tuple[Any, ...], call: dict[str, Any]) -> Any:
        if not self._writes(name):
            raise self._not_offered(what, args, call)
        return await _in_time(background.in_thread(getattr(self, name), *args, **call), self, args, call)

    def _not_offered(self, what: str, args: tuple[Any, ...], call: dict[str, Any]) -> Exception:
        streams = what == "chat" and (self._writes("streaming") or self._writes("astreaming"))
        return self.error(404, f"offers no {what}{' without stream' if streams else ''}", _model(args, call))


def seconds(timeout: float | httpx.Timeout | None) -> float | None:
    """Return LiteLLM's `timeout` in seconds; of an httpx timeout, how long to wait for the next byte."""
    return timeout.read if isinstance(timeout, httpx.Timeout) else timeout


async def _in_time(work: Awaitable[T], provider: BaseCustomProvider, args: tuple[Any, ...], call: dict[str, Any]) -> T:
    limit = asyncio.timeout(seconds(call.get("timeout")))
    try:
        async with limit:
            return await work
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise provider.error(408, "no answer in time", _model(args, call)) from error


async def _each_in_time(
    chunks: AsyncIterator[T], provider: BaseCustomProvider, args: tuple[Any, ...], call: dict[str, Any]
) -> AsyncGenerator[T, None]:
    end = object()
    try:
        while (chunk := await _in_time(anext(chunks, end), provider, args, call)) is not end:
            yield chunk  # type: ignore[misc]
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


def _model(args: tuple[Any, ...], call: dict[str, Any]) -> str:
    return str(call.get("model") or (args[0] if args else ""))


def _unstreamed(call: dict[str, Any]) -> dict[str, Any]:
    """Return the call without `stream`, for an author's method that answers in one piece."""
    given = call.get("optional_params") or {}
    return {**call, "optional_params": {k: v for k, v in given.items() if k not in ("stream", "stream_options")}}
