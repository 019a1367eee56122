"""Tells how many strings of JSON a place in a running text stands in, so that a value put there leaves JSON valid.

A tool's arguments are JSON whose strings may hold JSON again, such as a file that the tool writes. Inside `n` strings a
quote has `2**n - 1` backslashes before it. A text or string is JSON if it begins as an object or array that has a
string.
"""

from __future__ import annotations

import re
from typing import Final

_QUOTE: Final = re.compile(r'(?<!\\)(\\*+)"')
# What stands before the first string in a JSON text, inside any number of strings.
_LEAD: Final = re.compile(r"(?:\s|\\+[nrt])*+[\[{](?:\s|\\+[nrt]|[\[{\]},.0-9eE+-]|true|false|null)*+", re.ASCII)
_MAX_LEAD: Final = 256


class Nesting:
    """Read one running text from its beginning on.

    Args:
        is_json: the text is JSON; else how it begins says whether it is.
    """

    __slots__ = ("_depth", "_is_json", "_lead", "_least", "_slashes")

    def __init__(self, *, is_json: bool) -> None:
        self._least = int(is_json)
        self._depth = 0
        # Whether the text, and what stands in each open string, is JSON; None where no quote has told yet.
        self._is_json: list[bool | None] = [True if is_json else None]
        self._lead = ""
        self._slashes = 0  # at the end of the text so far

    @property
    def escapes(self) -> int:
        """Return how often a value is escaped that is put here. In JSON it can stand only in a string."""
        return max(self._least, self._depth)

    def read(self, text: str) -> None:
        """Read the next piece."""
        if not text.strip("\\"):
            self._slashes += len(text)
            return
        if not text.lstrip("\\").startswith('"'):
            self._note("\\" * min(self._slashes, _MAX_LEAD))
            self._slashes = 0
        at = 0
        for match in _QUOTE.finditer(text):
            self._note(text[at : match.start()])
            self._see(len(match[1]) + self._slashes)
            self._slashes = 0
            at = match.end()
        last = text[at:].rstrip("\\")
        self._note(last)
        self._slashes = len(text) - at - len(last)

    def _note(self, text: str) -> None:
        if self._is_json[-1] is None and len(self._lead) <= _MAX_LEAD:
            self._lead += text[: _MAX_LEAD + 1]

    def _see(self, slashes: int) -> None:
        """Follow a quote with so many backslashes before it."""
        for outer in range(self._depth):
            if _is_quote_in(outer, slashes):  # the end of that string
                del self._is_json[outer + 1 :]
                self._depth = outer
                return
        if self._is_json[-1] is None:
            self._is_json[-1] = len(self._lead) <= _MAX_LEAD and _LEAD.fullmatch(self._lead) is not None
        if self._is_json[-1] and _is_quote_in(self._depth, slashes):
            self._depth += 1
            self._is_json.append(None)
            self._lead = ""


def _is_quote_in(depth: int, slashes: int) -> bool:
    """Tell whether a quote begins or ends a string of the JSON text inside so many strings."""
    return slashes % (2 << depth) == (1 << depth) - 1
