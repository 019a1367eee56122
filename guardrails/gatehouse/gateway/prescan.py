"""Begins to scan a request while LiteLLM still authenticates its caller, so that the pipeline finds it done.

Only the time of the work changes: the pipeline scans what it decides on as ever, and finds in the scanner's cache what
is there already. Nobody gets work out of this who was not let through just before: a caller whose last call was not
admitted, or who is not known, waits for the pipeline.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any

from gatehouse.core import metrics
from gatehouse.dialects import UnknownShape, request_view
from gatehouse.dialects.call_types import call_type_of
from gatehouse.dialects.caller_headers import CREDENTIALS
from gatehouse.guards.worker_pool import Scanner

# Reading more than this twice takes longer than it spares; some 60,000 tokens.
MAX_BYTES = 256 * 1024
_MOST_CALLERS = 10_000
# Messages that an agent adds in a turn: the answer, some tools' results, a question.
_NEWEST = 6


class Prescan:
    """Scans ahead for callers whose last call was admitted.

    Args:
        scanner: the one in force now, if there is any.
    """

    def __init__(self, scanner: Callable[[], Scanner | None]) -> None:
        self._scanner = scanner
        self._salt = secrets.token_bytes(16)  # so that what is kept says nothing of a key
        self._seen: OrderedDict[bytes, tuple[str, bool]] = OrderedDict()

    def caller(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
        """Who asks, by a digest of their credentials; None where there are none."""
        given = b"\0".join(value for name, value in headers if name in CREDENTIALS)
        return blake2b(given, digest_size=16, key=self._salt).digest() if given else None

    async def begin(self, caller: bytes | None, path: str, body: Mapping[str, Any] | None, size: int) -> None:
        """Scan what is new in a request of theirs; what is too long, or cannot be read, is left to the pipeline.

        Args:
            body: its decoded JSON; None where it has none.
            size: of the body, in bytes.
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
        await asyncio.sleep(0)  # what was begun gets on its way before LiteLLM takes the loop

    def key_of(self, caller: bytes | None) -> str | None:
        """The key that these credentials were for; None where they have not been seen."""
        known = self._seen.get(caller) if caller is not None else None
        return known[0] if known is not None else None

    def remember(self, caller: bytes | None, key: str | None, *, admitted: bool) -> None:
        """Note how a call of theirs ended.

        Args:
            key: whose call it was; None where that did not become known.
        """
        if caller is None:
            return
        key = key if key is not None else self.key_of(caller)
        if key is None:
            return
        self._seen[caller] = key, admitted
        self._seen.move_to_end(caller)
        if len(self._seen) > _MOST_CALLERS:
            self._seen.popitem(last=False)


def _newest(body: Mapping[str, Any]) -> dict[str, Any]:
    """The end of a conversation: what was said before has been scanned in the turns before, as a rule."""
    return {name: value[-_NEWEST:] if isinstance(value, list) else value for name, value in body.items()}
