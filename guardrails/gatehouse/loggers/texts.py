"""Changes to what a model says, wherever a caller gets it from: whole answers and streams, the gateway and programs.

Chat and text completions are read: content, reasoning, refusals, and the arguments of tool calls. What the gateway
records stays the model's own words.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from copy import deepcopy
from typing import Any, Protocol, TypeAlias

from litellm.types.utils import (
    ChatCompletionDeltaToolCall,
    Function,
    HiddenParams,
    ModelResponse,
    ModelResponseStream,
    TextCompletionResponse,
)

from gatehouse.loggers.base import BaseCustomLogger

log = logging.getLogger("gatehouse.loggers")

_MARK = "gatehouse_changed_by"
_SAID = ("content", "reasoning_content", "refusal")


class TextChange(Protocol):
    """One running text, changed piece by piece."""

    def feed(self, text: str) -> str:
        """What can be passed on now that `text` has come."""

    def end(self) -> str:
        """What was held back."""


class TextModifier(BaseCustomLogger):
    """Changes the texts of answers. Write `start`.

    In the gateway it sees every answer. In a program LiteLLM lets a callback change what `acompletion` returns, and
    nothing else: pass streams, and what `completion` returns, through `apply` (a warning says so once).
    """

    _told = False  # that some answers have to go through `apply`

    def start(self, field: str) -> TextChange | None:
        """The change to one running text; None leaves it alone.

        Args:
            field: `content`, `reasoning_content`, `refusal`, `arguments` (of a tool call), or `text` (of a text
                completion).
        """
        raise NotImplementedError

    def apply(self, answer: Any) -> Any:
        """The answer, or the stream, with its texts changed; what this modifier has changed already stays as it is."""
        self._told = True
        if isinstance(answer, ModelResponse | TextCompletionResponse):
            return self._whole(answer)
        return _Applied(self, answer)

    async def async_post_call_success_hook(self, data: Any, user_api_key_dict: Any, response: Any) -> Any:
        return self._whole(response)

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: Any
    ) -> AsyncIterator[Any]:
        async for chunk in self._stream(response):
            yield chunk

    async def async_post_call_success_deployment_hook(self, request_data: Any, response: Any, call_type: Any) -> Any:
        # In the proxy this comes before the cache; there the hooks above do it, after the cache.
        return None if request_data.get("proxy_server_request") else self._whole(response)

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        in_proxy = (kwargs.get("litellm_params") or {}).get("proxy_server_request")
        out_of_reach = kwargs.get("stream") or kwargs.get("call_type") in ("completion", "text_completion")
        if out_of_reach and not in_proxy and not self._told:
            self._told = True
            log.warning(
                "%s: LiteLLM lets no callback change a stream, or the answer of a synchronous call, outside its proxy. "
                "Pass it through apply().",
                type(self).__name__,
            )

    def unread(self, answer: Any) -> Any:
        """An answer, or a part of a stream, in another shape than those that are read here."""
        return answer

    def _whole(self, answer: Any) -> Any:
        if not isinstance(answer, ModelResponse | TextCompletionResponse):
            return self.unread(answer)
        marks = _marks(answer)
        if id(self) in marks:
            return answer
        changed = _copy(answer)
        for choice in changed.choices:
            for field, holder in _texts(choice, "message"):
                name = field[0]
                change = self.start(name)
                if change is not None:
                    setattr(holder, name, change.feed(getattr(holder, name)) + change.end())
        _mark(changed, [*marks, id(self)])
        return changed

    async def _stream(self, chunks: Any) -> AsyncIterator[Any]:
        running = _Stream(self)
        async for chunk in chunks:
            yield running.feed(chunk)
        for chunk in running.rest():
            yield chunk

    def _sync_stream(self, chunks: Any) -> Iterator[Any]:
        running = _Stream(self)
        for chunk in chunks:
            yield running.feed(chunk)
        yield from running.rest()


class _Applied:
    """A stream through a modifier; like LiteLLM's own streams it does not say which of the two kinds it is."""

    def __init__(self, modifier: TextModifier, chunks: Any) -> None:
        self._modifier, self._chunks = modifier, chunks

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._modifier._stream(self._chunks)

    def __iter__(self) -> Iterator[Any]:
        return self._modifier._sync_stream(self._chunks)


