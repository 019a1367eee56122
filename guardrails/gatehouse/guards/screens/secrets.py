"""Secrets by their format: keys, tokens, private keys and passwords in addresses. Nothing is asked of any network.

What is plainly a placeholder of documentation is none. Every pattern runs against the clock: one that blows up ends the
scan, it is not skipped.
"""

from __future__ import annotations

from collections.abc import Iterator

import regex  # type: ignore[import-untyped]

from gatehouse.guards.deadline import Deadline, matches
from gatehouse.guards.screens.formats import formats
from gatehouse.guards.screens.hits import Hit
from gatehouse.guards.screens.views import View

# Words that a token drawn at random holds once in ten thousand or less.
_PLACEHOLDER = regex.compile(
    r"example|your|xxxx|placeholder|dummy|change.?me|redacted|insert|replace|sample|goes.?here|[_-](?:here|fake)\b"
    r"|0123456|1234567|abcdefg|qwerty|aaaaa|00000"
    # The signature of the token that jwt.io shows, which half of all documentation copies.
    r"|SflKxwRJSMeKKF2QT4",
    regex.I,
)
# Characters of a random token of twenty or more that differ are hardly ever fewer.
_LEAST_DIFFERENT = 8


class Secrets:
    """Every format. The same for all configurations."""

    def __init__(self) -> None:
        self._formats = formats()
        # By anchor, the places in the list of the formats that have it.
        self._places: dict[str, list[int]] = {}
        for place, each in enumerate(self._formats):
            for anchor in each.anchors:
                self._places.setdefault(anchor, []).append(place)

    def find(self, view: View, deadline: Deadline) -> Iterator[Hit]:
        """Every secret in a view of a text, none overlapping another, in its coordinates.

        Raises:
            ScanFailed: the time is over.
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
                    yield Hit("secrets", each.id, start, end, each.score)


def is_placeholder(value: str) -> bool:
    """Whether a secret is one that only shows where a secret belongs: words, or too few different characters."""
    return len(set(value)) < _LEAST_DIFFERENT or _PLACEHOLDER.search(value) is not None
