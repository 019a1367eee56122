"""Scans a text of any length in parts: no finding is cut in two, and each part is read with what stands before it.

Only files are scanned so, because they may be larger than memory; `guards/pieces.py` cuts what the gateway scans.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import BinaryIO

from gatehouse.guards.findings import Finding

PART_CHARS = 50_000
# No finding that ends in time is longer, except base64, which may have any length and passes as it comes.
_OVERLAP = 2_000
# Context words are looked for in 60 characters; a number or word that continues must not look finished.
_BEFORE = 500
_READ = 1 << 16
_STRANGE = re.compile("[\udc80-\udcff]")
_BOMS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def scan_long_text(
    chunks: Iterable[str], scan: Callable[[str], list[Finding]], size: int = PART_CHARS
) -> Iterator[tuple[str, list[Finding]]]:
    """Yield consecutive parts of the text, each with its findings, whose places count from the part's beginning.

    Args:
        chunks: the text, cut anywhere.
        scan: returns the findings of a text; its exceptions pass through.
        size: the most characters of a part; above 2,000.
    """
    before = text = ""
    for chunk in chunks:
        text += chunk
        done = 0
        while len(text) - done > size:
            window = text[done : done + size]
            findings = _found(before, window, scan)
            cut = _cut(window, findings)
            yield window[:cut], [each for each in findings if each.end <= cut]
            before = (before + window[:cut])[-_BEFORE:]
            done += cut
        text = text[done:]
    if text:
        yield text, _found(before, text, scan)


def _found(before: str, text: str, scan: Callable[[str], list[Finding]]) -> list[Finding]:
    at = len(before)
    return [
        replace(each, start=max(0, each.start - at), end=each.end - at) for each in scan(before + text) if each.end > at
    ]


def _cut(window: str, findings: list[Finding]) -> int:
    """Return where the part ends: after a line or a word, and never inside a finding."""
    limit = len(window) - _OVERLAP
    cut = window.rfind("\n", 0, limit) + 1 or window.rfind(" ", 0, limit) + 1 or limit
    for each in findings:
        if each.start < cut < each.end:
            return each.start or each.end
    return cut


class TextFile:
    """Read the text of a file a block at a time: UTF-8, or UTF-16 where it begins with its mark.

    Bytes that are neither are kept, so that `encode` gives them back.

    Attributes:
        strange: how many bytes so far were not UTF-8.
    """

    def __init__(self, file: BinaryIO, advance: Callable[[int], object] = lambda _: None) -> None:
        self._file, self._advance = file, advance
        self._encoding = "utf-8"
        self.strange = 0

    def __iter__(self) -> Iterator[str]:
        block = self._file.read(_READ)
        self._encoding = _BOMS.get(block[:2], "utf-8")
        decoder = codecs.getincrementaldecoder(self._encoding)("surrogateescape" if self._is_utf8 else "replace")
        while True:
            text = decoder.decode(block, final=not block)
            self.strange += len(_STRANGE.findall(text))
            yield text
            self._advance(len(block))
            if not block:
                return
            block = self._file.read(_READ)

    @property
    def _is_utf8(self) -> bool:
        return self._encoding == "utf-8"

    def encode(self, text: str) -> bytes:
        """Return the text in the file's own encoding."""
        return text.encode(self._encoding, "surrogateescape" if self._is_utf8 else "replace")
