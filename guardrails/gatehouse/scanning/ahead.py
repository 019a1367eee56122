"""Begins to scan a request while LiteLLM still authenticates its caller, so that the pipeline finds it done.

Only the time of the work changes: the pipeline scans what it decides on as ever, and finds in the scanner's cache what
is there already. Nobody gets work out of this who was not let through just before: a caller whose last call was not
admitted, or who is not known, waits for the pipeline.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any

import orjson

from gatehouse import metrics
from gatehouse.routes import call_type_of
from gatehouse.scanning.scanner import Scanner
from gatehouse.shapes import UnknownShape, request_view

# Where clients put their key.
_CREDENTIALS = frozenset((b"authorization", b"x-api-key", b"api-key", b"x-litellm-api-key"))
# Reading more than this twice takes longer than it spares; some 60,000 tokens.
MAX_BYTES = 256 * 1024
_MOST_CALLERS = 10_000
# Messages that an agent adds in a turn: the answer, some tools' results, a question.
_NEWEST = 6


class ScanAhead:
    """Scans ahead for callers whose last call was admitted.

    Args:
        scanner: the one in force now, if there is any.
    """

    def __init__(self, scanner: Callable[[], Scanner | None]) -> None:
        self._scanner = scanner
        self._salt = secrets.token_bytes(16)  # so that what is kept says nothing of a key
        self._admitted: OrderedDict[bytes, None] = OrderedDict()

    def caller(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
        """Who asks, by a digest of their credentials; None where there are none."""
        given = b"\0".join(value for name, value in headers if name in _CREDENTIALS)
        return blake2b(given, digest_size=16, key=self._salt).digest() if given else None

    def coming(self, caller: bytes | None, path: str) -> Coming | None:
        """A request of theirs to `path`, which is on its way; None where it is not scanned ahead."""
        scanner, call_type = self._scanner(), call_type_of(path)
        if caller not in self._admitted or scanner is None or call_type is None:
            return None
        return Coming(scanner, call_type)

    def remember(self, caller: bytes | None, *, admitted: bool) -> None:
        """Note how a call of theirs ended."""
        if caller is None:
            return
        if not admitted:
            self._admitted.pop(caller, None)
            return
        self._admitted[caller] = None
        self._admitted.move_to_end(caller)
        if len(self._admitted) > _MOST_CALLERS:
            self._admitted.popitem(last=False)


class Coming:
    """A request whose body comes in pieces; scanned when all of it is there."""

    def __init__(self, scanner: Scanner, call_type: str) -> None:
        self._scanner = scanner
        self._call_type = call_type
        self._body = bytearray()
        self._over = False

    def feed(self, piece: bytes, *, more: bool) -> None:
        """The next piece. What is too long, or cannot be read, is left to the pipeline."""
        self._over = self._over or len(self._body) + len(piece) > MAX_BYTES
        if self._over:
            self._body.clear()
            return
        self._body += piece
        if more:
            return
        self._over = True
        body, self._body = self._body, bytearray()  # the call may go on for long
        try:
            view = request_view(self._call_type, _newest(orjson.loads(body)))
        except (UnknownShape, ValueError):
            return
        metrics.scans_ahead.inc()
        self._scanner.begin([part.text for part in view.texts])


def _newest(body: Any) -> Any:
    """The end of a conversation: what was said before has been scanned in the turns before, as a rule."""
    if not isinstance(body, dict):
        return body
    return {name: value[-_NEWEST:] if isinstance(value, list) else value for name, value in body.items()}
