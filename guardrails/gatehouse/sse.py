"""Server-sent events as bytes: taken out of a stream that is cut anywhere, and put back changed.

What is not changed is passed on byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# An event ends at an empty line; lines end with LF, CRLF or CR (WHATWG HTML, section 9.2).
_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
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
        kept = [line for line in self.raw.splitlines() if line and not line.startswith(b"data")]
        return b"\n".join([*kept, b"data: " + data]) + b"\n\n"


class EventStream:
    """Puts the pieces of a stream together to events."""

    __slots__ = ("_buffer", "_looked")

    def __init__(self) -> None:
        self._buffer = b""
        self._looked = 0

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that are complete after this piece.

        Raises:
            EventTooLarge: one does not end.
        """
        self._buffer += chunk
        done = 0
        while match := _END.search(self._buffer, max(done, self._looked)):
            yield _event(self._buffer[done : match.end()])
            done = match.end()
            self._looked = 0
        self._buffer = self._buffer[done:]
        if len(self._buffer) > MAX_EVENT:
            raise EventTooLarge
        self._looked = max(0, len(self._buffer) - 3)

    def rest(self) -> Iterator[Event]:
        """What came after the last end; the stream is over."""
        if self._buffer.strip():
            yield _event(self._buffer + b"\n\n")
        self._buffer = b""


def _event(raw: bytes) -> Event:
    lines = [line[4:] for line in raw.splitlines() if line.startswith(b"data")]
    data = [line[1:].removeprefix(b" ") for line in lines if line.startswith(b":")]
    return Event(raw, b"\n".join(data) if data else None)


def event(data: bytes, name: str | None = None) -> bytes:
    """An event to send; `data` has no line break."""
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + data + b"\n\n"
