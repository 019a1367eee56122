"""What a reader of a body finds: addressed texts, files, pieces of streamed texts; and the refusal of what is unknown.

A path leads from the body to a string. Sentinels stand where no dict key or list index can: `JSON` steps into a string
that is itself JSON text, `FILE` into the text of a file in base64, and `KEY` means the name of the entry that the path
leads to, not its value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, TypeAlias


class Step(Enum):
    """A step of a path that is neither a key nor an index."""

    JSON = "json"
    KEY = "key"
    FILE = "file"

    def __repr__(self) -> str:
        return self.name


JSON: Final = Step.JSON
KEY: Final = Step.KEY
FILE: Final = Step.FILE

_SHOWN: Final = {JSON: "(json)", KEY: "(name)", FILE: "(file)"}

Path: TypeAlias = tuple[str | int | Step, ...]

# Nesting beyond this is refused. JSON schemas that providers accept stay below 30; each level costs two or three Python
# frames, and the interpreter stops at 1,000.
MAX_DEPTH: Final = 96
# More texts than this are refused: the largest batches that providers take are 2,048 texts.
MAX_PARTS: Final = 50_000


@dataclass(frozen=True, slots=True)
class TextPart:
    """One text that a model reads or wrote.

    Attributes:
        path: where it is in the body; see the module.
        text: the text, never empty. A long number in free JSON is text too, as `repr` writes it.
        role: system, developer, user, assistant, tool, or other (tool definitions, schemas, names, links, settings).
        sealed: it goes on as it is or not at all, as what a provider has signed or encrypted.
    """

    path: Path
    text: str
    role: str
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class FilePart:
    """Something a model reads that is no text.

    Attributes:
        path: where it is in the body.
        kind: image, audio, video or file.
        media_type: as the caller says; None where it does not.
    """

    path: Path
    kind: str
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class StoredPart:
    """Something that the provider holds, of which the request has but the name.

    Attributes:
        path: where its name is in the body.
        what: such as `a file`.
    """

    path: Path
    what: str


@dataclass(frozen=True, slots=True)
class DeltaPart:
    """A piece of a text that arrives in a stream.

    Attributes:
        path: where the piece is in the event.
        text: the piece; it may begin and end anywhere.
        source: which running text it continues, the same in every event of that text: the choice, block or item, and
            what of it, such as `(0, "content")` or `(0, "tool", 1, "arguments")`.
        kind: `json` when the running text is JSON text, so that what is put into it must be escaped.
    """

    path: Path
    text: str
    source: tuple[str | int, ...]
    kind: Literal["text", "json"] = "text"


class UnknownShape(Exception):
    """A body, or an answer, that is not understood, so that text could be hidden in it; the message names the path."""


class View:
    """What was found in one body, in the order of the body.

    Attributes:
        texts: what a model reads.
        values: what is scanned and is no text: identifiers, numbers, what only a provider can read.
        files: what is no text at all.
        stored: what a provider keeps and a request only names.
    """

    __slots__ = ("files", "stored", "texts", "values")

    def __init__(self) -> None:
        self.texts: list[TextPart] = []
        self.values: list[TextPart] = []
        self.files: list[FilePart] = []
        self.stored: list[StoredPart] = []

    @property
    def scanned(self) -> list[TextPart]:
        """All that is to be scanned."""
        return [*self.texts, *self.values]

    def text(self, path: Path, text: str, role: str, *, sealed: bool = False) -> None:
        """Note a text; the empty one says nothing."""
        if text:
            if len(self.texts) >= MAX_PARTS:
                raise unknown(path, f"the request has more than {MAX_PARTS} texts")
            self.texts.append(TextPart(path, text, role, sealed))

    def value(self, path: Path, value: str, *, sealed: bool = False) -> None:
        """Note what is scanned and is no text."""
        if value:
            if len(self.values) >= MAX_PARTS:
                raise unknown(path, f"the request has more than {MAX_PARTS} identifiers")
            self.values.append(TextPart(path, value, "other", sealed))

    def file(self, path: Path, kind: str, media_type: str | None = None) -> None:
        """Note something that is no text."""
        if len(self.files) >= MAX_PARTS:
            raise unknown(path, f"the request has more than {MAX_PARTS} files")
        self.files.append(FilePart(path, kind, media_type))

    def name_stored(self, path: Path, what: str) -> None:
        """Note the name of something that the provider holds."""
        self.stored.append(StoredPart(path, what))


_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}", re.ASCII)


def unknown(path: Path, reason: str) -> UnknownShape:
    """The refusal of what is at `path`."""
    return UnknownShape(f"{shown(path)}: {reason}")


def shown(path: Path) -> str:
    """A path for people. A name that is not plain may be personal data, so it is not repeated."""
    out = []
    for step in path[:MAX_DEPTH]:
        if isinstance(step, Step):
            out.append(_SHOWN[step])
        elif isinstance(step, int):
            out.append(f"[{step}]")
        else:
            out.append(("." if out else "") + (plain(step) or "…"))
    return "".join(out) or "body"


def value_at(body: Any, path: Path) -> Any:
    """What a path leads to; None inside JSON text."""
    value = body
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def plain(name: object) -> str | None:
    """A name that can be repeated in a message; None otherwise."""
    return name if isinstance(name, str) and _PLAIN.fullmatch(name) else None
