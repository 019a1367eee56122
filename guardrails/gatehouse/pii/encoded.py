"""Base64 inside a text: read in linear time, so that what is scanned is what a model would decode.

A run is words of base64 that line ends join, as MIME, PEM, YAML and quoted mail break them, whatever stands before and
after it. What is readable in it is found wherever it stands, also in the middle of what is not.
"""

from __future__ import annotations

import binascii
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

from gatehouse.pii.deadline import Deadline

# Sixteen characters are twelve bytes: the shortest e-mail address that is worth writing so.
_LEAST, _LEAST_BYTES = 16, 12
WORD = "[A-Za-z0-9+/_-]"
# Between two lines of one block: padding and quotes, the line end (also as JSON and a shell write it), indentation and
# the marks of quoted mail and comments.
BREAK = r"""[ \t"',=]*+(?:\\?[\r\n]|\\[rn])(?:[\s>"'#*|]|\\[rnt])*+"""
_BREAK = re.compile(BREAK)
# A word begins behind something else, and neither with the letter of an escape nor before it. Each is tried once, and
# what stands behind it is read twice at most: the time is linear.
START = rf"(?:(?<!{WORD})(?!(?<=\\)[rnt])|(?<=\\[rnt]))"
_RUN = re.compile(rf"{START}(?:{WORD}{{{_LEAST},}}+|{WORD}++(?={BREAK}{WORD}))(?:{BREAK}{WORD}++)*+={{0,2}}+")
_TO_STANDARD = str.maketrans("-_", "+/")

# Readable bytes: UTF-8 without control characters, and UTF-16 of either order as far as it writes Latin letters. One or
# two others do not end a stretch of four and more.
_ASCII = rb"[\t\n\r\x20-\x7e]"
_OTHER = rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
_FOUR = rb"(?:%b|%b){4}+(?:%b++|%b)*+" % (_ASCII, _OTHER, _ASCII, _OTHER)
_UTF_8 = re.compile(rb"(?s:%b(?:.{1,2}?%b)*+)" % (_FOUR, _FOUR))
_LATIN = rb"[\t\n\r\x20-\x7e\xa0-\xff]"
_LITTLE, _BIG = rb"(?:%b\0){4,}+" % _LATIN, rb"(?:\0%b){4,}+" % _LATIN
_UTF_16 = re.compile(rb"(?s:(%b(?:(?:..){1,2}?%b)*+)|%b(?:(?:..){1,2}?%b)*+)" % (_LITTLE, _LITTLE, _BIG, _BIG))


def decoded_runs(text: str, deadline: Deadline) -> Iterator[tuple[int, int, str]]:
    """Start and end of the words that hold base64 of readable text, and that text.

    Raises:
        ScanFailed: the time is over.
    """
    if not _may_hold_a_run(text):
        return
    for match in _RUN.finditer(text):
        deadline.left()
        run = Joined.of(text, *match.span())
        if len(run.value) < _LEAST:
            continue
        value = run.value.translate(_TO_STANDARD)
        # Other characters may stand before it, or another block: every alignment is read, and each to its end.
        for offset in range(min(4, len(value) - _LEAST + 1)):
            for first, last, plain in readable(_decoded(value[offset:])):
                start, end = run.span(offset + first * 4 // 3, offset + (last * 4 + 2) // 3)
                yield start, end, plain


def _may_hold_a_run(text: str) -> bool:
    return "\n" in text or "\r" in text or "\\" in text or has_word(text, _LEAST)


def has_word(text: str, least: int) -> bool:
    """Whether so many characters stand together without a blank: a cheap look that spares most texts a pattern."""
    return len(max(text.split(), key=len, default="")) >= least


@dataclass(frozen=True, slots=True)
class Joined:
    """A run of words with the line ends between them left out.

    Attributes:
        value: the words together.
        words: for each, where it starts in `value` and where it starts and ends in the text.
    """

    value: str
    words: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, text: str, start: int, end: int) -> Joined:
        """The words of `text[start:end]`."""
        words: list[tuple[int, int, int]] = []
        values: list[str] = []
        length = 0
        while start < end:
            gap = _BREAK.search(text, start, end)
            last = gap.start() if gap else end
            word = text[start:last].rstrip("=")
            words.append((length, start, last))
            values.append(word)
            length += len(word)
            start = gap.end() if gap else end
        return cls("".join(values), tuple(words))

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where the words that hold `value[start:end]` stand in the text."""
        first = bisect_right(self.words, start, key=itemgetter(0)) - 1
        last = bisect_left(self.words, end, key=itemgetter(0)) - 1
        return self.words[first][1], self.words[last][2]


def readable(raw: bytes) -> Iterator[tuple[int, int, str]]:
    """Start and end of each stretch of bytes that is text, and that text."""
    for match in _UTF_8.finditer(raw):
        if match.end() - match.start() >= _LEAST_BYTES:
            yield *match.span(), match[0].decode("utf-8", "replace")
    if b"\0" in raw:
        for match in _UTF_16.finditer(raw):
            if match.end() - match.start() >= _LEAST_BYTES:
                yield *match.span(), match[0].decode("utf-16-le" if match[1] else "utf-16-be", "replace")


def _decoded(value: str) -> bytes:
    value = value[: len(value) - (len(value) % 4 == 1)]
    return binascii.a2b_base64(value + "=" * (-len(value) % 4))
