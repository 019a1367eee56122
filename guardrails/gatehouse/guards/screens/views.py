"""Lists the ways in which one text can be read: folded, as it is, and with its encoded parts decoded.

Every screen looks at every view, so that a disguise is undone in one place. A view knows its place in the text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gatehouse.guards.deadline import Deadline
from gatehouse.guards.screens.encodings import announced, encoded_runs, invisible_runs, with_letters_for_digits
from gatehouse.guards.unicode_fold import Folded, fold

# Base64 in base64 is decoded twice; with more layers a model would not understand it either.
_DEPTH = 2


@dataclass(frozen=True, slots=True)
class View:
    """Hold one reading of `source`.

    Attributes:
        text: the text that the screens look at.
        source: the text of which it is a reading: the whole text, or a decoded run.
        folded: maps `text` to `source`; None where the characters correspond one to one.
        offset: where in the folded source `text` starts.
        run: the run of the whole text that was decoded; None for a reading of the whole text.
        respelled: whether digits in words were read as letters, which would spoil any secret.
        invisible: whether a reader of the whole text cannot see it.
    """

    text: str = field(repr=False)
    source: str = field(repr=False)
    folded: Folded | None = field(default=None, repr=False)
    offset: int = 0
    run: tuple[int, int] | None = None
    respelled: bool = False
    invisible: bool = False

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the place of `text[start:end]` (not empty) in the whole text."""
        return self._in_source(start, end) if self.run is None else self.run

    def written(self, start: int, end: int) -> str:
        """Return the source's spelling of `text[start:end]` (not empty)."""
        first, last = self._in_source(start, end)
        return self.source[first:last]

    def _in_source(self, start: int, end: int) -> tuple[int, int]:
        start, end = start + self.offset, end + self.offset
        return (start, end) if self.folded is None else self.folded.span(start, end)


def views(text: str, deadline: Deadline) -> Iterator[View]:
    """Yield every reading of a text.

    Raises:
        ScanFailed: the time ran out.
    """
    yield from _views(text, deadline, _DEPTH, None)


def _views(text: str, deadline: Deadline, depth: int, run: tuple[int, int] | None) -> Iterator[View]:
    folded = fold(text, homoglyphs=True)
    yield View(folded.text, text, folded, run=run)
    if folded.text != text:
        # An invisible character may stand between two words, where the folded text has none.
        yield View(text, text, run=run)
    for offset, spelled in with_letters_for_digits(folded.text):
        yield View(spelled, text, folded, offset, run, respelled=True)
    for other in announced(folded.text):
        yield View(other, other, run=run or (0, len(text)))
    if not depth:
        return
    for start, end, inner in invisible_runs(text, deadline):
        yield View(inner, inner, run=run or (start, end), invisible=True)
    for start, end, inner in encoded_runs(folded.text, deadline):
        yield from _views(inner, deadline, depth - 1, run or folded.span(start, end))
