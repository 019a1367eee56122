"""Replaces placeholders with their values, in whole answers and in streams cut anywhere.

The map comes with a decision and lives as long as the call. Only the exact form is replaced, and only once: inserted
values are not searched again. Signed thinking stays as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from litellm.types.utils import ChatCompletionDeltaToolCall, Function
from pydantic import BaseModel

_JSON_FIELDS = frozenset({"arguments"})
# What a provider has signed must come back as it was, or the provider refuses the next turn.
_SIGNED_FIELDS = frozenset({"thinking_blocks"})


class Replacements:
    """Hold placeholders and their values."""

    def __init__(self, originals: Mapping[str, str]) -> None:
        self._originals = dict(originals)
        self._longest = max(map(len, originals), default=0)
        # The longest first, because one placeholder may begin another.
        names = sorted((name for name in originals if name), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, names))) if names else None
        self._beginnings = {name[:size] for name in names for size in range(1, len(name))}

    def __repr__(self) -> str:
        return f"Replacements({len(self._originals)})"

    def __bool__(self) -> bool:
        return self._pattern is not None

    def text(self, text: str) -> str:
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: self._originals[match[0]], text)

    def json_text(self, text: str) -> str:
        """Do as `text` for JSON text: write a value as the inside of a JSON string."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: json.dumps(self._originals[match[0]])[1:-1], text)

    def held(self, text: str) -> int:
        """Return where the end of the text may begin a placeholder; the text's length where it does not."""
        for at in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[at:] in self._beginnings:
                return at
        return len(text)

    def restore(self, value: Any) -> Any:
        """Replace the placeholders in every text of the value; dicts, lists and LiteLLM's objects change in place."""
        return self._restore(value, self.text)

    def _restore(self, value: Any, turn: Callable[[str], str]) -> Any:
        if isinstance(value, str):
            return turn(value)
        if isinstance(value, list):
            value[:] = [self._restore(each, turn) for each in value]
        elif isinstance(value, dict):
            value.update({name: self._restore(each, self._turn(name)) for name, each in _unsigned(value.items())})
        elif isinstance(value, BaseModel):
            for name, each in _unsigned(value):
                restored = self._restore(each, self._turn(name))
                if restored is not each:
                    setattr(value, name, restored)
        return value

    def _turn(self, name: Any) -> Callable[[str], str]:
        return self.json_text if name in _JSON_FIELDS else self.text


def _unsigned(fields: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    return [(name, value) for name, value in fields if name not in _SIGNED_FIELDS]


class Running:
    """Unmask one text of a stream, and hold back only what may begin a placeholder."""

    def __init__(self, replacements: Replacements, *, inside_json: bool) -> None:
        self._replacements = replacements
        self._turn = replacements.json_text if inside_json else replacements.text
        self._held = ""

    def push(self, piece: str) -> str:
        text = self._held + piece
        at = self._replacements.held(text)
        self._held = text[at:]
        return self._turn(text[:at])

    def flush(self) -> str:
        text, self._held = self._held, ""
        return self._turn(text)


def copied(answer: Any) -> Any:
    """Return a copy with its own choices. LiteLLM's loggers and caches keep the original, with its placeholders."""
    copy = answer.model_copy()
    copy.choices = deepcopy(answer.choices)
    return copy


class Restorer:
    """Unmask the texts in LiteLLM's chunks of one stream."""

    def __init__(self, replacements: Replacements) -> None:
        self._replacements = replacements
        self._running: dict[tuple[Any, ...], Running] = {}
        self._chunk: Any = None
        self._last: dict[int, Any] = {}

    def chunk(self, chunk: Any) -> Any:
        """Return a copy of the chunk for the caller."""
        chunk = copied(chunk)
        for choice in chunk.choices:
            delta = choice.delta
            if delta is None:
                continue
            self._delta(choice.index, delta)
            self._chunk, self._last[choice.index] = chunk, deepcopy(choice)
            if choice.finish_reason is not None:
                self._flush(choice.index, delta)
        return chunk

    def rest(self) -> Any | None:
        """Return one more chunk with what is still held back, if a stream ends without a finish reason."""
        choices = [self._last[index] for index in sorted({key[0] for key in self._running})]
        for choice in choices:
            for name, value in list(choice.delta):
                if isinstance(value, str) and name != "role":
                    setattr(choice.delta, name, "")
            choice.delta.tool_calls = None
        held = [choice for choice in choices if self._flush(choice.index, choice.delta)]
        if not held:
            return None
        chunk = self._chunk.model_copy()
        chunk.choices = held
        return chunk

    def _delta(self, index: int, delta: Any) -> None:
        for name, value in _unsigned(delta):
            if isinstance(value, str) and name != "role":
                setattr(delta, name, self._run(index, name).push(value))
            elif name == "tool_calls" and isinstance(value, list):
                for call, function in _functions(value):
                    if isinstance(function.arguments, str):
                        function.arguments = self._run(index, "tool_calls", call).push(function.arguments)
            elif name == "function_call" and value is not None:
                if isinstance(value.arguments, str):
                    value.arguments = self._run(index, "function_call").push(value.arguments)
            elif value is not None:
                self._replacements.restore(value)

    def _run(self, *key: Any) -> Running:
        inside_json = key[1] in ("tool_calls", "function_call")
        return self._running.setdefault(key, Running(self._replacements, inside_json=inside_json))

    def _flush(self, index: int, delta: Any) -> bool:
        """Append the text held back to the delta's texts; return whether there was any."""
        held = False
        for key in [key for key in self._running if key[0] == index]:
            text = self._running.pop(key).flush()
            if not text:
                continue
            held = True
            if key[1] == "tool_calls":
                _add_arguments(delta, key[2], text)
            elif key[1] == "function_call":
                delta.function_call = {"name": None, "arguments": text}
            else:
                setattr(delta, key[1], (getattr(delta, key[1], None) or "") + text)
        return held


def _functions(calls: list[Any]) -> Iterator[tuple[int, Any]]:
    for position, call in enumerate(calls):
        function = getattr(call, "function", None)
        if function is not None:
            index = getattr(call, "index", None)
            yield position if index is None else index, function


def _add_arguments(delta: Any, index: int, text: str) -> None:
    for found, function in _functions(delta.tool_calls or []):
        if found == index:
            function.arguments = (function.arguments or "") + text
            return
    call = ChatCompletionDeltaToolCall(index=index, type="function", function=Function(arguments=text, name=None))
    delta.tool_calls = [*(delta.tool_calls or []), call]
