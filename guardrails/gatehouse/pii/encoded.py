"""Base64 inside a text: read within bounds, so that what is scanned is what a model would decode."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import regex  # type: ignore[import-untyped]

from gatehouse.pii.deadline import Deadline, matches

# Sixteen characters are twelve bytes: the shortest e-mail address that is worth writing so. Lines are joined as MIME
# and PEM break them.
_RUN = regex.compile(r"(?:[A-Za-z0-9+/_-]{60,76}+\r?\n)*+[A-Za-z0-9+/_-]{16,}+={0,2}+")
_LEAST = 16
_TO_STANDARD = str.maketrans("-_", "+/", "\r\n=")
# Random bytes are readable to a third; text in any script that UTF-8 can write is all but wholly so.
_READABLE = 0.9


def decoded_runs(text: str, deadline: Deadline) -> Iterator[tuple[int, int, str]]:
    """Start and end of each run of base64 that decodes to readable text, and that text.

    A run that other characters were put before is tried at each of the four alignments.
    """
    if not has_word(text, _LEAST):
        return
    for match in matches(_RUN, text, deadline):
        value = match[0].translate(_TO_STANDARD)
        for offset in range(4):
            deadline.left()
            if (plain := _decode(value[offset:])) is not None:
                yield match.start(), match.end(), plain
                break


def has_word(text: str, least: int) -> bool:
    """Whether so many characters stand together without a blank: a cheap look that spares most texts a pattern."""
    return len(max(text.split(), key=len, default="")) >= least


def _decode(value: str) -> str | None:
    """The text that base64 stands for; None where it is none."""
    # A look at the beginning spares decoding what is plainly not text.
    return None if _text(value[:64]) is None else _text(value)


def _text(value: str) -> str | None:
    value = value[: len(value) - (len(value) % 4 == 1)]
    try:
        raw = base64.b64decode(value + "=" * (-len(value) % 4))
    except ValueError:
        return None
    wide = raw[1::2].count(0) * 2 > len(raw[1::2])
    plain = raw.decode("utf-16-le" if wide else "utf-8", "replace")
    readable = sum((char.isprintable() and char != "\ufffd") or char in "\r\n\t" for char in plain)
    return plain if plain and readable >= _READABLE * len(plain) else None
