"""Compares the audit log with the ledger, which the database's owner can rewrite and the log's lines cannot follow.

Promises: a record that is gone, or is another one, is found where its line was kept, also where no checkpoint covers it
yet. What is under way is no finding: the log is read to where it ended when it was opened, before the moment of the
ledger, and a line is written after its record. Work is linear in both; of each line eight bytes stay in memory.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, Final, TypeGuard
from uuid import UUID

from gatehouse.capsule.stored import LAST
from gatehouse.capsule.verification import LedgerFinding, LedgerProblem
from gatehouse.core.errors import SetupError
from gatehouse.ledger.audit_log import FILE_NAME
from gatehouse.ledger.store.capsules import RecordedCall

# Names in a line are bounded, so that whole lines have a few kilobytes.
MAX_LINE: Final = 1 << 20
_BATCH: Final = 1000
# As many runs of sequences a finding names; it counts the others.
_MAX_RUNS: Final = 10
_GZIP: Final = b"\x1f\x8b"
_ROTATED: Final = re.compile(rf"{re.escape(FILE_NAME)}\.([1-9][0-9]{{0,8}})(?:\.gz)?")


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file of the log as it was when it was opened.

    Attributes:
        size: where it ended then, in bytes; None for a compressed file, to which nothing is added.
        group: files of the same group follow each other, with no other file between them.
        source: files of the same source are of one log.
    """

    path: Path
    file: BufferedReader
    size: int | None
    group: int
    source: int = 0


@dataclass(frozen=True, slots=True)
class LogReport:
    """The audit log against the ledger.

    Attributes:
        lines: so many name a record, and were compared.
        elsewhere: so many more are of a ledger that was there before this one, signed with keys of its own.
        findings: none when each of them names a record that is there.
        not_compared: why there was nothing to compare; None when there was.
    """

    lines: int
    elsewhere: int = 0
    findings: tuple[LedgerFinding, ...] = ()
    not_compared: str | None = None


@dataclass(frozen=True, slots=True)
class Records:
    """What is asked of the ledger; `store.capsules` answers from a connection.

    Attributes:
        find: the records of a chain at these sequences.
        settled: the records of a gateway's calls, in the order in which it wrote their lines, between two places of
            that order (the first not included, the last not either).
    """

    find: Callable[[str, Sequence[int]], Iterable[RecordedCall]]
    settled: Callable[[str, int, int], Iterator[RecordedCall]]


