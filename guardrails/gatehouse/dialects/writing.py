"""Writes texts back in place to where they were found.

JSON inside a string changes only at its texts: blanks, number formats and escapes stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from itertools import accumulate
from os.path import commonprefix
from typing import Any, Final

from gatehouse.core.strict_json import decode
from gatehouse.core.text import Spliced, is_encodable
from gatehouse.dialects.file_text import file_text
from gatehouse.dialects.freejson import number_text
from gatehouse.dialects.parts import FILE, JSON, KEY, Path, Step, unknown


class _Node:
    """Hold the texts to write at and below one place."""

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


def _write(container: Any, step: Any, node: _Node, path: Path) -> None:
    """Write at `container[step]` and below."""
    try:
        value = container[step]
    except (LookupError, TypeError):
        raise unknown(path, "there is nothing to replace") from None
    if node.text is not None:
        _check_text(value, path)
        if node.text != _text_of(value):
            container[step] = str(node.text)
    elif FILE in node.steps:
        read = file_text(value) if isinstance(value, str) else None
        text = node.steps[FILE].text
        if read is None or text is None:
            raise unknown(path, "there is no file to replace")
        if text != read.text:
            container[step] = read.written(text)
    elif JSON in node.steps:
        container[step] = str(_json_text(value, node.steps[JSON], (*path, JSON)))
    else:
        _below(value, node, path)


def _check_text(value: Any, path: Path) -> None:
    if not isinstance(value, str | int | float):
        raise unknown(path, "there is no text to replace")


def _text_of(value: str | float) -> str | None:
    return value if isinstance(value, str) else number_text(value)


def _below(value: Any, node: _Node, path: Path) -> None:
    if not isinstance(value, dict | list):
        raise unknown(path, "there is nothing to replace")
    renamed: dict[str, str] = {}
    for step, inner in node.steps.items():
        if inner.name is not None and inner.name != step:
            renamed[str(step)] = inner.name
        if inner.text is not None or inner.steps:
            _write(value, step, inner, (*path, step))
    if renamed:
        _rename(value, renamed, path)


def _rename(value: Any, renamed: Mapping[str, str], path: Path) -> None:
    if not isinstance(value, dict) or not renamed.keys() <= value.keys():
        raise unknown(path, "there is no name to replace")
    entries = [(renamed.get(name, name), inner) for name, inner in value.items()]
    if len(dict(entries)) != len(entries):
        raise unknown(path, "two names would become one")
    value.clear()
    value.update(entries)


_BLANKS: Final = re.compile(r"[ \t\n\r]*")
# One character of a JSON string; Python joins two escaped surrogates.
_UNIT: Final = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|[^\\]", re.ASCII | re.DOTALL
)
_raw_decode: Final = json.JSONDecoder().raw_decode
_raw_encode: Final = json.JSONEncoder(ensure_ascii=False).encode


def _json_text(value: Any, node: _Node, path: Path) -> Spliced:
    """Return JSON text with the texts at and below its top replaced."""
    try:
        decode(value)
        edits: list[tuple[int, int, str]] = []
        _edit(value, _blanks(value, 0), node, path, edits)
    except (TypeError, ValueError, RecursionError):
        raise unknown(path[:-1], "there is no JSON to replace") from None
    return Spliced.of(value, edits)


def _edit(text: str, at: int, node: _Node | None, path: Path, edits: list[tuple[int, int, str]]) -> int:
    """Add the edits in the value that begins at `at`; return its end. The text is JSON."""
    edit = {"{": _edit_object, "[": _edit_array}.get(text[at])
    if edit and node is not None and node.steps and JSON not in node.steps:
        return edit(text, at, node, path, edits)
    value, end = _raw_decode(text, at)
    if node is None:
        return end
    if node.text is not None:
        _check_text(value, path)
        if node.text != _text_of(value):
            edits += _replaced(text, at, end, value, node.text)
        return end
    if JSON in node.steps:
        edits += _replaced(text, at, end, value, _json_text(value, node.steps[JSON], (*path, JSON)))
        return end
    box = [value]
    _write(box, 0, node, path)
    if box[0] != value:
        edits += _replaced(text, at, end, value, box[0])
    return end


def _edit_object(text: str, at: int, node: _Node, path: Path, edits: list[tuple[int, int, str]]) -> int:
    names: dict[str, str] = {}
    at = _blanks(text, at + 1)
    while text[at] != "}":
        name, end = _raw_decode(text, at)
        below = node.steps.get(name)
        names[name] = name if below is None or below.name is None else below.name
        if names[name] != name:
            edits += _replaced(text, at, end, name, names[name])
        at = _blanks(text, _blanks(text, end) + 1)
        written = below is not None and (below.text is not None or below.steps)
        at = _blanks(text, _edit(text, at, below if written else None, (*path, name), edits))
        if text[at] == ",":
            at = _blanks(text, at + 1)
    if not node.steps.keys() <= names.keys():
        raise unknown(path, "there is nothing to replace")
    if len(set(names.values())) != len(names):
        raise unknown(path, "two names would become one")
    return at + 1


def _edit_array(text: str, at: int, node: _Node, path: Path, edits: list[tuple[int, int, str]]) -> int:
    index = 0
    at = _blanks(text, at + 1)
    while text[at] != "]":
        at = _blanks(text, _edit(text, at, node.steps.get(index), (*path, index), edits))
        index += 1
        if text[at] == ",":
            at = _blanks(text, at + 1)
    if any(not isinstance(step, int) or not 0 <= step < index for step in node.steps):
        raise unknown(path, "there is nothing to replace")
    return at + 1


def _blanks(text: str, at: int) -> int:
    return _BLANKS.match(text, at).end()  # type: ignore[union-attr]  # it also matches the empty text


def _replaced(text: str, at: int, end: int, old: Any, new: str) -> Iterator[tuple[int, int, str]]:
    """Yield the edits that give the value at `text[at:end]` new content; what is not replaced keeps its spelling."""
    if not isinstance(old, str):  # a number
        yield at, end, _encode(new)
        return
    places: Sequence[int] = range(len(old) + 1)
    if "\\" in text[at:end]:
        places = [0, *accumulate(map(len, _UNIT.findall(text, at + 1, end - 1)))]
    for start, stop, part in _parts(old, new):
        yield at + 1 + places[start], at + 1 + places[stop], _encode(part)[1:-1]


def _parts(old: str, new: str) -> Sequence[tuple[int, int, str]]:
    """Return which parts of a text were replaced, and with what."""
    if isinstance(new, Spliced):
        return new.parts
    before = len(commonprefix((old, new)))
    behind = len(commonprefix((old[before:][::-1], new[before:][::-1])))
    return ((before, len(old) - behind, new[before : len(new) - behind]),)


def _encode(text: str) -> str:
    written = _raw_encode(text)
    # A lone surrogate can only be sent escaped.
    return written if is_encodable(written) else json.dumps(text)
