"""Tells the newest turn of a conversation from what was said before it.

A client sends the whole conversation again with every turn. What is refused in an older turn would be refused for
good, so there it is masked instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gatehouse.dialects.parts import TextPart

_CONVERSATIONS: Final = ("messages", "input")


def before_newest(texts: Sequence[TextPart]) -> list[bool]:
    """Return for each text whether it was said before the newest turn; for none where there was no turn before.

    The newest turn is what stands behind the last answer of the model, and an answer that the caller has begun for it.
    """
    places = [_position(part) for part in texts]
    said = [(at, part.role == "assistant") for at, part in zip(places, texts, strict=True) if at is not None]
    newest = max((at for at, is_answer in said if not is_answer), default=-1)
    last = max((at for at, is_answer in said if is_answer and at < newest), default=None)
    return [last is not None and (at is None or at <= last) for at in places]


def _position(part: TextPart) -> int | None:
    """Return the place in the conversation; None for what stands outside it, such as tools and system."""
    match part.path:
        case (name, int(at), *_) if name in _CONVERSATIONS:
            return at
    return None
