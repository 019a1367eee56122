"""Decodes server-sent events from bytes, after the WHATWG HTML standard, section 9.2.6.

It keeps only the `data` of each event, and ignores comments (keep-alives), ids and event names. It never returns an
event without its closing blank line, and one that exceeds the limit is an error.
"""

from __future__ import annotations

from collections.abc import Iterator

# The largest events are images that a model returns inside one chunk, a few MB in base64.
MAX_EVENT_BYTES = 16 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"


class EventDecoder:
    """Decode bytes as they come, cut anywhere. It knows no sockets, so async and sync clients share it."""

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._line: list[bytes] = []
        self._line_size = 0
        self._data: list[bytes] = []
        self._data_size = 0
        self._after_cr = False
        self._first_line = True

    def push(self, part: bytes) -> Iterator[str]:
        """Yield the data of each completed event. Raise ValueError for an event that is too long or not UTF-8."""
        if self._after_cr and part:
            part = part.removeprefix(b"\n")  # the second half of a CRLF cut in two
            self._after_cr = False
        for piece in part.splitlines(keepends=True):
            line = piece.rstrip(b"\r\n")
            self._line.append(line)
            self._line_size += len(line)
            if self._line_size + self._data_size > self._limit:
                raise ValueError(f"an event is longer than {self._limit} bytes")
            if len(line) < len(piece):
                event = self._end_line()
                if event is not None:
                    yield event
            # Set inside the loop, so that it also holds for a caller who stops between two events.
            self._after_cr = piece.endswith(b"\r")

    def _end_line(self) -> str | None:
        line = b"".join(self._line)
        self._line, self._line_size = [], 0
        if self._first_line:
            line = line.removeprefix(_BOM)
            self._first_line = False
        if line:
            name, _, value = line.partition(b":")
            if name == b"data":
                value = value.removeprefix(b" ")
                self._data.append(value)
                self._data_size += len(value) + 1
            return None
        if not self._data:
            return None
        event = b"\n".join(self._data)
        self._data, self._data_size = [], 0
        return event.decode("utf-8")
