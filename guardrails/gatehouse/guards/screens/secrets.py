"""Finds secrets by their format: keys, tokens, private keys and passwords in addresses. It uses no network.

Obvious placeholders of documentation do not count. Every pattern runs against the clock: one that takes too long ends
the scan, and is not skipped.
"""

from __future__ import annotations

from collections.abc import Iterator

import regex  # type: ignore[import-untyped]

from gatehouse.guards.deadline import Deadline, matches
from gatehouse.guards.screens.formats import formats
from gatehouse.guards.screens.hits import SECRETS, Hit
from gatehouse.guards.screens.prefixes import PUBLISHED
from gatehouse.guards.screens.views import View

# A random token holds one of these words once in ten thousand cases or less.
_PLACEHOLDER = regex.compile(
    r"example|your|xxxx|placeholder|dummy|change.?me|redacted|insert|replace|sample|goes.?here|[_-](?:here|fake)\b"
    r"|0123456|1234567|abcdefg|qwerty|aaaaa|00000"
    # The signature of jwt.io's sample token, which many documents copy.
    r"|SflKxwRJSMeKKF2QT4",
    regex.I,
)
# A random token of twenty or more characters hardly ever has fewer different ones.
_MIN_DIFFERENT = 8


class Secrets:
    """Match every format; the formats are the same for all configurations."""

    def __init__(self) -> None:
        self._formats = formats()
        # By anchor, the indexes of the formats that have it.
        self._places: dict[str, list[int]] = {}
        for place, each in enumerate(self._formats):
            for anchor in each.anchors:
                self._places.setdefault(anchor, []).append(place)

    def find(self, view: View, deadline: Deadline) -> Iterator[Hit]:
        """Yield every secret in a view of a text, without overlaps, with places in the view.

        Raises:
            ScanFailed: the time ran out.
        """
        if view.respelled:
            return
        text = view.text
        lower = text.lower()
        taken = bytearray(len(text))
        present = {place for anchor, places in self._places.items() if anchor in lower for place in places}
        for each in map(self._formats.__getitem__, sorted(present)):
            for match in matches(each.pattern, text, deadline):
                value, (start, end) = match[each.group], match.span(each.group)
                if start == end or taken.find(1, start, end) >= 0:
                    continue
                if each.check(value) and not (each.words and is_placeholder(value)):
                    taken[start:end] = b"\1" * (end - start)
                    yield Hit(SECRETS, each.id, start, end, each.score)


def is_placeholder(value: str) -> bool:
    """Tell whether a secret only marks the place of one: words, too few different characters, or an example of docs."""
    return (
        len(set(value)) < _MIN_DIFFERENT
        or any(each in value for each in PUBLISHED)
        or _PLACEHOLDER.search(value) is not None
    )