_Field: TypeAlias = tuple[str, int]
"""The attribute that holds a text, and the number of its tool call (0 for others)."""


class _Stream:
    """The running texts of one stream, by choice and field."""

    def __init__(self, modifier: TextModifier) -> None:
        self._modifier = modifier
        self._running: dict[int, dict[_Field, TextChange | None]] = {}
        self._last: Any = None

    def feed(self, chunk: Any) -> Any:
        if not isinstance(chunk, ModelResponseStream | ModelResponse | TextCompletionResponse):
            return self._modifier.unread(chunk)
        changed = self._last = _copy(chunk)
        for choice in changed.choices:
            running = self._running.setdefault(choice.index or 0, {})
            for field, holder in _texts(choice, "delta"):
                if field not in running:
                    running[field] = self._modifier.start(field[0])
                change = running[field]
                if change is not None:
                    setattr(holder, field[0], change.feed(getattr(holder, field[0])))
            if getattr(choice, "finish_reason", None):
                for field, text in _ends(running):
                    _append(choice, field, text)
        return changed

    def rest(self) -> Iterator[Any]:
        """What a stream that ended without a finish reason still holds back."""
        for index, running in self._running.items():
            for field, text in _ends(running):
                chunk = _copy(self._last)
                del chunk.choices[1:]
                choice = chunk.choices[0]
                choice.index, choice.finish_reason = index, None
                for (name, _), holder in _texts(choice, "delta"):
                    setattr(holder, name, "")
                _append(choice, field, text)
                yield chunk


def _texts(choice: Any, part: str) -> Iterator[tuple[_Field, Any]]:
    """Every text of a choice: its field, and the object whose attribute it is."""
    if isinstance(getattr(choice, "text", None), str):
        yield ("text", 0), choice
    said = getattr(choice, part, None)
    for name in _SAID:
        if isinstance(getattr(said, name, None), str):
            yield (name, 0), said
    for place, call in enumerate(getattr(said, "tool_calls", None) or ()):
        if isinstance(getattr(call.function, "arguments", None), str):
            index = getattr(call, "index", None)
            yield ("arguments", place if index is None else index), call.function


def _ends(running: dict[_Field, TextChange | None]) -> Iterator[tuple[_Field, str]]:
    for field in list(running):
        change = running.pop(field)
        text = change.end() if change is not None else ""
        if text:
            yield field, text


def _append(choice: Any, field: _Field, text: str) -> None:
    """Put more of a running text into a part of a stream."""
    name, number = field
    if name == "text":
        choice.text = (choice.text or "") + text
    elif name != "arguments":
        setattr(choice.delta, name, (getattr(choice.delta, name, None) or "") + text)
    else:
        for (_, other), function in _texts(choice, "delta"):
            if other == number and hasattr(function, "arguments"):
                function.arguments += text
                return
        more = ChatCompletionDeltaToolCall(index=number, function=Function(arguments=text, name=None), type="function")
        choice.delta.tool_calls = [*(choice.delta.tool_calls or ()), more]


def _copy(answer: Any) -> Any:
    """A copy whose choices may be changed: LiteLLM keeps the original for its logs."""
    return answer.model_copy(update={"choices": deepcopy(answer.choices)})


def _marks(answer: Any) -> list[int]:
    """Which modifiers have been here."""
    return list((getattr(answer, "_hidden_params", None) or {}).get(_MARK) or ())


def _mark(answer: Any, marks: list[int]) -> None:
    hidden = answer._hidden_params
    if isinstance(hidden, HiddenParams):
        answer._hidden_params = hidden.model_copy()
        setattr(answer._hidden_params, _MARK, marks)
    else:
        answer._hidden_params = {**(hidden or {}), _MARK: marks}
