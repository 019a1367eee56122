"""Decodes what is encoded inside a text, in linear time, so that a scan sees what a model would decode.

A run is words of base64 or hexadecimal that line ends join, as MIME, PEM, YAML and quoted mail break them, whatever
stands before and after it. Readable parts of a run are found anywhere in it, also between unreadable ones. Escapes
(`%40`, `&#64;`, `\\u0040`) are decoded one by one, and each decoded character knows its original place.
"""

from __future__ import annotations

import binascii
import html
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from urllib.parse import unquote

from gatehouse.guards.deadline import Deadline

# Sixteen characters are twelve bytes: the shortest e-mail address worth encoding.
_MIN_CHARS, _MIN_BYTES = 16, 12
WORD = "[A-Za-z0-9+/_-]"
# Between two lines of one block: padding and quotes, the line end (also as JSON and a shell write it), indentation and
# the marks of quoted mail and comments.
BREAK = r"""[ \t"',=]*+(?:\\?[\r\n]|\\[rn])(?:[\s>"'#*|]|\\[rnt])*+"""
_BREAK = re.compile(BREAK)
# A word begins after another character, and neither with the letter of an escape nor before it. Each is tried once, and
# what follows it is read at most twice: the time is linear.
START = rf"(?:(?<!{WORD})(?!(?<=\\)[rnt])|(?<=\\[rnt]))"
_RUN = re.compile(rf"{START}(?:{WORD}{{{_MIN_CHARS},}}+|{WORD}++(?={BREAK}{WORD}))(?:{BREAK}{WORD}++)*+={{0,2}}+")
_TO_STANDARD = str.maketrans("-_", "+/")

# Bytes in hexadecimal, in one word or in lines of them. The check of what may not precede a word comes after its first
# digit, because `re` is fastest where a pattern begins with a set.
_DIGIT = "[0-9a-fA-F]"
_BYTES = rf"(?:{_DIGIT}{{2}})*+(?![A-Za-z0-9])"
_HEX = re.compile(rf"{_DIGIT}(?:(?<![A-Za-z0-9].)|(?<=\\[rnt].)){_DIGIT}{_BYTES}(?:{BREAK}(?={_DIGIT}){_BYTES})*+")
_MIN_HEX_CHARS = 24

# One escape: bytes of UTF-8 as in URLs, a character by its number as in HTML, JSON and Python, and HTML's names of
# signs in numbers and addresses.
_ESCAPE = re.compile(
    rf"%[0-7]{_DIGIT}|(?:%[89a-fA-F]{_DIGIT})++|&#(?:[xX]{_DIGIT}{{1,6}}|[0-9]{{1,7}});?"
    r"|&(?:commat|period|plus|hyphen|dash|lowbar|nbsp|ensp|emsp|thinsp|amp|lpar|rpar|sol|colon|num);"
    rf"|\\(?:x{_DIGIT}{{2}}|u{_DIGIT}{{4}}|u\{{{_DIGIT}{{1,6}}\}}|U{_DIGIT}{{8}})"
)
# The other characters of a word with escapes in it.
_IN_WORD = re.compile(r"[\w.~+@-]*+")
_MAX_WORD = 40

# Readable bytes: UTF-8 without control characters, and UTF-16 of either order as far as it writes Latin letters. One or
# two other bytes do not end a stretch of four or more.
_ASCII = rb"[\t\n\r\x20-\x7e]"
_OTHER = rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
_FOUR = rb"(?:%b|%b){4}+(?:%b++|%b)*+" % (_ASCII, _OTHER, _ASCII, _OTHER)
_UTF_8 = re.compile(rb"(?s:%b(?:.{1,2}?%b)*+)" % (_FOUR, _FOUR))
_LATIN = rb"[\t\n\r\x20-\x7e\xa0-\xff]"
_LITTLE, _BIG = rb"(?:%b\0){4,}+" % _LATIN, rb"(?:\0%b){4,}+" % _LATIN
_UTF_16 = re.compile(rb"(?s:(%b(?:(?:..){1,2}?%b)*+)|%b(?:(?:..){1,2}?%b)*+)" % (_LITTLE, _LITTLE, _BIG, _BIG))


