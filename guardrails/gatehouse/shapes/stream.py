"""Stream events: which running text each piece continues, which whole texts an event repeats, and what it ends.

A running text is known by its source: the choice, block or item first, then what of it. `carrier` makes an event that
brings a little more of one, for text that was held back until its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from gatehouse.shapes.content import citations
from gatehouse.shapes.fields import Reader, fields, skip, text
from gatehouse.shapes.freejson import free, json_text
from gatehouse.shapes.messages import block, messages_answer
from gatehouse.shapes.parts import DeltaPart, Path, TextPart, View, unknown
from gatehouse.shapes.responses import answered_item, response

Source: TypeAlias = tuple[str | int, ...]
Kind: TypeAlias = Literal["text", "json"]


@dataclass(slots=True)
class EventView:
    """What one event says.

    Attributes:
        deltas: pieces of running texts.
        texts: texts that are whole; some repeat what came in pieces.
        closes: sources that get no more after this event; one stands for all that begin with it, and the empty one for
            all.
    """

    deltas: list[DeltaPart] = field(default_factory=list)
    texts: list[TextPart] = field(default_factory=list)
    closes: list[Source] = field(default_factory=list)

    def piece(self, path: Path, value: Any, source: Source, kind: Kind = "text") -> None:
        """Note a piece of a running text."""
        if not isinstance(value, str):
            raise unknown(path, "a text was expected")
        if value:
            self.deltas.append(DeltaPart(path, value, source, kind))

    def whole(self, reader: Reader, value: Any, path: Path, role: str = "assistant") -> None:
        """Note the whole texts that a reader finds."""
        view = View()
        reader(view, value, path, role)
        self.texts += view.texts


# ----- chat completions and completions

_SAID = frozenset({"content", "refusal", "reasoning_content", "reasoning"})
_CHUNK = frozenset("id object created model usage system_fingerprint service_tier obfuscation choices".split())
_CALL: dict[str, tuple[str, Kind]] = {"function": ("arguments", "json"), "custom": ("input", "text")}


def chat_event(event: dict[str, Any]) -> EventView:
    """A chunk of a chat completion, or of a completion."""
    view = EventView()
    _rest(view, event, _CHUNK)
    for position, choice in _objects(event.get("choices"), ("choices",)):
        path: Path = ("choices", position)
        index = _index(choice, "index", position)
        for name, value in choice.items():
            if value is None or name in ("index", "logprobs"):
                continue
            if name == "delta":
                _chat_delta(view, value, (*path, name), index)
            elif name == "text":
                view.piece((*path, name), value, (index, "text"))
            elif name == "finish_reason":
                view.closes.append((index,))
            else:
                view.whole(free, value, (*path, name))
    return view


def _chat_delta(view: EventView, delta: Any, path: Path, index: int) -> None:
    if not isinstance(delta, dict):
        raise unknown(path, "an object was expected")
    for name, value in delta.items():
        if value is None or name == "role":
            continue
        below = (*path, name)
        if name in _SAID:
            view.piece(below, value, (index, name))
        elif name == "tool_calls":
            for position, call in _objects(value, below):
                _chat_call(view, call, (*below, position), (index, "tool", _index(call, "index", position)))
        elif name == "function_call":
            _named_call(view, value, below, (index, "function_call"), ("arguments", "json"))
        elif name == "audio" and isinstance(value, dict):
            view.piece((*below, "transcript"), value.get("transcript") or "", (index, "audio"))
        elif name == "thinking_blocks":
            for position, thought in _objects(value, below):
                view.piece(
                    (*below, position, "thinking"),
                    thought.get("thinking") or "",
                    (index, "thinking_blocks", "thinking"),
                )
        else:
            view.whole(free, value, below)


def _chat_call(view: EventView, call: dict[str, Any], path: Path, source: Source) -> None:
    for name, value in call.items():
        if value is None or name in ("index", "id", "type"):
            continue
        if name in _CALL:
            _named_call(view, value, (*path, name), source, _CALL[name])
        else:
            view.whole(free, value, (*path, name))


def _named_call(view: EventView, value: Any, path: Path, source: Source, running: tuple[str, Kind]) -> None:
    if not isinstance(value, dict):
        raise unknown(path, "an object was expected")
    for name, inner in value.items():
        if inner is None:
            continue
        if name == running[0]:
            view.piece((*path, name), inner, (*source, name), running[1])
        else:
            view.whole(free, inner, (*path, name), "other")


def _chat_carrier(like: Mapping[str, Any], source: Source, more: str) -> dict[str, Any]:
    index, name, *rest = source
    envelope = {key: value for key, value in like.items() if key not in ("choices", "usage")}
    if name == "text":
        said: dict[str, Any] = {"text": more}
    elif name == "tool":
        call = "custom" if rest[1] == "input" else "function"
        said = {"delta": {"tool_calls": [{"index": rest[0], call: {str(rest[1]): more}}]}}
    elif name == "thinking_blocks":
        said = {"delta": {name: [{"type": "thinking", "thinking": more}]}}
    elif name == "audio":
        said = {"delta": {name: {"transcript": more}}}
    else:
        said = {"delta": {name: {str(rest[0]): more} if rest else more}}
    return {**envelope, "choices": [{"index": index, **said, "finish_reason": None}]}


# ----- Anthropic's messages

# The type of a delta -> its field and what that is.
_BLOCK_DELTAS: dict[str, tuple[str, Kind]] = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "text"),
    "input_json_delta": ("partial_json", "json"),
    "compaction_delta": ("content", "text"),
}
_BLOCK_STARTS = {"text": "text", "thinking": "thinking"}
_message_delta = fields({"usage": skip, "delta": fields({"stop_reason": skip}, otherwise=free)}, otherwise=free)


def messages_event(event: dict[str, Any]) -> EventView:
    """An event of a message."""
    view = EventView()
    reader = _MESSAGE_EVENTS.get(_type(event))
    if reader is None:
        _rest(view, event, frozenset({"type"}))
    else:
        reader(view, event)
    return view


def _block_start(view: EventView, event: dict[str, Any]) -> None:
    path: Path = ("content_block",)
    started = event.get("content_block")
    if not isinstance(started, dict):
        raise unknown(path, "an object was expected")
    index, running = _index(event, "index", 0), _BLOCK_STARTS.get(_type(started))
    if running is None:
        view.whole(block, started, path)
        return
    view.piece((*path, running), started.get(running) or "", (index, running))
    if started.get("citations"):
        view.whole(citations, started["citations"], (*path, "citations"))


def _block_delta(view: EventView, event: dict[str, Any]) -> None:
    path: Path = ("delta",)
    delta = event.get("delta")
    if not isinstance(delta, dict):
        raise unknown(path, "an object was expected")
    kind = _type(delta)
    if kind == "signature_delta":
        return
    if kind not in _BLOCK_DELTAS:
        view.whole(free, {name: value for name, value in delta.items() if name != "type"}, path)
        return
    name, running = _BLOCK_DELTAS[kind]
    view.piece((*path, name), delta.get(name) or "", (_index(event, "index", 0), name), running)


_MESSAGE_EVENTS: dict[str, Callable[[EventView, dict[str, Any]], None]] = {
    "message_start": lambda view, event: view.whole(messages_answer, event.get("message") or {}, ("message",)),
    "content_block_start": _block_start,
    "content_block_delta": _block_delta,
    "content_block_stop": lambda view, event: view.closes.append((_index(event, "index", 0),)),
    "message_delta": lambda view, event: view.whole(_message_delta, _without_type(event), ()),
    "message_stop": lambda view, event: view.closes.append(()),
    "ping": lambda view, event: None,
}


def _messages_carrier(like: Mapping[str, Any], source: Source, more: str) -> dict[str, Any]:
    index, name = source
    kind = next(kind for kind, (field_name, _) in _BLOCK_DELTAS.items() if field_name == name)
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, name: more}}


# ----- OpenAI's responses, and transcriptions

# The event without `.delta` or `.done` -> the field that holds the whole text at the end, and what that is.
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
    """An event of a response, or of a transcription."""
    view = EventView()
    kind = _type(event)
    if kind in _NO_TEXT:
        return view
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
        _rest(view, event, _PLACE | {"delta", whole})
    else:
        for inside, reader in _NESTED:
            if event.get(inside) is not None:
                view.whole(reader, event[inside], (inside,))
        _rest(view, event, _PLACE | {inside for inside, _ in _NESTED})
    if kind == "response.output_item.done":
        view.closes.append((_index(event, "output_index", 0),))
    if kind in _ENDS:
        view.closes.append(())
    return view


def _response_source(event: dict[str, Any], name: str) -> Source:
    inner = event.get("content_index", event.get("summary_index"))
    return (_index(event, "output_index", 0), name, inner if isinstance(inner, int) else 0)


def _responses_carrier(like: Mapping[str, Any], source: Source, more: str) -> dict[str, Any]:
    place = {name: value for name, value in like.items() if name in _PLACE and name not in ("logprobs", "usage")}
    return {**place, "type": f"{source[1]}.delta", "delta": more}


# ----- all of them


def _type(event: dict[str, Any]) -> str:
    kind = event.get("type")
    if not isinstance(kind, str):
        return ""
    return str(getattr(kind, "value", kind))  # LiteLLM's events carry an enumeration


def _index(event: dict[str, Any], name: str, otherwise: int) -> int:
    index = event.get(name)
    return index if isinstance(index, int) else otherwise


def _objects(items: Any, path: Path) -> list[tuple[int, dict[str, Any]]]:
    if items is None:
        return []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise unknown(path, "a list of objects was expected")
    return list(enumerate(items))


def _without_type(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "type"}


def _rest(view: EventView, event: dict[str, Any], known: frozenset[str]) -> None:
    """Whatever else an event says, read as free JSON."""
    for name, value in event.items():
        if name not in known and value is not None:
            if not isinstance(name, str):
                raise unknown((), "a field without a name")
            view.whole(free, value, (name,))


StreamReader: TypeAlias = Callable[[dict[str, Any]], EventView]
Carrier: TypeAlias = Callable[[Mapping[str, Any], Source, str], dict[str, Any]]
DIALECTS: dict[str, tuple[StreamReader, Carrier]] = {
    "completion": (chat_event, _chat_carrier),
    "text_completion": (chat_event, _chat_carrier),
    "anthropic_messages": (messages_event, _messages_carrier),
    "responses": (responses_event, _responses_carrier),
    "transcription": (responses_event, _responses_carrier),
}
