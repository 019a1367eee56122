"""Begins to scan a request while LiteLLM still authenticates its caller, so that the pipeline finds the result.

Only the time of the work changes: the pipeline scans the same texts as before, and finds finished ones in the scanner's
cache. Only a caller whose last call was admitted gets this work; for others the pipeline alone scans.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any

from cachetools import LRUCache

from gatehouse.core import metrics
from gatehouse.dialects import request_view
from gatehouse.dialects.call_types import call_type_of
from gatehouse.dialects.caller_headers import CREDENTIALS
from gatehouse.dialects.parts import UnknownShape
from gatehouse.guards.worker_pool import Scanner

# Reading a larger body twice takes longer than it saves; this is some 60,000 tokens.
MAX_BYTES = 256 * 1024
_MAX_CALLERS = 10_000
# Messages that an agent adds in a turn: the answer, some tools' results, a question.
_NEWEST = 6


class Prescan:
    """Scan early for callers whose last call was admitted.

    Args:
        scanner: returns the scanner in force, if there is one.
    """

    def __init__(self, scanner: Callable[[], Scanner | None]) -> None:
        self._scanner = scanner
        self._salt = secrets.token_bytes(16)  # so that what is kept says nothing of a key
        self._seen = LRUCache[bytes, tuple[str, bool]](_MAX_CALLERS)

    def caller(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
        """Return a digest of the caller's credentials; None where there are none."""
        given = b"\0".join(value for name, value in headers if name in CREDENTIALS)
        return blake2b(given, digest_size=16, key=self._salt).digest() if given else None

    async def begin(self, caller: bytes | None, path: str, body: Mapping[str, Any] | None, size: int) -> None:
        """Scan what is new in the caller's request; long or unreadable bodies are left to the pipeline.

        Args:
            body: its decoded JSON; None where it has none.
            size: the body's size in bytes.
        """
        scanner, call_type = self._scanner(), call_type_of(path)
        known = self._seen.get(caller) if caller is not None else None
        if known is None or not known[1] or scanner is None or call_type is None or body is None or size > MAX_BYTES:
            return
        try:
            view = request_view(call_type, _newest(body))
        except UnknownShape:
            return
        metrics.prescans.inc()
        scanner.begin([part.text for part in view.scanned])
        await asyncio.sleep(0)  # let the scan start before LiteLLM takes the loop

    def key_of(self, caller: bytes | None) -> str | None:
        """Return the key of these credentials; None where they are unknown."""
        known = self._seen.get(caller) if caller is not None else None
        return known[0] if known is not None else None

    def remember(self, caller: bytes | None, key: str | None, *, admitted: bool) -> None:
        """Note how the caller's call ended.

        Args:
            key: whose call it was; None where LiteLLM did not identify it.
        """
        if caller is None:
            return
        key = key if key is not None else self.key_of(caller)
        if key is None:
            return
        self._seen[caller] = key, admitted


def _newest(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the end of a conversation; earlier turns have usually been scanned in their time."""
    return {name: value[-_NEWEST:] if isinstance(value, list) else value for name, value in body.items()}
