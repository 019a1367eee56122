"""Writing texts back to where they were found, in place.

JSON inside a string is written anew only when something in it changes, so writing back what was read changes no byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from typing import Any

from gatehouse.shapes.freejson import decode, number_text
from gatehouse.shapes.parts import JSON, KEY, Path, Step, unknown


class _Node:
    """What is to be written at and below one place."""

    __slots__ = ("name", "steps", "text")

    def __init__(self) -> None:
        self.text: str | None = None
        self.name: str | None = None
        self.steps: dict[str | int | Step, _Node] = {}


def write_back(body: MutableMapping[str, Any], replacements: Mapping[Path, str]) -> None:
    """Replace the texts at the given paths.

    Raises:
        UnknownShape: a path leads nowhere, or two names of one object would become the same; the body may then be
            half-written and must not be used.
    """
    root = _Node()
    for path, text in replacements.items():
        node = root
        for step in path:
            if step is KEY:
                break
            node = node.steps.setdefault(step, _Node())
        if path and path[-1] is KEY:
            node.name = text
        else:
            node.text = text
    if root.steps:
        _below(body, root, ())


def _write(container: Any, step: Any, node: _Node, path: Path) -> bool:
    """Write at `container[step]` and below; say whether anything changed."""
    try:
        value = container[step]
    except (LookupError, TypeError):
        raise unknown(path, "there is nothing to replace") from None
    if node.text is not None:
        if not isinstance(value, str | int | float):
            raise unknown(path, "there is no text to replace")
        if node.text == (value if isinstance(value, str) else number_text(value)):
            return False
        container[step] = node.text
        return True
    if JSON in node.steps:
        try:
            box = [decode(value)]
        except (TypeError, ValueError, RecursionError):
            raise unknown(path, "there is no JSON to replace") from None
        if not _write(box, 0, node.steps[JSON], (*path, JSON)):
            return False
        container[step] = _encode(box[0])
        return True
    return _below(value, node, path)


def _below(value: Any, node: _Node, path: Path) -> bool:
    if not isinstance(value, dict | list):
        raise unknown(path, "there is nothing to replace")
    changed = False
    renamed: dict[str, str] = {}
    for step, inner in node.steps.items():
        if inner.name is not None and inner.name != step:
            renamed[str(step)] = inner.name
        if inner.text is not None or inner.steps:
            changed |= _write(value, step, inner, (*path, step))
    if renamed:
        _rename(value, renamed, path)
    return changed or bool(renamed)


def _rename(value: Any, renamed: Mapping[str, str], path: Path) -> None:
    if not isinstance(value, dict) or not renamed.keys() <= value.keys():
        raise unknown(path, "there is no name to replace")
    entries = [(renamed.get(name, name), inner) for name, inner in value.items()]
    if len(dict(entries)) != len(entries):
        raise unknown(path, "two names would become one")
    value.clear()
    value.update(entries)


def _encode(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    # A lone surrogate can only be sent escaped.
    return text if _encodable(text) else json.dumps(value)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
