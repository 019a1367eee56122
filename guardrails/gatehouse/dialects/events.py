"""Holds what one event of a stream contains, and the helpers that every dialect's events need.

A source identifies a running text: first the choice, block or item, then the part of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from gatehouse.dialects.fields import token
from gatehouse.dialects.freejson import free
from gatehouse.dialects.parts import BodyView, DeltaPart, Path, Reader, SealedPart, SignaturePart, TextPart, unknown
from gatehouse.dialects.tags import THOUGHT

Source: TypeAlias = tuple[str | int, ...]
Kind: TypeAlias = Literal["text", "json"]


@dataclass(slots=True)
class EventView:
    """Hold the content of one event.

    Attributes:
        deltas: pieces of running texts.
        texts: whole texts; some repeat texts that came in pieces.
        sealed: whole strings that the provider has signed or encrypted.
        signatures: signatures of running texts.
        closes: sources that end with this event; a source stands for all that begin with it, and the empty one for all.
    """

    deltas: list[DeltaPart] = field(default_factory=list)
    texts: list[TextPart] = field(default_factory=list)
    sealed: list[SealedPart] = field(default_factory=list)
    signatures: list[SignaturePart] = field(default_factory=list)
    closes: list[Source] = field(default_factory=list)

    def piece(self, path: Path, value: Any, source: Source, kind: Kind = "text", *, sealed: bool = False) -> None:
        """Add a piece of a running text."""
        if not isinstance(value, str):
            raise unknown(path, "a text was expected")
        if value:
            self.deltas.append(DeltaPart(path, value, source, kind, sealed))

    def signature(self, path: Path, value: Any, source: Source) -> None:
        """Add the signature of a running text, which ends with it."""
        if not isinstance(value, str):
            raise unknown(path, "a signature was expected")
        if value:
            self.signatures.append(SignaturePart(path, value, source, len(self.deltas)))
            self.closes.append(source)

    def identifier(self, path: Path, value: Any) -> None:
        """Add an identifier in which a signature may stand."""
        if isinstance(value, str) and THOUGHT in value:
            self.whole(token, value, path)

    def whole(self, reader: Reader, value: Any, path: Path, role: str = "assistant") -> None:
        """Add the whole texts that a reader finds."""
        view = BodyView()
        reader(view, value, path, role)
        self.texts += view.texts
        self.sealed += view.sealed


def type_of(event: dict[str, Any]) -> str:
    """Return the event's `type`; empty where it has none."""
    kind = event.get("type")
    if not isinstance(kind, str):
        return ""
    return str(getattr(kind, "value", kind))  # LiteLLM's events hold an enumeration


def index_of(event: dict[str, Any], name: str, otherwise: int) -> int:
    """Return a position in the answer; `otherwise` where the event has none."""
    index = event.get(name)
    return index if isinstance(index, int) else otherwise


def objects(items: Any, path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return a list of objects with their positions; None counts as empty."""
    if items is None:
        return []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise unknown(path, "a list of objects was expected")
    return list(enumerate(items))


def without_type(event: dict[str, Any]) -> dict[str, Any]:
    """Return the event without its type."""
    return {name: value for name, value in event.items() if name != "type"}


def rest(view: EventView, event: dict[str, Any], known: frozenset[str]) -> None:
    """Read all other fields of an event as free JSON."""
    for name, value in event.items():
        if name not in known and value is not None:
            if not isinstance(name, str):
                raise unknown((), "a field without a name")
            view.whole(free, value, (name,))
