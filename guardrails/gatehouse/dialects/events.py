"""What one event of a stream says, and the few helpers that every dialect's events need.

A running text is known by its source: the choice, block or item first, then what of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from gatehouse.dialects.fields import Reader
from gatehouse.dialects.freejson import free
from gatehouse.dialects.parts import DeltaPart, Path, TextPart, View, unknown

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


def type_of(event: dict[str, Any]) -> str:
    """The event's `type`; empty when it has none."""
    kind = event.get("type")
    if not isinstance(kind, str):
        return ""
    return str(getattr(kind, "value", kind))  # LiteLLM's events carry an enumeration


def index_of(event: dict[str, Any], name: str, otherwise: int) -> int:
    """A position in the answer, `otherwise` where the event does not say."""
    index = event.get(name)
    return index if isinstance(index, int) else otherwise


def objects(items: Any, path: Path) -> list[tuple[int, dict[str, Any]]]:
    """A list of objects with their positions; None is empty."""
    if items is None:
        return []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise unknown(path, "a list of objects was expected")
    return list(enumerate(items))


def without_type(event: dict[str, Any]) -> dict[str, Any]:
    """Everything else that an event says."""
    return {name: value for name, value in event.items() if name != "type"}


def rest(view: EventView, event: dict[str, Any], known: frozenset[str]) -> None:
    """Whatever else an event says, read as free JSON."""
    for name, value in event.items():
        if name not in known and value is not None:
            if not isinstance(name, str):
                raise unknown((), "a field without a name")
            view.whole(free, value, (name,))
