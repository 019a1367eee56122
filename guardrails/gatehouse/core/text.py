"""Makes text that others control fit to be stored and shown."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

# No real name is longer; the limit keeps a hostile caller from filling the ledger.
_NAME_CHARS = 256


def clean(text: object) -> str | None:
    """Return a name as it can be kept: not long, and as `storable`."""
    return None if text is None else storable(str(text)[:_NAME_CHARS])


def storable(text: str) -> str:
    """Return text without what Postgres refuses: NUL, lone surrogates."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def printable(text: object) -> str:
    """Return text with everything escaped that a terminal would not show as a character."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def is_encodable(text: str) -> bool:
    """Tell whether a text has no lone surrogates, which no encoding has."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Spliced(str):
    """A text that was made from another by replacing parts of it; the rest can stay as it was spelled there.

    Attributes:
        parts: start and end of each part in the other text, in order, and what replaced it.
    """

    __slots__ = ("parts",)
    parts: tuple[tuple[int, int, str], ...]

    @classmethod
    def of(cls, text: str, parts: Iterable[tuple[int, int, str]]) -> Spliced:
        """Replace parts of a text; of two that overlap, the later one stays out."""
        out: list[str] = []
        kept: list[tuple[int, int, str]] = []
        done = 0
        for start, end, new in parts:
            if start >= done:
                out += (text[done:start], new)
                kept.append((start, end, new))
                done = end
        made = cls("".join((*out, text[done:])))
        made.parts = tuple(kept)
        return made


def shown_usd(amount: float | Decimal) -> str:
    """Format dollars with enough places to tell small amounts apart."""
    return f"{amount:,.2f}" if amount >= 1 and round(amount, 2) == amount else f"{float(amount):.6g}"
