"""Readers of fields, and the tables that combine them: a dialect is a table from names to readers.

A field that a table does not name is refused if it could hold text; a table for answers reads it instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gatehouse.dialects.file_text import file_text
from gatehouse.dialects.freejson import number, written_result
from gatehouse.dialects.parts import FILE, KEY, MAX_DEPTH, BodyView, Path, Reader, plain, unknown
from gatehouse.dialects.sealed import is_written
from gatehouse.dialects.tags import THOUGHT, split


def skip(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read nothing, for values without any text."""


def text(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read a text."""
    if not isinstance(value, str):
        raise unknown(path, "a text was expected")
    view.text(path, value, role)


# At least one letter, so that no card or telephone number passes for an identifier; no blanks, no @.
_TOKEN = re.compile(r"[0-9._:/|+=~-]*[A-Za-z][A-Za-z0-9._:/|+=~-]*", re.ASCII)
_MAX_TOKEN_CHARS = 256
# The shortest e-mail address, a@b.co.
_MIN_VALUE_CHARS = 6
# API words that occur in nearly every request; every other value is scanned.
_WORDS = frozenset(
    """
    assistant base64 computer_call custom default developer disabled document enabled ephemeral function function_call
    function_call_output image_url input_image input_text json_object json_schema medium message minimal object
    output_text priority reasoning required summary_text system thinking tool_result tool_use
    application/pdf image/jpeg image/png image/webp text/plain
    """.split()
)


def is_api_word(value: str) -> bool:
    """Tell whether a plain value is too short, or too common a word of the APIs, to be scanned."""
    return len(value) < _MIN_VALUE_CHARS or value in _WORDS


def token(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read a number, a switch, an identifier or a word of the API; any other string is read as text."""
    if isinstance(value, str):
        if is_api_word(value):
            return
        if THOUGHT in value:
            opaque(view, value, path, role)
            return
        if len(value) > _MAX_TOKEN_CHARS or (len(value) > 6 and not _TOKEN.fullmatch(value)):
            view.text(path, value, "other")
        else:
            view.value(path, value)
    elif isinstance(value, int | float):
        number(view, value, path)
    else:
        raise unknown(path, "a plain value was expected")


_NOT_BASE64 = bytes(byte for byte in range(256) if not re.match(rb"[A-Za-z0-9+/=_\-\r\n]", bytes([byte])))
_BASE64 = bytes(set(range(256)) - set(_NOT_BASE64))


def is_base64(value: str) -> bool:
    """Tell whether a string uses only a base64 alphabet, and so has no words in it."""
    return value.isascii() and not value.encode().translate(None, _BASE64)


def opaque(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read bytes that only the provider can read: a signature, an encrypted state. Other values are read as text."""
    if not isinstance(value, str):
        raise unknown(path, "base64 was expected")
    unread(view, view.seal(path, value), path)


def unread(view: BodyView, value: str, path: Path) -> None:
    """Note a value that only the provider can read, where a person may have written it.

    LiteLLM writes signed thinking as JSON there for clients of /v1/responses, and sends on what it holds.
    """
    if not is_base64(value):
        read = BodyView()
        written_result(read, value, path, "other")
        texts = [(part.path, part.text) for part in read.texts] if not read.files else [(path, value)]
        for at, text in texts:
            view.text(at, text, "other", sealed=True)
    elif is_written(value):
        view.value(path, value, sealed=True)


def signed(name: str, reader: Reader) -> Reader:
    """Make a reader of objects whose text `name` must not be changed where its `signature` stands beside it."""

    def read(view: BodyView, value: Any, path: Path, role: str) -> None:
        texts, seals = len(view.texts), len(view.sealed)
        reader(view, value, path, role)
        if not split(value.get("signature") or "")[1]:
            return
        text_at, signature_at = (*path, name), (*path, "signature")
        view.texts[texts:] = [
            replace(part, sealed=True) if part.path == text_at else part for part in view.texts[texts:]
        ]
        view.sealed[seals:] = [
            replace(each, text=text_at, signed=value.get(name) or "") if each.path == signature_at else each
            for each in view.sealed[seals:]
        ]

    return read


def text_of_file(view: BodyView, value: str, path: Path, role: str) -> bool:
    """Read a file of text as its text, and tell whether it is one."""
    read = file_text(value)
    if read is not None:
        view.text((*path, FILE), read.text, role)
    return read is not None


_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;charset=[\w-]+)?;base64", re.ASCII | re.IGNORECASE)


def link(kind: str) -> Reader:
    """Make a reader of a file as a data URL, bare base64 or an address. An address is text, and so is a text file."""

    def read(view: BodyView, value: Any, path: Path, role: str) -> None:
        if not isinstance(value, str):
            raise unknown(path, "an address was expected")
        if value[:5].lower() == "data:":
            head, _, data = value.partition(",")
            known = _DATA_URL.fullmatch(head)
            if known is None or not is_base64(data):
                raise unknown(path, "a data URL that is not base64")
            view.file(path, kind, known[1])
            text_of_file(view, value, path, role)
            return
        view.file(path, kind)
        if text_of_file(view, value, path, role):
            return
        if len(value) <= 1024 or not is_base64(value):
            view.text(path, value, role)

    return read


def blob(kind: str) -> Reader:
    """Make a reader of a file's base64 content; text in it is read."""

    def read(view: BodyView, value: Any, path: Path, role: str) -> None:
        if isinstance(value, str) and value[:5].lower() == "data:":
            as_link(view, value, path, role)
            return
        if not isinstance(value, str):
            raise unknown(path, "base64 was expected")
        if not is_base64(value):
            view.text(path, value, "other", sealed=True)
        view.file(path, kind)
        text_of_file(view, value, path, role)

    as_link = link(kind)
    return read


def present(kind: str, reader: Reader) -> Reader:
    """Make a reader of a file that `reader` describes, such as an uploaded file's identifier."""

    def read(view: BodyView, value: Any, path: Path, role: str) -> None:
        view.file(path, kind)
        reader(view, value, path, role)

    return read


def refuse(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Refuse an unknown field, unless it holds only its name and a number. It scans a long number."""
    if not (value is None or isinstance(value, bool | int | float) or value in ("", [], {})):
        raise unknown(path, "this field is not known")
    view.text((*path, KEY), str(path[-1]), "other")
    if isinstance(value, int | float):
        number(view, value, path)


def fields(table: Mapping[str, Reader], otherwise: Reader = refuse, *, names: bool = True) -> Reader:
    """Make a reader of an object, with a reader for each field and one for the others.

    Args:
        names: whether the names of the others are texts too, as in free JSON.
    """
    names = names and otherwise not in (refuse, skip)

    def read(view: BodyView, value: Any, path: Path, role: str) -> None:
        if not isinstance(value, dict):
            raise unknown(path, "an object was expected")
        if len(path) > MAX_DEPTH:
            raise unknown(path, "nested too deep")
        for name, inner in value.items():
            reader = table.get(name)
            if reader is None:
                reader = otherwise
                if names and isinstance(name, str):
                    view.text((*path, name, KEY), name, role)
            if inner is None and reader is not refuse:
                continue
            if reader is not skip:
                if not isinstance(name, str):
                    raise unknown(path, "a field without a name")
                reader(view, inner, (*path, name), role)

    return read


def as_role(role: str, reader: Reader) -> Reader:
    """Make `reader` attribute what it finds to `role`."""

    def read(view: BodyView, value: Any, path: Path, _role: str) -> None:
        reader(view, value, path, role)

    return read


def tagged(table: Mapping[str, Reader], otherwise: Reader | None = None, field: str = "type") -> Reader:
    """Make a reader of objects of several kinds, which their field `type` names."""

    def read(view: BodyView, value: Any, path: Path, role: str) -> None:
        if not isinstance(value, dict):
            raise unknown(path, "an object was expected")
        kind = value.get(field)
        reader = table.get(kind) if isinstance(kind, str) else None
        if reader is None:
            if otherwise is None:
                named = f" ({plain(kind)})" if plain(kind) else ""
                raise unknown((*path, field), f"this {field} is not known{named}")
            reader = otherwise
        reader(view, value, path, role)

    return read


def each(reader: Reader) -> Reader:
    """Make a reader of lists whose items `reader` reads."""

    def read(view: BodyView, value: Any, path: Path, role: str) -> None:
        if not isinstance(value, list):
            raise unknown(path, "a list was expected")
        if len(path) > MAX_DEPTH:
            raise unknown(path, "nested too deep")
        for index, inner in enumerate(value):
            if inner is not None:
                reader(view, inner, (*path, index), role)

    return read


def either(*, string: Reader | None = None, items: Reader | None = None, mapping: Reader | None = None) -> Reader:
    """Make a reader of several types: a string, a list of what `items` reads, an object."""
    listed = each(items) if items else None

    def read(view: BodyView, value: Any, path: Path, role: str) -> None:
        if isinstance(value, str):
            reader = string
        elif isinstance(value, list):
            reader = listed
        else:
            reader = mapping if isinstance(value, dict) else None
        if reader is None:
            raise unknown(path, f"a value of type {type(value).__name__} is not known here")
        reader(view, value, path, role)

    return read


_token_list = each(token)
texts = either(string=text, items=text)


def tokens(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read a plain value, or a list of them."""
    (_token_list if isinstance(value, list) else token)(view, value, path, role)


kind_only = fields({"type": token, "ttl": token, "mode": token, "id": token, "caller_id": token, "tool_id": token})
