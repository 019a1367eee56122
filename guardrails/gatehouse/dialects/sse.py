"""Server-sent events as bytes: taken out of a stream that is cut anywhere, and put back changed.

What is not changed is passed on byte for byte.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass

# An event ends at an empty line; lines end with LF, CRLF or CR, also mixed (WHATWG HTML, section 9.2).
_END = re.compile(rb"(?>\r\n|\n|\r){2}")
# A line of data, for the laxest of the readers in use. The standard takes one byte order mark off the beginning of a
# stream; others take blanks off the beginning of a line, or end lines wherever Unicode does. What any of them reads as
# data is data here, and screened. `database: 1` is to none of them.
_DATA = re.compile(r"[\s\ufeff\0]*+data(?::\x20?(.*)|\Z)", re.S)
# Larger events are not events of a model.
MAX_EVENT = 32_000_000


class EventTooLarge(Exception):
    """A stream without an end of its event."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event: `raw` is all of it with its end, `data` what its data lines say (None where it has none)."""

    raw: bytes
    data: bytes | None

    def with_data(self, data: bytes) -> bytes:
        """The event with other data, which has no line break."""
        kept = [line.removeprefix(BOM_UTF8) for line in self.raw.splitlines() if line and not _is_data(line)]
        return b"\n".join([*kept, b"data: " + data]) + b"\n\n"


class EventStream:
    """Puts the pieces of a stream together to events."""

    __slots__ = ("_buffer", "_looked")

    def __init__(self) -> None:
        self._buffer = bytearray()  # which grows in place: an event may come in very many pieces
        self._looked = 0

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that are complete after this piece.

        Raises:
            EventTooLarge: one does not end.
        """
        self._buffer += chunk
        done = 0
        while match := _END.search(self._buffer, max(done, self._looked)):
            yield _event(bytes(self._buffer[done : match.end()]))
            done = match.end()
            self._looked = 0
        del self._buffer[:done]
        if len(self._buffer) > MAX_EVENT:
            raise EventTooLarge
        self._looked = max(0, len(self._buffer) - 3)

    def rest(self) -> Iterator[Event]:
        """What came after the last end; the stream is over."""
        rest, self._buffer, self._looked = bytes(self._buffer), bytearray(), 0
        if rest:
            yield _event(rest)


def _event(raw: bytes) -> Event:
    data = [text for line in raw.splitlines() for text in _data_of(line)]
    return Event(raw, b"\n".join(data) if data else None)


def _data_of(line: bytes) -> Iterator[bytes]:
    """What readers take for data in a line."""
    if line.startswith(b"data:"):
        yield line[5:].removeprefix(b" ")
        return
    for part in line.decode("utf-8", "surrogateescape").splitlines():
        if match := _DATA.match(part):
            yield (match[1] or "").encode("utf-8", "surrogateescape")


def _is_data(line: bytes) -> bool:
    return any(True for _ in _data_of(line))


def event(data: bytes, name: str | None = None) -> bytes:
    """An event to send; `data` has no line break."""
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + data + b"\n\n"