def decoded_runs(text: str, deadline: Deadline) -> Iterator[tuple[int, int, str]]:
    """Yield start and end of the words that hold base64 of readable text, and that text.

    Raises:
        ScanFailed: the time ran out.
    """
    if not _may_hold_a_run(text):
        return
    for match in _RUN.finditer(text):
        deadline.left()
        run = JoinedWords.of(text, *match.span())
        if len(run.value) < _MIN_CHARS:
            continue
        value = run.value.translate(_TO_STANDARD)
        # Other characters or another block may precede it, so every alignment is read to its end.
        for offset in range(min(4, len(value) - _MIN_CHARS + 1)):
            for first, last, plain in readable(_decoded(value[offset:])):
                start, end = run.span(offset + first * 4 // 3, offset + (last * 4 + 2) // 3)
                yield start, end, plain


def _may_hold_a_run(text: str) -> bool:
    return "\n" in text or "\r" in text or "\\" in text or has_word(text, _MIN_CHARS)


def has_word(text: str, min_chars: int) -> bool:
    """Tell whether so many characters stand together without a blank; it spares most texts a slower pattern."""
    return len(max(text.split(), key=len, default="")) >= min_chars


def hex_runs(text: str, deadline: Deadline) -> Iterator[tuple[int, int, str]]:
    """Yield start and end of the words that hold hexadecimal of readable text, and that text.

    Raises:
        ScanFailed: the time ran out.
    """
    for match in _HEX.finditer(text):
        if match.end() - match.start() >= _MIN_HEX_CHARS:
            deadline.left()
            run = JoinedWords.of(text, *match.span())
            for first, last, plain in readable(bytes.fromhex(run.value)):
                yield *run.span(2 * first, 2 * last), plain


@dataclass(frozen=True, slots=True)
class Unescaped:
    """Hold a stretch of a text with its escapes decoded.

    Attributes:
        text: the decoded text.
        starts: where each of its characters starts in the original text.
        ends: where each of them ends there.
    """

    text: str
    starts: array[int]
    ends: array[int]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the place of `text[start:end]` (not empty) in the original text."""
        return self.starts[start], self.ends[end - 1]

    def touches(self, start: int, end: int) -> bool:
        """Tell whether any of `text[start:end]` was written as an escape."""
        return self.ends[end - 1] - self.starts[start] != end - start


def unescaped(text: str, deadline: Deadline, *, around: int = 0, min_escapes: int = 1) -> Iterator[Unescaped]:
    """Yield every stretch of a text that has escapes in it.

    Args:
        around: how many characters before and after an escape's word belong to its stretch.
        min_escapes: how many escapes a stretch must have.

    Raises:
        ScanFailed: the time ran out.
    """
    if not any(each in text for each in "%&\\"):
        return
    group: list[re.Match[str]] = []
    for match in _ESCAPE.finditer(text):
        if group and not _belongs(text, group[-1].end(), match.start(), around):
            deadline.left()
            if _count(group) >= min_escapes:
                yield _undone(text, group, around)
            group = []
        group.append(match)
    if group and _count(group) >= min_escapes:
        yield _undone(text, group, around)


def _belongs(text: str, end: int, start: int, around: int) -> bool:
    """Tell whether two escapes stand so close that one stretch holds both."""
    if start - end <= max(2 * around, 1):
        return True
    return start - end <= _MAX_WORD and _IN_WORD.fullmatch(text, end, start) is not None


def _count(group: list[re.Match[str]]) -> int:
    """Count the escapes; of adjacent bytes each counts as one."""
    return sum(len(match[0]) // 3 if match[0][0] == "%" else 1 for match in group)


def _undone(text: str, group: list[re.Match[str]], around: int) -> Unescaped:
    first, last = group[0].start(), group[-1].end()
    word = _IN_WORD.match(text[max(0, first - _MAX_WORD) : first][::-1])
    begin = max(0, first - max(around, word.end() if word else 0))
    word = _IN_WORD.match(text, last, last + _MAX_WORD)
    stop = min(len(text), max(last + around, word.end() if word else 0))
    # Queries write a blank as a plus.
    is_query = any(match[0][0] == "%" for match in group)
    out: list[str] = []
    starts, ends = array("l"), array("l")
    at = begin
    for start, end, plain in (*((*match.span(), _plain(match[0])) for match in group), (stop, stop, "")):
        between = text[at:start]
        out += (between.replace("+", " ") if is_query else between, plain)
        starts.extend(range(at, start))
        ends.extend(range(at + 1, start + 1))
        starts.extend([start] * len(plain))
        ends.extend([end] * len(plain))
        at = end
    return Unescaped("".join(out), starts, ends)


def _plain(escape: str) -> str:
    if escape[0] == "%":
        return unquote(escape)
    if escape[0] == "&":
        return html.unescape(escape)
    code = int(escape[2:].strip("{}"), 16)
    return chr(code) if code < 0x110000 else escape


@dataclass(frozen=True, slots=True)
class JoinedWords:
    """Hold a run of words without the line ends between them.

    Attributes:
        value: the words together.
        words: for each word, its start in `value`, and its start and end in the text.
    """

    value: str
    words: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, text: str, start: int, end: int) -> JoinedWords:
        """Join the words of `text[start:end]`."""
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
        """Return the place in the text of the words that hold `value[start:end]`."""
        first = bisect_right(self.words, start, key=itemgetter(0)) - 1
        last = bisect_left(self.words, end, key=itemgetter(0)) - 1
        return self.words[first][1], self.words[last][2]


def readable(raw: bytes) -> Iterator[tuple[int, int, str]]:
    """Yield start and end of each stretch of bytes that is text, and that text."""
    for match in _UTF_8.finditer(raw):
        if match.end() - match.start() >= _MIN_BYTES:
            yield *match.span(), match[0].decode("utf-8", "replace")
    if b"\0" in raw:
        for match in _UTF_16.finditer(raw):
            if match.end() - match.start() >= _MIN_BYTES:
                yield *match.span(), match[0].decode("utf-16-le" if match[1] else "utf-16-be", "replace")


def _decoded(value: str) -> bytes:
    value = value[: len(value) - (len(value) % 4 == 1)]
    return binascii.a2b_base64(value + "=" * (-len(value) % 4))
