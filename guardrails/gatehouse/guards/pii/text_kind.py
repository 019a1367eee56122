"""Tells what kind of text it is, from its first lines: what counts in a sentence may be an accident in a program."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache


class TextKind(StrEnum):
    """Name the kinds of texts that detectors tell apart."""

    PROSE = "prose"
    CODE = "code"
    DIFF = "diff"
    LOG = "log"
    JSON = "json"
    TABLE = "table"
    LOCK_FILE = "lock file"


# So much of a text is looked at, and so many of its lines.
_CHARS, _LINES = 4_000, 40
_DIFF = re.compile(r"(?m)^(?:diff --git |@@ -[0-9]+(?:,[0-9]+)? \+[0-9]+|\+\+\+ [ab]/|Index: )")
_LOCK = re.compile(
    r"sha(?:256|384|512)[-:][A-Za-z0-9+/=]{32,}| h1:[A-Za-z0-9+/]{40}|\"?(?:lockfileVersion|content-hash)\"?[:=]"
    r"|# yarn lockfile"
)
_LOG_LINE = re.compile(
    r"\s{0,8}(?:\[?[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}[T ]|\[?[0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"|[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:"
    r"|[0-9.:a-f]{7,39} - |\[?(?:DEBUG|INFO|WARN|WARNING|ERROR|FATAL|TRACE)\b|at [\w.$<>/ ]{1,200}\("
    r"|[A-Z]?[0-9]{4} [0-9]{2}:"
    r"|File \"|Traceback |Caused by: |[\w.]{3,80}(?:Error|Exception)\b)"
)
_CODE_LINE = re.compile(
    r"\s{0,40}(?:(?:def|class|import|from|return|if|elif|for|while|try|except|with|raise|assert|const|let|var|function|func|"
    r"fn|public|private|protected|static|void|package|use|using|namespace|struct|enum|impl|export|async|await|SELECT|"
    r"INSERT|CREATE|UPDATE|FROM|WHERE)\b.*[:;{(),=*]|[@#}\])]|//|/\*|\*|<[a-zA-Z/!?])|.{0,400}[;{}]\s{0,8}\Z"
    r"|\s{0,40}[\w.\[\]\"']{1,60}\s?[-+]?=[^=]"
)
_CELLS = re.compile(r"[^|,;\t]{1,60}(?:\s?[|,;\t]\s?[^|,;\t]{0,60}){2,}\s{0,8}\Z")
_FIELD = re.compile(r'"[\w@ .$/-]{1,60}"\s?:')
_MOST, _MANY = 0.6, 0.4


def kind_of(text: str) -> TextKind:
    """Return the kind of a text."""
    return _kind_of(text[:_CHARS])


@lru_cache(maxsize=4)  # several detectors ask for the kind of one text, one after another
def _kind_of(head: str) -> TextKind:
    if _DIFF.search(head):
        return TextKind.DIFF
    if len(_LOCK.findall(head)) > 2:
        return TextKind.LOCK_FILE
    lines = [line for line in head.splitlines()[:_LINES] if line.strip()]
    if not lines:
        return TextKind.PROSE
    if head.lstrip()[0] in "{[" and _FIELD.search(head):
        return TextKind.JSON
    if _share(_LOG_LINE, lines) >= _MANY:
        return TextKind.LOG
    if _share(_CODE_LINE, lines) >= _MANY:
        return TextKind.CODE
    if len(lines) > 1 and _share(_CELLS, lines) >= _MOST and len({_cells(line) for line in lines}) <= 2:
        return TextKind.TABLE
    return TextKind.PROSE


def _share(pattern: re.Pattern[str], lines: list[str]) -> float:
    return sum(pattern.match(line[:500]) is not None for line in lines) / len(lines)


def _cells(line: str) -> int:
    return max(line.count(sign) for sign in "|,;\t")
