"""The easy way to write a provider: one async method that returns text, without LiteLLM's types.

On top of what `BaseCustomProvider` derives come the token counts (LiteLLM's counter, offline), the response shapes, the
timeout, and errors that quote nothing. Cancelling a call cancels whatever the method awaits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

import litellm
from openai import OpenAIError

from gatehouse.providers.base import BaseCustomProvider, seconds
from gatehouse.providers.shapes import chunk, last_chunk
from gatehouse.providers.values import ChatRequest, EmbeddingRequest, Piece, ToolCall

T = TypeVar("T")


class Provider(BaseCustomProvider):
    """Serve a model. Write `answer`, or `answer_in_pieces` to stream; write `embed` to offer embeddings.

    Raise `self.error(status, message, request.model)` for a status of your choice; any other exception is a 500 that
    names its type. One instance serves all calls at once, so keep nothing about a call on it.
    """

    async def answer(self, request: ChatRequest) -> str:
        """Return the whole answer to `request`."""
        raise self.error(404, "offers no chat", request.model)

    async def answer_in_pieces(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        """Yield the answer in pieces; unless overridden, `answer` in one piece."""
        yield await self.answer(request)

    async def embed(self, request: EmbeddingRequest) -> Sequence[Sequence[float]]:
        """Return one vector for each of `request.texts`, in order."""
        raise self.error(404, "offers no embeddings", request.model)

    # LiteLLM calls the methods below, with every argument by keyword.

    async def acompletion(
        self, model: str, messages: list[dict[str, Any]], model_response: Any = None, **rest: Any
    ) -> Any:
        request = _chat_request(model, messages, rest)
        with self._readable_errors(model):
            async with asyncio.timeout(request.timeout), aclosing(self.answer_in_pieces(request)) as answer:
                pieces = [piece async for piece in answer]
            text = "".join(piece for piece in pieces if isinstance(piece, str))
            calls = [piece for piece in pieces if isinstance(piece, ToolCall)]
            message = {
                "role": "assistant",
                "content": text if text or not calls else None,
                "tool_calls": [call.as_openai(index) for index, call in enumerate(calls)] or None,
            }
            model_response = model_response or litellm.ModelResponse()
            model_response.model = model
            model_response.choices = [
                litellm.Choices(index=0, finish_reason=_finish_reason(pieces), message=litellm.Message(**message))
            ]
            model_response.usage = litellm.Usage(**_usage(request, pieces))
            return model_response

    async def astreaming(self, model: str, messages: list[dict[str, Any]], **rest: Any) -> AsyncIterator[Any]:
        request = _chat_request(model, messages, rest)
        sent: list[Piece] = []
        with self._readable_errors(model):
            async with aclosing(self.answer_in_pieces(request)) as answer:
                while (piece := await _in_time(anext(answer, None), request.timeout)) is not None:
                    yield chunk(piece, sum(isinstance(before, ToolCall) for before in sent))
                    sent.append(piece)
            yield last_chunk(_finish_reason(sent), _usage(request, sent))

    async def aembedding(self, model: str, input: Any, model_response: Any = None, **rest: Any) -> Any:  # noqa: A002
        with self._readable_errors(model):
            texts = _texts(input)
            if texts is None:
                raise self.error(400, "input must be text, or tokens of text", model)
            request = _embedding_request(model, texts, rest)
            async with asyncio.timeout(request.timeout):
                vectors = await self.embed(request)
            model_response = model_response or litellm.EmbeddingResponse()
            model_response.model = model
            model_response.data = [
                {"object": "embedding", "index": index, "embedding": list(vector)}
                for index, vector in enumerate(vectors)
            ]
            tokens = sum(_tokens(text=text) for text in texts)
            model_response.usage = litellm.Usage(prompt_tokens=tokens, completion_tokens=0, total_tokens=tokens)
            return model_response

    @contextmanager
    def _readable_errors(self, model: str) -> Iterator[None]:
        """Turn every exception into one that LiteLLM understands.

        A timeout is a 408. An exception that is not LiteLLM's is a 500 without its text, which may quote the request;
        LiteLLM alone would report it as a connection error and as a bug of LiteLLM.
        """
        try:
            yield
        except OpenAIError:  # the base class of all of LiteLLM's exceptions
            raise
        except TimeoutError as error:
            raise self.error(408, "no answer in time", model) from error
        except Exception as error:
            raise self.error(500, f"failed with {type(error).__name__}", model) from error


def _chat_request(model: str, messages: list[dict[str, Any]], rest: Mapping[str, Any]) -> ChatRequest:
    info = (rest.get("litellm_params") or {}).get("model_info") or {}
    return ChatRequest(
        model=model,
        messages=messages,
        params=rest.get("optional_params") or {},
        settings=info.get("provider_settings") or {},
        timeout=seconds(rest.get("timeout")),
        deployment=info.get("id") or model,
    )


def _embedding_request(model: str, texts: Sequence[str], rest: Mapping[str, Any]) -> EmbeddingRequest:
    info = (rest.get("litellm_params") or {}).get("model_info") or {}
    return EmbeddingRequest(
        model=model,
        texts=texts,
        settings=info.get("provider_settings") or {},
        timeout=seconds(rest.get("timeout")),
        deployment=info.get("id") or model,
    )


def _texts(given: object) -> list[str] | None:
    """Return the texts of an embedding request, which holds one text, several, or the tokens of either; else None."""
    several = given if isinstance(given, list) and not (given and isinstance(given[0], int)) else [given]
    try:
        return [text if isinstance(text, str) else litellm.decode(tokens=text) for text in several]
    except (TypeError, ValueError, KeyError, OverflowError):
        return None


def _finish_reason(pieces: Sequence[Piece]) -> str:
    return "tool_calls" if any(isinstance(piece, ToolCall) for piece in pieces) else "stop"


def _usage(request: ChatRequest, pieces: Sequence[Piece]) -> dict[str, int]:
    answer_text = "".join(piece if isinstance(piece, str) else str(piece.as_openai(0)["function"]) for piece in pieces)
    prompt = _tokens(messages=request.messages, tools=request.params.get("tools"))
    completion = _tokens(text=answer_text)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _tokens(**what: Any) -> int:
    # Without a model name the counter takes the tokenizer that LiteLLM ships, and never downloads one.
    count: int = litellm.token_counter(model="", **what)
    return count


async def _in_time(work: Awaitable[T], seconds: float | None) -> T:
    async with asyncio.timeout(seconds):
        return await work
