"""Splits a stream of server-sent events, cut anywhere, into events, and writes changed events back.

Unchanged events pass byte for byte.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass

# An event ends at an empty line; lines end with LF, CRLF or CR, also mixed (WHATWG HTML, section 9.2).
_END = re.compile(rb"(?>\r\n|\n|\r){2}")
# A line of data, for the most tolerant reader in use. The standard removes one byte order mark from the beginning of a
# stream; other readers remove blanks from the beginning of a line, or end lines wherever Unicode does. Whatever one of
# them reads as data is data here, and screened. No reader takes `database: 1` for data.
_DATA = re.compile(r"[\s\ufeff\0]*+data(?::\x20?(.*)|\Z)", re.S)
# No event of a model is larger.
MAX_EVENT = 32_000_000


class EventTooLarge(Exception):
    """Report an event that is larger than `MAX_EVENT`."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """Hold one event: `raw` is all of it with its end, `data` the content of its data lines (None without any)."""

    raw: bytes
    data: bytes | None

    def with_data(self, data: bytes) -> bytes:
        """Return the event with other data, which has no line break."""
        other_lines = [line.removeprefix(BOM_UTF8) for line in self.raw.splitlines() if line and not _is_data(line)]
        return b"\n".join([*other_lines, b"data: " + data]) + b"\n\n"


class SSEDecoder:
    """Assemble the chunks of a stream into events."""

    __slots__ = ("_buffer", "_looked")

    def __init__(self) -> None:
        self._buffer = bytearray()  # grows in place, because an event may come in very many chunks
        self._looked = 0

    def decode(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """Yield the events that this chunk completes.

        Raises:
            EventTooLarge: an event does not end.
        """
        self._buffer += chunk
        done = 0
        while match := _END.search(self._buffer, max(done, self._looked)):
            yield _event(bytes(self._buffer[done : match.end()]))
            done = match.end()
        del self._buffer[:done]
        if len(self._buffer) > MAX_EVENT:
            raise EventTooLarge
        self._looked = max(0, len(self._buffer) - 3)

    def rest(self) -> Iterator[ServerSentEvent]:
        """Yield what came after the last end, when the stream is over."""
        rest, self._buffer = bytes(self._buffer), bytearray()
        if rest:
            yield _event(rest)


def _event(raw: bytes) -> ServerSentEvent:
    data = [text for line in raw.splitlines() for text in _data_of(line)]
    return ServerSentEvent(raw, b"\n".join(data) if data else None)


def _data_of(line: bytes) -> Iterator[bytes]:
    """Yield what readers take for data in a line."""
    if line.startswith(b"data:"):
        yield line[5:].removeprefix(b" ")
        return
    for part in line.decode("utf-8", "surrogateescape").splitlines():
        if match := _DATA.match(part):
            yield (match[1] or "").encode("utf-8", "surrogateescape")


def _is_data(line: bytes) -> bool:
    return any(True for _ in _data_of(line))


def event(data: bytes, name: str | None = None) -> bytes:
    """Return an event to send; `data` has no line break."""
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + data + b"\n\n"
