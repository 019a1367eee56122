"""Reads and writes files of text: a data URL, or bare base64, whose bytes are words.

A picture, a recording and a PDF stay files. The media type counts only where the bytes could be either.
"""

from __future__ import annotations

import binascii
import codecs
import re
from dataclasses import dataclass
from typing import Final

_HEAD: Final = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;charset=[\w-]+)?;base64,", re.ASCII | re.IGNORECASE)
_TEXTUAL: Final = re.compile(
    r"text/.+|application/(?:.+\+)?(?:json|xml|yaml|x-yaml|csv|javascript|x-ndjson|jsonl|rtf|sql|toml)|.+\+(?:json|xml|yaml)",
    re.ASCII | re.IGNORECASE,
)
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_BOMS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# A PDF of pure ASCII would break if it were changed, and has its own rules.
_NO_TEXT: Final = (b"%PDF-",)
# Bytes that no text has: control characters except tabs, line ends, form feeds and terminal escapes.
_CONTROLS: Final = bytes({*range(32), 127} - {9, 10, 12, 13, 27})
# The first bytes (1,024 of base64) tell most files from text without decoding the rest.
_FIRST: Final = 1_024
# A shorter value without a head may as well be a word.
_MIN_CHARS: Final = 16


@dataclass(frozen=True, slots=True)
class FileText:
    """Hold the text of a file.

    Attributes:
        text: the decoded text.
        head: the part of a data URL before its base64.
        encoding: the text's encoding in bytes.
        url_safe: whether the base64 is the URL-safe one.
    """

    text: str
    head: str
    encoding: str
    url_safe: bool

    def written(self, text: str) -> str:
        """Return the same file with another text."""
        raw = text.encode(self.encoding, "replace" if self.encoding == "latin-1" else "surrogatepass")
        data = binascii.b2a_base64(raw, newline=False)
        return self.head + (data.translate(bytes.maketrans(b"+/", b"-_")) if self.url_safe else data).decode()


def file_text(value: str) -> FileText | None:
    """Return the text of a file; None for any other file, and for what is not base64."""
    head = _HEAD.match(value)
    data = value[head.end() :] if head else value
    named = head is not None and head["type"] is not None and _TEXTUAL.fullmatch(head["type"]) is not None
    if head is None and len(data) < _MIN_CHARS:
        return None
    first = _decoded(data[:_FIRST])
    if not first or not (named or _encoding(first, cut=len(data) > _FIRST)):
        return None
    raw = _decoded(data)
    encoding = (_encoding(raw) or ("latin-1" if named else None)) if raw else None
    if raw is None or encoding is None or (encoding == "latin-1" and not named and len(data) <= _FIRST):
        return None
    return FileText(raw.decode(encoding), head[0] if head else "", encoding, "-" in data or "_" in data)


def _decoded(data: str) -> bytes | None:
    if not data.isascii():
        return None
    packed = data.encode().translate(_TO_STANDARD, b"\r\n=")
    packed = packed[: len(packed) - (len(packed) % 4 == 1)]
    try:
        return binascii.a2b_base64(packed + b"=" * (-len(packed) % 4), strict_mode=True)
    except binascii.Error:
        return None


def _encoding(raw: bytes, *, cut: bool = False) -> str | None:
    """Return the encoding of bytes that are text; None for other bytes.

    Args:
        cut: whether the bytes were cut off, so that the last character may be incomplete.
    """
    if raw.startswith(_NO_TEXT):
        return None
    encoding = next((name for mark, name in _BOMS if raw.startswith(mark)), None) or _by_zeros(raw) or "utf-8"
    plain = raw.replace(b"\0", b"") if encoding != "utf-8" else raw
    # Text in an old code page is not UTF-8, and has no control characters either.
    if len(plain.translate(None, _CONTROLS)) != len(plain):
        return None
    try:
        codecs.getincrementaldecoder(encoding)().decode(raw, final=not cut)
    except UnicodeDecodeError:
        printed = sum(32 <= byte < 127 for byte in raw)
        return "latin-1" if encoding == "utf-8" and 10 * printed >= 7 * len(raw) else None
    return encoding


def _by_zeros(raw: bytes) -> str | None:
    """Return the byte order of UTF-16 without its mark: in Latin text every second byte is zero."""
    if len(raw) < 8:
        return None
    if 10 * raw[1::2].count(0) >= 9 * (len(raw) // 2) and 0 not in raw[::2]:
        return "utf-16-le"
    return "utf-16-be" if 10 * raw[::2].count(0) >= 9 * (len(raw) // 2) and 0 not in raw[1::2] else None
