"""Reads events of OpenAI's responses, and of transcriptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatehouse.dialects.events import EventView, Kind, Source, index_of, rest, type_of
from gatehouse.dialects.fields import text
from gatehouse.dialects.freejson import json_text
from gatehouse.dialects.messages import block
from gatehouse.dialects.parts import Reader
from gatehouse.dialects.responses import answered_item, response

# By the event without `.delta` or `.done`: the field with the whole text at the end, and its kind.
_RUNNING: dict[str, tuple[str, Kind]] = {
    "response.output_text": ("text", "text"),
    "response.refusal": ("refusal", "text"),
    "response.function_call_arguments": ("arguments", "json"),
    "response.mcp_call_arguments": ("arguments", "json"),
    "response.custom_tool_call_input": ("input", "text"),
    "response.code_interpreter_call_code": ("code", "text"),
    "response.reasoning_summary_text": ("text", "text"),
    "response.reasoning_text": ("text", "text"),
    "response.reasoning_summary": ("text", "text"),
    "response.audio.transcript": ("transcript", "text"),
    "transcript.text": ("text", "text"),
}
_NO_TEXT = frozenset({"response.audio.delta", "response.image_generation_call.partial_image"})
_PLACE = frozenset(
    """type sequence_number item_id output_index content_index summary_index annotation_index logprobs obfuscation
    partial_image_index usage""".split()
)
_NESTED: tuple[tuple[str, Reader], ...] = (("response", response), ("item", answered_item), ("part", block))
_ENDS = frozenset(
    "response.completed response.failed response.incomplete error transcript.text.done response.done".split()
)


def responses_event(event: dict[str, Any]) -> EventView:
    """Read an event of a response, or of a transcription."""
    view = EventView()
    kind = type_of(event)
    if kind in _NO_TEXT:
        return view
    view.identifier(("item_id",), event.get("item_id"))
    name, _, step = kind.rpartition(".")
    if name in _RUNNING and step in ("delta", "done"):
        whole, running = _RUNNING[name]
        source = _response_source(event, name)
        if step == "delta":
            view.piece(("delta",), event.get("delta") or "", source, running)
        else:
            if event.get(whole) is not None:
                view.whole(json_text if running == "json" else text, event[whole], (whole,))
            view.closes.append(source)
        rest(view, event, _PLACE | {"delta", whole})
    else:
        for inside, reader in _NESTED:
            if event.get(inside) is not None:
                view.whole(reader, event[inside], (inside,))
        rest(view, event, _PLACE | {inside for inside, _ in _NESTED})
    if kind == "response.output_item.done":
        view.closes.append((index_of(event, "output_index", 0),))
    if kind in _ENDS:
        view.closes.append(())
    return view


def _response_source(event: dict[str, Any], name: str) -> Source:
    inner = event.get("content_index", event.get("summary_index"))
    return (index_of(event, "output_index", 0), name, inner if isinstance(inner, int) else 0)


def responses_carrier(like: Mapping[str, Any], source: Source, more: str) -> dict[str, Any]:
    """Make a delta with the next piece of one item."""
    place = {name: value for name, value in like.items() if name in _PLACE and name not in ("logprobs", "usage")}
    return {**place, "type": f"{source[1]}.delta", "delta": more}
