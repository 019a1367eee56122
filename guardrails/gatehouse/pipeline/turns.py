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
    last = _last_answer(texts)
    if last is None:
        return [False] * len(texts)
    return [_position(part) is None or _position(part) <= last for part in texts]  # type: ignore[operator]


def _last_answer(texts: Sequence[TextPart]) -> int | None:
    """Return the position of the last answer that something else follows."""
    newest = max((at for part in texts if part.role != "assistant" and (at := _position(part)) is not None), default=-1)
    answers = [at for part in texts if part.role == "assistant" and (at := _position(part)) is not None]
    return max((at for at in answers if at < newest), default=None)


def _position(part: TextPart) -> int | None:
    """Return the place in the conversation; None for what stands outside it, such as tools and system."""
    match part.path:
        case (name, int(at), *_) if name in _CONVERSATIONS:
            return at
    return None
