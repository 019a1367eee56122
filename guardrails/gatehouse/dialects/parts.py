"""Holds what a reader finds in a body: texts with their places, files, pieces of streams; and the error for the rest.

A path leads from the body to a string. Sentinels are steps that no dict key or list index can be: `JSON` steps into a
string that is JSON text, `FILE` into the text of a base64 file, and `KEY` means an entry's name, not its value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, TypeAlias

from gatehouse.dialects.tags import split


class Step(Enum):
    """Name the steps of a path that are neither a key nor an index."""

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

# Deeper nesting is refused. JSON schemas that providers accept stay below 30; each level takes two or three Python
# frames, and the interpreter stops at 1,000.
MAX_DEPTH: Final = 96
# More texts are refused: the largest batches that providers take are 2,048 texts.
MAX_PARTS: Final = 50_000


@dataclass(frozen=True, slots=True)
class TextPart:
    """Hold one text that a model reads or wrote.

    Attributes:
        path: its place in the body; see the module.
        text: the text, never empty. A long number in free JSON is text too, as `repr` writes it.
        role: system, developer, user, assistant, tool, or other (tool definitions, schemas, names, links, settings).
        sealed: it must not be changed, because a provider has signed or encrypted it.
        proven: a tag shows that a model wrote it in an answer of this installation.
    """

    path: Path
    text: str
    role: str
    sealed: bool = False
    proven: bool = False


@dataclass(frozen=True, slots=True)
class SealedPart:
    """Hold a string that a provider has signed or encrypted, or a signature with the text that it signs.

    Attributes:
        path: its place in the body.
        whole: the string as it stands there.
        value: the string without its tag.
        tag: empty where it has none.
        text: the place of the signed text; None where there is none.
        signed: that text.
    """

    path: Path
    whole: str
    value: str
    tag: str
    text: Path | None = None
    signed: str = ""


@dataclass(frozen=True, slots=True)
class FilePart:
    """Describe something that a model reads and that is not text.

    Attributes:
        path: its place in the body.
        kind: image, audio, video or file.
        media_type: the caller's media type; None where there is none.
    """

    path: Path
    kind: str
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class StoredPart:
    """Describe something that the provider holds and the request only names.

    Attributes:
        path: the place of its name in the body.
        what: such as `a file`.
    """

    path: Path
    what: str


@dataclass(frozen=True, slots=True)
class DeltaPart:
    """Hold a piece of a text that arrives in a stream.

    Attributes:
        path: the place of the piece in the event.
        text: the piece; it may begin and end anywhere.
        source: identifies the running text in each of its events: the choice, block or item, and the part of it, such
            as `(0, "content")` or `(0, "tool", 1, "arguments")`.
        kind: `json` when the running text is JSON text, so that insertions must be escaped.
        sealed: it must not be changed, because the provider signs it.
    """

    path: Path
    text: str
    source: tuple[str | int, ...]
    kind: Literal["text", "json"] = "text"
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class SignaturePart:
    """Hold the signature of a running text.

    Attributes:
        path: its place in the event.
        source: identifies the block that it ends; its running texts begin with it.
        after: how many pieces of texts come before it in the event.
    """

    path: Path
    value: str
    source: tuple[str | int, ...]
    after: int


class UnknownShape(Exception):
    """Report a body or an answer of an unknown shape, in which text could be hidden; the message names the path."""


class TooManyTexts(UnknownShape):
    """Report more texts than a request may have."""


class BodyView:
    """Collect what was found in one body, in the order of the body.

    Attributes:
        texts: texts that a model reads.
        values: other values to scan: identifiers, numbers, data that only a provider can read.
        files: everything that is not text.
        stored: references to what a provider holds.
        sealed: what a provider has signed or encrypted.
    """

    __slots__ = ("files", "sealed", "stored", "texts", "values")

    def __init__(self) -> None:
        self.texts: list[TextPart] = []
        self.values: list[TextPart] = []
        self.files: list[FilePart] = []
        self.stored: list[StoredPart] = []
        self.sealed: list[SealedPart] = []

    @property
    def scanned(self) -> list[TextPart]:
        """Return everything to scan."""
        return [*self.texts, *self.values]

    def text(self, path: Path, text: str, role: str, *, sealed: bool = False) -> None:
        """Add a text; an empty one is ignored."""
        if text:
            if len(self.texts) >= MAX_PARTS:
                raise TooManyTexts(f"{shown(path)}: the request has more than {MAX_PARTS} texts")
            self.texts.append(TextPart(path, text, role, sealed))

    def value(self, path: Path, value: str, *, sealed: bool = False) -> None:
        """Add a value that is scanned and is not a text."""
        if value:
            if len(self.values) >= MAX_PARTS:
                raise unknown(path, f"the request has more than {MAX_PARTS} identifiers")
            self.values.append(TextPart(path, value, "other", sealed))

    def file(self, path: Path, kind: str, media_type: str | None = None) -> None:
        """Add something that is not text."""
        if len(self.files) >= MAX_PARTS:
            raise unknown(path, f"the request has more than {MAX_PARTS} files")
        self.files.append(FilePart(path, kind, media_type))

    def add(self, other: BodyView) -> None:
        """Add what was found in a part of the body."""
        self.texts += other.texts
        self.values += other.values
        self.files += other.files
        self.stored += other.stored
        self.sealed += other.sealed

    def seal(self, path: Path, value: str) -> str:
        """Add what a provider has signed or encrypted; return it without its tag."""
        tag, rest = split(value)
        self.sealed.append(SealedPart(path, value, rest, tag))
        return rest

    def name_stored(self, path: Path, what: str) -> None:
        """Add the name of something that the provider holds."""
        self.stored.append(StoredPart(path, what))


Reader: TypeAlias = Callable[[BodyView, Any, Path, str], None]
"""Takes the view to fill, a value that is not None, its path and the role of its author."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}", re.ASCII)


def unknown(path: Path, reason: str) -> UnknownShape:
    """Return the error that refuses the value at `path`."""
    return UnknownShape(f"{shown(path)}: {reason}")


def shown(path: Path) -> str:
    """Show a path to people. A name that is not plain may be personal data, so it is not repeated."""
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
    """Return the value at a path; None inside JSON text."""
    value = body
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def plain(name: object) -> str | None:
    """Return a name that a message can repeat; None for any other."""
    return name if isinstance(name, str) and _PLAIN.fullmatch(name) else None
