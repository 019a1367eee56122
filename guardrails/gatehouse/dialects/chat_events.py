"""Reads chunks of chat completions and of completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatehouse.dialects.content import provider_fields, thinking_rest
from gatehouse.dialects.events import EventView, Kind, Source, index_of, objects, rest
from gatehouse.dialects.freejson import free
from gatehouse.dialects.parts import Path, unknown

_SAID = frozenset({"content", "refusal", "reasoning_content", "reasoning"})
_CHUNK = frozenset("id object created model usage system_fingerprint service_tier obfuscation choices".split())
_OF_PROVIDERS = frozenset({"reasoning_items", "extra_content"})
_CALL: dict[str, tuple[str, Kind]] = {"function": ("arguments", "json"), "custom": ("input", "text")}


def chat_event(event: dict[str, Any]) -> EventView:
    """Read a chunk of a chat completion, or of a completion."""
    view = EventView()
    rest(view, event, _CHUNK)
    for position, choice in objects(event.get("choices"), ("choices",)):
        path: Path = ("choices", position)
        index = index_of(choice, "index", position)
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
            for position, call in objects(value, below):
                _chat_call(view, call, (*below, position), (index, "tool", index_of(call, "index", position)))
        elif name == "function_call":
            _named_call(view, value, below, (index, "function_call"), ("arguments", "json"))
        elif name == "audio" and isinstance(value, dict):
            view.piece((*below, "transcript"), value.get("transcript") or "", (index, "audio"))
        elif name == "thinking_blocks":
            _thoughts(view, value, below, (index, name))
        elif name == "provider_specific_fields" and isinstance(value, dict):
            _thoughts(view, value.get("thinking_blocks"), (*below, "thinking_blocks"), (index, name))
            others = {each: inner for each, inner in value.items() if each != "thinking_blocks"}
            view.whole(provider_fields, others, below)
        else:
            view.whole(provider_fields if name in _OF_PROVIDERS else free, value, below)


def _thoughts(view: EventView, blocks: Any, path: Path, source: Source) -> None:
    """Read pieces of signed thinking. Its signature comes last, in a piece without text."""
    for position, thought in objects(blocks, path):
        view.piece((*path, position, "thinking"), thought.get("thinking") or "", (*source, "thinking"), sealed=True)
        if thought.get("signature"):
            view.signature((*path, position, "signature"), thought["signature"], source)
        if others := {name: each for name, each in thought.items() if name not in ("type", "thinking", "signature")}:
            view.whole(thinking_rest, others, (*path, position))


def _chat_call(view: EventView, call: dict[str, Any], path: Path, source: Source) -> None:
    for name, value in call.items():
        if value is None or name in ("index", "type"):
            continue
        if name == "id":
            view.identifier((*path, name), value)
        elif name in _CALL:
            _named_call(view, value, (*path, name), source, _CALL[name])
        else:
            view.whole(provider_fields, value, (*path, name))


def _named_call(view: EventView, value: Any, path: Path, source: Source, running: tuple[str, Kind]) -> None:
    if not isinstance(value, dict):
        raise unknown(path, "an object was expected")
    for name, inner in value.items():
        if inner is None:
            continue
        if name == running[0]:
            view.piece((*path, name), inner, (*source, name), running[1])
        else:
            view.whole(provider_fields if name == "provider_specific_fields" else free, inner, (*path, name), "other")


def chat_carrier(like: Mapping[str, Any], source: Source, more: str) -> dict[str, Any]:
    """Make a chunk with the next piece of one text."""
    index, name, *rest = source
    envelope = {key: value for key, value in like.items() if key not in ("choices", "usage")}
    if name == "text":
        choice: dict[str, Any] = {"text": more}
    elif name == "tool":
        call = "custom" if rest[1] == "input" else "function"
        choice = {"delta": {"tool_calls": [{"index": rest[0], call: {str(rest[1]): more}}]}}
    elif name in ("thinking_blocks", "provider_specific_fields"):
        thoughts = [{"type": "thinking", "thinking": more}]
        choice = {"delta": {name: thoughts if name == "thinking_blocks" else {"thinking_blocks": thoughts}}}
    elif name == "audio":
        choice = {"delta": {name: {"transcript": more}}}
    else:
        choice = {"delta": {name: {str(rest[0]): more} if rest else more}}
    return {**envelope, "choices": [{"index": index, **choice, "finish_reason": None}]}
