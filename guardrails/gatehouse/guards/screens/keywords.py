"""Finds blocked words and phrases: whole words, without regard to case, accents and the characters between them.

A text is cut into words once and each is looked up, so that thousands of phrases cost no more than one and the time is
linear in the length of the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gatehouse.guards.deadline import Deadline
from gatehouse.guards.screens.hits import Hit
from gatehouse.guards.screens.views import View
from gatehouse.guards.screens.words import spans, words, words_of
from gatehouse.guards.unicode_fold import fold

# A phrase of so many words and letters is also found with nothing between them (#howtobuildabomb). Shorter ones could
# spell another word, as `therapist` spells two.
_RUN_TOGETHER_WORDS, _RUN_TOGETHER_LETTERS = 3, 8
# How many words are looked up between two checks of the time.
_STRIDE = 5_000


class Keywords:
    """Look up the lists of one configuration."""

    def __init__(self, blocked: Mapping[str, tuple[str, ...]]) -> None:
        self._phrases: dict[tuple[str, ...], set[tuple[str, bool]]] = {}
        lengths: dict[str, set[int]] = {}
        for category, phrases in blocked.items():
            for phrase in phrases:
                key = words_of(phrase)
                # Where only an accent tells a word from an ordinary one, the accent counts.
                entry = (category, fold(phrase, homoglyphs=True).text != phrase)
                joined = "".join(key)
                # Capitals of other scripts look more Latin than small letters, so these are compared unfolded.
                keys = {key, tuple(words(phrase))}
                if len(key) >= _RUN_TOGETHER_WORDS and len(joined) >= _RUN_TOGETHER_LETTERS and joined.isascii():
                    keys.add((joined,))
                for each in keys:
                    self._phrases.setdefault(each, set()).add(entry)
                    lengths.setdefault(each[0], set()).add(len(each))
        self._lengths = {first: tuple(sorted(each)) for first, each in lengths.items()}

    def find(self, view: View, deadline: Deadline) -> Iterator[Hit]:
        """Yield every blocked word and phrase in a view of a text, with places in the view.

        Raises:
            ScanFailed: the time ran out.
        """
        if self._lengths.keys().isdisjoint(words(view.text)):
            return
        where = spans(view.text)
        cut = [view.text[start:end].casefold() for start, end in where]
        for index, word in enumerate(cut):
            if index % _STRIDE == 0:
                deadline.left()
            for length in self._lengths.get(word, ()):
                for category, marked in self._phrases.get(tuple(cut[index : index + length]), ()):
                    start, end = where[index][0], where[index + length - 1][1]
                    if not (marked and view.written(start, end).isascii()):
                        yield Hit(f"blocked_content/{category}", category, start, end, 1.0)
