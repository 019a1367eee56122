"""Describes the turns of the imitation of strict providers, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Text: TypeAlias = str | Callable[[dict[str, Any]], str]
"""A text, or what makes one from the body of the request."""

DEFAULT_TEXT = "Hello from the provider."


@dataclass(frozen=True)
class Failure:
    """An error instead of an answer, as the provider's own API writes it.

    Attributes:
        kind: `error.type`.
        headers: such as `retry-after`.
    """

    status: int
    message: str = "The provider says no."
    kind: str = "api_error"
    code: str | None = None
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


OVERLOADED = Failure(529, "Overloaded", "overloaded_error", headers={"retry-after": "7"})


@dataclass(frozen=True)
class Call:
    """A call of a tool."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Turn:
    """What the model does in one turn, in the order of the attributes.

    Attributes:
        compaction: its summary of the conversation.
        thinking: thoughts, each of which is signed or encrypted.
        redacted: thoughts that only the provider can read.
        searches: what it searches the web for; the result is encrypted, and the text cites it.
        text: what it says; empty for nothing.
        calls: tools that it calls; with calls the default text is left out.
        failure: an error instead of all of this.
        breaks_off: a stream ends with this error after its beginning.
    """

    text: Text = DEFAULT_TEXT
    calls: tuple[Call, ...] = ()
    thinking: tuple[Text, ...] = ()
    redacted: tuple[str, ...] = ()
    compaction: Text | None = None
    searches: str | None = None
    failure: Failure | None = None
    breaks_off: Failure | None = None

    def of(self, body: dict[str, Any]) -> Said:
        """Return the turn as it answers a request."""
        text = "" if self.calls and self.text == DEFAULT_TEXT else _made(self.text, body)
        compaction = None if self.compaction is None else _made(self.compaction, body)
        thoughts = tuple(_made(each, body) for each in self.thinking)
        return Said(text, self.calls, thoughts, self.redacted, compaction, self.searches)


@dataclass(frozen=True)
class Said:
    """A turn whose texts are made; see `Turn`."""

    text: str
    calls: tuple[Call, ...] = ()
    thinking: tuple[str, ...] = ()
    redacted: tuple[str, ...] = ()
    compaction: str | None = None
    searches: str | None = None


def _made(text: Text, body: dict[str, Any]) -> str:
    return text if isinstance(text, str) else text(body)


def echo(body: dict[str, Any]) -> str:
    """Return the newest text that the caller wrote, or a tool's newest result."""
    said = body.get("messages", body.get("input", body.get("contents")))
    if isinstance(said, str):
        return said
    return next(_texts([said[-1]]), "") if isinstance(said, list) and said else ""


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in reversed(value):
            yield from _texts(each)
    elif isinstance(value, dict):
        for name in ("text", "content", "output", "parts", "function_response", "functionResponse", "response"):
            inner = value.get(name)
            if isinstance(inner, str):
                yield inner
            elif inner is not None:
                yield from _texts(inner)


class Refused(Exception):
    """The provider refuses a request."""

    def __init__(self, message: str, *, status: int = 400, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.failure = Failure(status, message, "invalid_request_error", code, param)


def refuse_unknown(body: Mapping[str, Any], known: Iterable[str], message: str, code: str | None = None) -> None:
    """Refuse a field at the top that the API does not have."""
    for name in body:
        if name not in known:
            raise Refused(message.format(name), code=code, param=name)


def pieces(text: str, size: int) -> list[str]:
    """Cut a text as a stream brings it."""
    return [text[at : at + size] for at in range(0, len(text), size)]


def compact(value: Any) -> str:
    """Write JSON as models write the arguments of tools."""
    return json.dumps(value, ensure_ascii=False)


def sse(event: Mapping[str, Any], *, named: bool = True) -> str:
    """Write an event of a stream."""
    head = f"event: {event['type']}\n" if named else ""
    return f"{head}data: {json.dumps(event)}\n\n"
