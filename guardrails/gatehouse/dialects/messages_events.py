"""Reads events of Anthropic's messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gatehouse.dialects.content import citations, provider_fields
from gatehouse.dialects.events import EventView, Kind, Source, index_of, rest, type_of, without_type
from gatehouse.dialects.fields import fields, skip
from gatehouse.dialects.freejson import free
from gatehouse.dialects.messages import block, messages_answer
from gatehouse.dialects.parts import Path, unknown

# By the type of a delta: its field, and the kind of text in it.
_BLOCK_DELTAS: dict[str, tuple[str, Kind]] = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "text"),
    "input_json_delta": ("partial_json", "json"),
    "compaction_delta": ("content", "text"),
}
_BLOCK_STARTS = {"text": "text", "thinking": "thinking"}
_message_delta = fields({"usage": skip, "delta": fields({"stop_reason": skip}, otherwise=free)}, otherwise=free)


def messages_event(event: dict[str, Any]) -> EventView:
    """Read an event of a message."""
    view = EventView()
    reader = _MESSAGE_EVENTS.get(type_of(event))
    if reader is None:
        rest(view, event, frozenset({"type"}))
    else:
        reader(view, event)
    return view


def _block_start(view: EventView, event: dict[str, Any]) -> None:
    path: Path = ("content_block",)
    started = event.get("content_block")
    if not isinstance(started, dict):
        raise unknown(path, "an object was expected")
    index, running = index_of(event, "index", 0), _BLOCK_STARTS.get(type_of(started))
    if running is None:
        view.whole(block, started, path)
        return
    view.piece((*path, running), started.get(running) or "", (index, running), sealed=running == "thinking")
    if started.get("signature"):
        view.signature((*path, "signature"), started["signature"], (index,))
    if started.get("citations"):
        view.whole(citations, started["citations"], (*path, "citations"))


def _block_delta(view: EventView, event: dict[str, Any]) -> None:
    path: Path = ("delta",)
    delta = event.get("delta")
    if not isinstance(delta, dict):
        raise unknown(path, "an object was expected")
    kind, index = type_of(delta), index_of(event, "index", 0)
    name, running = _BLOCK_DELTAS.get(kind, ("", "text"))
    if name:
        # The signature of thinking may come at its end, that of a summary only together with it.
        sealed = name == "thinking" or bool(delta.get("signature"))
        view.piece((*path, name), delta.get(name) or "", (index, name), running, sealed=sealed)
    if delta.get("signature"):
        view.signature((*path, "signature"), delta["signature"], (index,))
    if others := {each: value for each, value in delta.items() if each not in ("type", "signature", name)}:
        view.whole(provider_fields, others, path)


_MESSAGE_EVENTS: dict[str, Callable[[EventView, dict[str, Any]], None]] = {
    "message_start": lambda view, event: view.whole(messages_answer, event.get("message") or {}, ("message",)),
    "content_block_start": _block_start,
    "content_block_delta": _block_delta,
    "content_block_stop": lambda view, event: view.closes.append((index_of(event, "index", 0),)),
    "message_delta": lambda view, event: view.whole(_message_delta, without_type(event), ()),
    "message_stop": lambda view, event: view.closes.append(()),
    "ping": lambda view, event: None,
}


def messages_carrier(like: Mapping[str, Any], source: Source, more: str) -> dict[str, Any]:
    """Make a delta with the next piece of one block."""
    index, name = source
    kind = next(kind for kind, (field_name, _) in _BLOCK_DELTAS.items() if field_name == name)
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, name: more}}
