"""Reads free JSON: tool arguments, results, schemas. Every string, every name and every long number is text.

JSON inside a string is read decoded where that shows more than the string itself: a model reads `\\u0040` as @.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from gatehouse.core.strict_json import RepeatedName, decode
from gatehouse.dialects.file_text import file_text
from gatehouse.dialects.parts import (
    FILE,
    JSON,
    KEY,
    MAX_DEPTH,
    MAX_PARTS,
    BodyView,
    Path,
    Reader,
    TooManyTexts,
    UnknownShape,
    unknown,
)

# Numbers with seven digits or more can be a telephone, card or account number.
_LONG_NUMBER = 1_000_000
# From here on everybody writes an exponent.
_IN_DIGITS = 1e21
# Python refuses to print integers of more than 4,300 digits, which are some 14,000 bits.
_MAX_NUMBER_BITS = 4_096

# JSON Schema's own names and words, which no caller chose.
_SCHEMA_NAMES = frozenset(
    """
    $defs $id $ref $schema $anchor $comment additionalProperties allOf anyOf const contains contentEncoding
    contentMediaType default definitions dependentRequired deprecated description else enum examples exclusiveMaximum
    exclusiveMinimum format if items maxItems maxLength maxProperties maximum minItems minLength minProperties minimum
    multipleOf not nullable oneOf pattern patternProperties prefixItems properties propertyNames propertyOrdering
    readOnly required strict then title type unevaluatedProperties uniqueItems writeOnly
    """.split()
)
_SCHEMA_TYPES = frozenset("string number integer boolean object array null STRING NUMBER INTEGER OBJECT ARRAY".split())


def free_but(known: Mapping[str, Reader]) -> Reader:
    """Make a reader of any JSON value, with readers for the fields of some names, wherever they stand in it."""

    def read(view: BodyView, value: Any, path: Path, role: str) -> None:
        if isinstance(value, str):
            _string(view, value, path, role)
        elif isinstance(value, dict):
            _check_depth(path)
            for name, inner in value.items():
                if not isinstance(name, str):
                    raise unknown(path, "a field without a name")
                below, reader = (*path, name), known.get(name)
                if reader is None:
                    view.text((*below, KEY), name, role)
                if inner is not None:
                    (reader or read)(view, inner, below, role)
        elif isinstance(value, list):
            _check_depth(path)
            for index, inner in enumerate(value):
                if inner is not None:
                    read(view, inner, (*path, index), role)
        else:
            _plain_value(view, value, path, role)

    return read


_free: Final = free_but({})


def free(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read any JSON value."""
    _free(view, value, path, role)


def schema(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read a JSON Schema: free JSON without JSON Schema's own words."""
    if isinstance(value, str):
        view.text(path, value, role)
    elif isinstance(value, dict):
        _check_depth(path)
        for name, inner in value.items():
            if not isinstance(name, str):
                raise unknown(path, "a field without a name")
            if name not in _SCHEMA_NAMES:
                view.text((*path, name, KEY), name, role)
            if inner is None or (name == "type" and isinstance(inner, str) and inner in _SCHEMA_TYPES):
                continue
            schema(view, inner, (*path, name), role)
    elif isinstance(value, list):
        _check_depth(path)
        for index, inner in enumerate(value):
            schema(view, inner, (*path, index), role)
    elif value is not None:
        _plain_value(view, value, path, role)


def json_text(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read JSON inside a string, as in tool arguments; invalid JSON (a model's mistake) is read as text."""
    if not isinstance(value, str):
        free(view, value, path, role)
    elif value:
        try:
            _decoded_or_raw(view, value, path, role)
        except RepeatedName:
            raise unknown(path, "a JSON object has two entries of one name") from None
        except RecursionError:
            raise unknown(path, "nested too deep") from None


def written_result(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read a text that is often JSON, such as a tool's result."""
    if not isinstance(value, str):
        raise unknown(path, "a text was expected")
    _string(view, value, path, role)


def number_text(value: float) -> str | None:
    """Return a number as text if it is long enough to identify a person; else None.

    A whole number is written in digits, however JSON wrote it: a card's number may have .0 or an exponent.
    """
    if isinstance(value, bool) or not abs(value) >= _LONG_NUMBER:
        return None
    return repr(int(value) if isinstance(value, float) and abs(value) < _IN_DIGITS and value.is_integer() else value)


def number(view: BodyView, value: float, path: Path) -> None:
    """Note a number, outside free JSON, if it is long enough to identify a person."""
    if isinstance(value, int) and value.bit_length() > _MAX_NUMBER_BITS:
        raise unknown(path, "a number that is too long")
    view.value(path, number_text(value) or "")


# A file inside free JSON. A model sees the string itself, so a short one, or one with separators, is read as text.
_FILE = re.compile(r"data:([\w.+-]+)/[\w.+-]+;base64,[A-Za-z0-9+/]{512,}={0,2}", re.ASCII)
_FILE_KINDS = frozenset({"image", "audio", "video"})


def _string(view: BodyView, value: str, path: Path, role: str) -> None:
    if value.startswith("data:") and (file := _FILE.fullmatch(value)):
        view.file(path, file[1] if file[1] in _FILE_KINDS else "file", value[5 : value.index(";")])
        if (read := file_text(value)) is not None:
            view.text((*path, FILE), read.text, role)
        return
    # Without a backslash, JSON text shows all of its content literally.
    if "\\" in value and value.lstrip()[:1] in ("{", "["):
        try:
            _decoded_or_raw(view, value, path, role)
        except (RepeatedName, RecursionError, UnknownShape):  # a file of a tool's, which its model reads as text
            view.text(path, value, role)
    else:
        view.text(path, value, role)


def _decoded_or_raw(view: BodyView, value: str, path: Path, role: str) -> None:
    """Read JSON text decoded; as one text where it is no JSON, or has too many texts.

    Raises:
        RepeatedName: an object has two entries of one name.
        RecursionError, UnknownShape: it is nested too deep.
    """
    try:
        decoded = decode(value)
    except RepeatedName:
        raise
    except ValueError:
        view.text(path, value, role)
        return
    inside = BodyView()
    try:
        free(inside, decoded, (*path, JSON), role)
    except TooManyTexts:
        view.text(path, value, role)
        return
    if len(view.texts) + len(inside.texts) > MAX_PARTS // 2:  # leave some for the texts behind it
        view.text(path, value, role)
    else:
        view.add(inside)


def _plain_value(view: BodyView, value: Any, path: Path, role: str) -> None:
    if not isinstance(value, int | float):
        raise unknown(path, f"a value of type {type(value).__name__} is no JSON")
    if isinstance(value, int) and value.bit_length() > _MAX_NUMBER_BITS:
        raise unknown(path, "a number that is too long")
    if written := number_text(value):
        view.text(path, written, role)


def _check_depth(path: Path) -> None:
    if len(path) > MAX_DEPTH:
        raise unknown(path, "nested too deep")