@contextmanager
def opened(paths: Sequence[Path]) -> Iterator[list[LogFile]]:
    """Open log files, or all files of log folders, oldest first; a file that is named twice is opened once.

    Raises:
        SetupError: one cannot be read, or a folder has none.
    """
    with ExitStack() as stack:
        files: list[LogFile] = []
        groups = itertools.count()
        seen: set[tuple[int, int]] = set()
        for source, path in enumerate(paths):
            found: list[LogFile] = []
            group, follows = next(groups), 0
            for number, each in _files_of(path):
                if (file := _open(stack, each, may_be_missing=each != path)) is None:
                    continue
                status, compressed = os.fstat(file.fileno()), file.peek(2)[:2] == _GZIP
                # Whoever compresses a file takes it out of the row that the gateway moves on.
                if number > follows or compressed:
                    group = next(groups)
                follows = 0 if compressed else number + 1
                if (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    found.append(LogFile(each, file, None if compressed else status.st_size, group, source))
            files += reversed(found)
        if not files:
            raise SetupError(f"{paths[0]}: no audit log is there. Name its files, or their folder, with --jsonl.")
        yield files


def compare(
    files: Sequence[LogFile],
    records: Records,
    keys: Collection[str],
    *,
    chain: str | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> LogReport:
    """Look every line's record up, then the records without a line between those that have one.

    Args:
        keys: the ledger's, by name. Whoever starts from nothing may go on with the log that an older ledger had.
        chain: only lines about this chain; all of them when None.
        progress: told how many more bytes of the files were read.

    Raises:
        SetupError: a file cannot be read to its end.
    """
    comparison = _Comparison(records, keys)
    for file in files:
        lines = (line for line in comparison.pointers(file, progress) if chain in (None, line.chain))
        while batch := list(itertools.islice(lines, _BATCH)):
            comparison.take(batch, file)
    return comparison.report(chain)


@dataclass(frozen=True, slots=True)
class _LogLine:
    """What a line says of its record."""

    call_id: str
    chain: str
    sequence: int
    hash: str
    signed_by: str | None
    gateway: str | None
    where: str


@dataclass(slots=True)
class _Wrong:
    """Records that are wrong in the same way."""

    count: int = 0
    first: tuple[int | None, str | None, str] = (None, None, "")
    runs: list[tuple[str, int, int]] = field(default_factory=list)

    def add(self, chain: str, sequence: int, call_id: str, detail: str) -> None:
        if self.count == 0:
            self.first = (sequence, call_id, detail)
        self.count += 1
        if self.runs and self.runs[-1][0] == chain and self.runs[-1][2] + 1 == sequence:
            self.runs[-1] = (chain, self.runs[-1][1], sequence)
        elif len(self.runs) <= _MAX_RUNS:
            self.runs.append((chain, sequence, sequence))

    def finding(self, problem: LedgerProblem, what: str) -> LedgerFinding:
        shown = [
            f"{chain} {first}" if first == last else f"{chain} {first}-{last}"
            for chain, first, last in self.runs[:_MAX_RUNS]
        ]
        more = ", and more" if len(self.runs) > _MAX_RUNS else ""
        sequence, call_id, detail = self.first
        return LedgerFinding(problem, f"{self.count} {what}: {', '.join(shown)}{more}; {detail}", sequence, call_id)


class _Comparison:
    """How far the log was read, and what was found."""

    def __init__(self, records: Records, keys: Collection[str]) -> None:
        self._records = records
        self._keys = keys
        self._lines = 0
        self._elsewhere = 0
        self._begun: set[int] = set()  # logs in which a line is about this ledger
        self._missing, self._other, self._unlogged = _Wrong(), _Wrong(), _Wrong()
        self._malformed, self._first_malformed = 0, ""
        # By gateway, as the ledger says whose the calls are: the places of all that have a line, and from where to
        # where the gateway itself wrote lines, in each group of files.
        self._places: dict[str, array[int]] = {}
        self._ranges: dict[tuple[str, int], tuple[int, int]] = {}

    def pointers(self, file: LogFile, progress: Callable[[int], None]) -> Iterator[_LogLine]:
        """The lines of a file that name a record; those that cannot be read are counted."""
        read = 0
        for number, line in enumerate(_lines(file), 1):
            if number % _BATCH == 0:
                progress(file.file.tell() - read)
                read = file.file.tell()
            try:
                found = _pointer(line, f"{file.path}, line {number}")
            except (ValueError, RecursionError):
                self._malformed += 1
                self._first_malformed = self._first_malformed or f"{file.path}, line {number}"
                continue
            if found is not None:
                yield found
        progress(file.file.tell() - read)

    def take(self, lines: Sequence[_LogLine], file: LogFile) -> None:
        """Compare these lines of a file with their records."""
        there: dict[tuple[str, int], RecordedCall] = {}
        wanted: dict[str, set[int]] = {}
        for line in lines:
            wanted.setdefault(line.chain, set()).add(line.sequence)
        for chain, sequences in wanted.items():
            there.update(((chain, each.sequence), each) for each in self._records.find(chain, sorted(sequences)))
        for line in lines:
            self._compare(line, there.get((line.chain, line.sequence)), file)

    def _compare(self, line: _LogLine, record: RecordedCall | None, file: LogFile) -> None:
        is_right = record is not None and (record.hash, record.id) == (line.hash, line.call_id)
        if not is_right and line.signed_by not in self._keys and file.source not in self._begun:
            # Of an older ledger, whose lines come before those of this one; older lines name no key.
            self._elsewhere += 1
            return
        self._lines += 1
        if record is None:
            self._missing.add(line.chain, line.sequence, line.call_id, f"the first is in {line.where}")
        elif not is_right:
            detail = f"the first is in {line.where}, with hash {line.hash[:64]}; the ledger has {record.hash} there"
            self._other.add(line.chain, line.sequence, line.call_id, detail)
        else:
            self._begun.add(file.source)
            self._note(record, line, file.group)

    def _note(self, record: RecordedCall, line: _LogLine, group: int) -> None:
        if record.gateway is None or record.settled is None:
            return
        self._places.setdefault(record.gateway, array("q")).append(record.settled)
        # Who takes calls over from a dead gateway did not write the lines that are there already, and may be about to
        # write the others.
        if line.gateway == record.gateway:
            first, last = self._ranges.get((record.gateway, group), (record.settled, record.settled))
            self._ranges[record.gateway, group] = min(first, record.settled), max(last, record.settled)

    def report(self, chain: str | None) -> LogReport:
        """What was found in all."""
        for gateway, places in self._places.items():
            self._places[gateway] = array("q", sorted(places))
        for (gateway, _), (first, last) in self._ranges.items():
            places = self._places[gateway]
            for record in self._records.settled(gateway, first, last):
                assert record.settled is not None
                at = bisect_left(places, record.settled)
                has_line = at < len(places) and places[at] == record.settled
                if not has_line and chain in (None, record.chain):
                    detail = f"the first is of gateway {gateway}, which wrote lines before and after it"
                    self._unlogged.add(record.chain, record.sequence, record.id, detail)
        return LogReport(self._lines, self._elsewhere, tuple(self._findings()))

    def _findings(self) -> Iterator[LedgerFinding]:
        for problem, wrong, what in (
            (LedgerProblem.LINE_WITHOUT_RECORD, self._missing, "in the audit log and not in the ledger"),
            (LedgerProblem.LINE_OF_ANOTHER_RECORD, self._other, "not what the audit log says"),
            (LedgerProblem.RECORD_WITHOUT_LINE, self._unlogged, "not in the audit log"),
        ):
            if wrong.count:
                yield wrong.finding(problem, f"{'record is' if wrong.count == 1 else 'records are'} {what}")
        if self._malformed:
            lines = "line is no line" if self._malformed == 1 else "lines are no lines"
            detail = f"{self._malformed} {lines} of an audit log; the first is {self._first_malformed}"
            yield LedgerFinding(LedgerProblem.MALFORMED_LINE, detail)


def _files_of(path: Path) -> Iterator[tuple[int, Path]]:
    """A log folder's files with their numbers, newest first: what moves aside meanwhile is met again, not missed."""
    if not path.is_dir():
        yield 0, path
        return
    try:
        numbers = {int(match[1]) for name in os.listdir(path) if (match := _ROTATED.fullmatch(name))}
    except OSError as error:
        raise SetupError(_unreadable(path, error)) from None
    yield 0, path / FILE_NAME
    for number in sorted({1, *numbers, *(number + 1 for number in numbers)}):
        yield number, path / f"{FILE_NAME}.{number}"
        yield number, path / f"{FILE_NAME}.{number}.gz"


def _open(stack: ExitStack, path: Path, *, may_be_missing: bool) -> BufferedReader | None:
    try:
        return stack.enter_context(path.open("rb"))
    except OSError as error:
        if may_be_missing and isinstance(error, FileNotFoundError):
            return None
        raise SetupError(_unreadable(path, error)) from None


def _unreadable(path: Path, error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{path}: {reason}. Let this user read it, or name the audit log's files with --jsonl."


def _lines(file: LogFile) -> Iterator[bytes]:
    """The whole lines that were there when the file was opened; of one that is too long its beginning."""
    stream = gzip.GzipFile(fileobj=file.file) if file.size is None else file.file
    left = file.size
    goes_on = False
    try:
        while line := stream.readline(MAX_LINE):
            if left is not None and (left := left - len(line)) < 0:
                return  # written since
            is_whole = line.endswith(b"\n")
            if not goes_on and (is_whole or len(line) == MAX_LINE):
                yield line
            goes_on = not is_whole
    except (EOFError, OSError, zlib.error) as error:
        raise SetupError(_unreadable(file.path, error)) from None


def _pointer(line: bytes, where: str) -> _LogLine | None:
    """What the line says of a record; None where it is about none: an approval, a call while there was no ledger.

    Raises:
        ValueError: it is no line of an audit log.
    """
    if not line.strip():
        return None
    said = json.loads(line)
    data = said.get("data") if isinstance(said, dict) else None
    if not isinstance(data, dict) or not isinstance(said.get("event_type"), str):
        raise ValueError(where)
    capsule = data.get("capsule")
    if capsule is None:
        return None
    if not isinstance(capsule, dict):
        raise ValueError(where)
    chain, sequence, digest = capsule.get("chain"), capsule.get("sequence"), capsule.get("hash")
    signed_by = capsule.get("signed_by")
    if not (signed_by is None or isinstance(signed_by, str)):
        raise ValueError(where)
    if not (_is_text(chain) and _is_text(digest) and type(sequence) is int and 0 <= sequence <= LAST):
        raise ValueError(where)
    gateway = None if data.get("gateway") is None else _uuid(data["gateway"])
    return _LogLine(_uuid(data.get("call_id")), chain, sequence, digest, signed_by, gateway, where)


def _is_text(value: Any) -> TypeGuard[str]:
    """Whether Postgres can be asked for it."""
    return isinstance(value, str) and "\0" not in value and not re.search("[\ud800-\udfff]", value)


def _uuid(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("no id")
    return str(UUID(value))
