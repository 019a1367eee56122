"""Reads every API shape in one way, so that each text that a model reads or writes can be scanned and replaced.

Tables describe each dialect. A body that they do not describe is refused with `UnknownShape`, the only exception here.
Writing back what was read changes nothing. The call types are LiteLLM's `CallTypes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from gatehouse.dialects import chat, media, messages, responses
from gatehouse.dialects.chat_events import chat_carrier, chat_event
from gatehouse.dialects.events import EventView, Source
from gatehouse.dialects.fields import refuse
from gatehouse.dialects.litellm_fields import Request, callers_metadata
from gatehouse.dialects.messages_events import messages_carrier, messages_event
from gatehouse.dialects.parts import BodyView, Reader, UnknownShape, plain, unknown
from gatehouse.dialects.responses_events import responses_carrier, responses_event

# By LiteLLM's names: the hook receives the asynchronous one for most calls, and the other for some older routes.
_DIALECTS: dict[str, tuple[Reader, Reader]] = {
    "completion": (chat.chat_request, chat.chat_answer),
    "text_completion": (chat.completions_request, chat.completions_answer),
    "embedding": (media.embeddings_request, media.numbers_answer),
    "moderation": (media.moderations_request, media.numbers_answer),
    "rerank": (media.rerank_request, media.rerank_answer),
    "image_generation": (media.images_request, media.images_answer),
    "speech": (media.speech_request, media.numbers_answer),
    "transcription": (media.transcription_request, media.transcription_answer),
    "anthropic_messages": (messages.messages_request, messages.messages_answer),
    "responses": (responses.responses_request, responses.responses_answer),
}
_BY_CALL_TYPE: dict[str, tuple[Reader, Reader]] = {
    **_DIALECTS,
    **{f"a{name}": readers for name, readers in _DIALECTS.items()},
    "call_mcp_tool": (media.mcp_request, media.mcp_answer),
    # Requests about stored responses send no content.
    **dict.fromkeys(("aget_responses", "acancel_responses", "adelete_responses"), (refuse, responses.responses_answer)),
    "alist_input_items": (refuse, responses.input_items_answer),
}

# The fields of every route's API.
ALL_NAMES: Final = frozenset[str]().union(
    *(reader.names for reader, _ in _DIALECTS.values() if isinstance(reader, Request))
)

_StreamReader: TypeAlias = Callable[[dict[str, Any]], EventView]
_Carrier: TypeAlias = Callable[[Mapping[str, Any], Source, str], dict[str, Any]]
_STREAMS: dict[str, tuple[_StreamReader, _Carrier]] = {
    "completion": (chat_event, chat_carrier),
    "text_completion": (chat_event, chat_carrier),
    "anthropic_messages": (messages_event, messages_carrier),
    "responses": (responses_event, responses_carrier),
    "get_responses": (responses_event, responses_carrier),
    "transcription": (responses_event, responses_carrier),
}


def names_of(call_type: str) -> frozenset[str]:
    """Return the fields that the API of a call type has at the top of a request.

    Raises:
        UnknownShape: the call type is unknown.
    """
    reader = _readers(call_type)[0]
    return reader.names if isinstance(reader, Request) else frozenset()


def request_view(call_type: str, body: Mapping[str, Any], *, metadata: Iterable[str] = ()) -> BodyView:
    """Return everything in a request that a model will read: its texts and its files.

    Args:
        metadata: the caller's names in the request's metadata; LiteLLM keeps its own notes beside them.

    Raises:
        UnknownShape: the call type or the body is unknown.
    """
    view = _view(call_type, body, 0)
    try:
        callers_metadata(view, body, frozenset(metadata), names_of(call_type))
    except RecursionError:
        raise unknown(("metadata",), "nested too deep") from None
    return view


def answer_view(call_type: str, answer: Mapping[str, Any]) -> BodyView:
    """Return every text and file of a whole answer. Unknown fields are read as free JSON.

    Raises:
        UnknownShape: the call type or the answer is unknown.
    """
    return _view(call_type, answer, 1)


def _readers(call_type: str) -> tuple[Reader, Reader]:
    readers = _BY_CALL_TYPE.get(call_type) if isinstance(call_type, str) else None
    if readers is None:
        raise UnknownShape(f"no shape is known for call type {plain(call_type) or '…'}")
    return readers


def _view(call_type: str, body: Mapping[str, Any], side: int) -> BodyView:
    readers = _readers(call_type)
    if not isinstance(body, Mapping):
        raise unknown((), "an object was expected")
    view = BodyView()
    try:
        readers[side](view, body if isinstance(body, dict) else dict(body), (), "user")
    except RecursionError:
        raise unknown((), "nested too deep") from None
    return view


def event_view(call_type: str, event: Mapping[str, Any]) -> EventView:
    """Return the content of one event of a stream; `write_back` writes to its paths too.

    Raises:
        UnknownShape: the call type has no known stream, or the event is unknown.
    """
    reader = _stream(call_type)[0]
    if not isinstance(event, Mapping):
        raise unknown((), "an object was expected")
    try:
        return reader(event if isinstance(event, dict) else dict(event))
    except RecursionError:
        raise unknown((), "nested too deep") from None


def carrier(call_type: str, like: Mapping[str, Any], source: Source, text: str) -> dict[str, Any]:
    """Make an event that carries `text` as the next piece of a running text, and nothing else.

    Args:
        call_type: LiteLLM's call type.
        like: an event with an earlier piece of this text; its identifiers are copied.
        source: the running text, from a `DeltaPart` of that event.
        text: the piece.
    """
    return _stream(call_type)[1](like, source, text)


def _stream(call_type: str) -> tuple[_StreamReader, _Carrier]:
    name = call_type if isinstance(call_type, str) else ""
    known = _STREAMS.get(name) or _STREAMS.get(name.removeprefix("a"))
    if known is None:
        raise UnknownShape(f"no stream is known for call type {plain(call_type) or '…'}")
    return known
