"""logs/litellm_audit.jsonl: one whole line a call, and one when an approval is asked for and when it is decided, also
when the disk fills up or the writer dies in the middle of one.

Several processes may append to one file: each batch is written under an exclusive lock, and what could not be written
whole is cut off again. A file that has grown large moves aside between two batches: `.1` is the newest of the old ones.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

from gatehouse.core.call import AuditLine
from gatehouse.core.errors import SetupError

FILE_NAME = "litellm_audit.jsonl"
_ID_FILE = ".log-id"
_CALL_ID = b'"call_id":"'


class AuditLog:
    """An append-only file of JSON lines.

    Args:
        max_bytes: the size from which on the file moves aside.
        keep: how many old files stay; the ledger in the database has everything.

    Attributes:
        log_id: names the folder the file lies in, so that a gateway knows which dead gateways wrote to the same file.
    """

    def __init__(self, folder: Path, *, max_bytes: int = 100_000_000, keep: int = 20) -> None:
        """Open the file, and cut off a line that a dying writer left torn.

        Raises:
            SetupError: the folder cannot be written.
        """
        self.path = folder / FILE_NAME
        self._max_bytes = max_bytes
        self._keep = keep
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.log_id = _folder_id(folder)
            self._fd = _open(self.path)
        except OSError as error:
            raise SetupError(
                f"{error.filename or folder}: {error.strerror}. "
                "Let the gateway's user write there, or set GATEHOUSE_LOG_DIR."
            ) from None
        with self._locked() as size:
            _cut_torn_line(self._fd, size)

    def append(self, records: Iterable[AuditLine]) -> None:
        """Write a line for each record, all or none.

        Raises:
            OSError: the file could not be written; it is as it was before.
        """
        data = b"".join(encode(record) for record in records)
        with self._locked() as size:
            if size and size + len(data) > self._max_bytes:
                self._rotate()
                size = 0
            try:
                written = 0
                while written < len(data):
                    written += os.write(self._fd, data[written:])
            except OSError:
                os.ftruncate(self._fd, size)
                raise

    def missing(self, call_ids: set[str]) -> set[str]:
        """Which of these calls have no line yet. Reads whole files: for recovery only."""
        left = set(call_ids)
        for path in (self.path, *(self._old(number) for number in range(1, self._keep + 1))):
            if not left or not path.exists():
                break
            with path.open("rb") as lines:
                for line in lines:
                    at = line.find(_CALL_ID)
                    if at >= 0:
                        left.discard(line[at + len(_CALL_ID) : at + len(_CALL_ID) + 36].decode("ascii", "replace"))
        return left

    def close(self) -> None:
        os.close(self._fd)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Hold the file for this process; yields its size."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        while not self._is_current():  # another process moved it aside
            fd = _open(self.path)
            os.close(self._fd)
            self._fd = fd
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            yield os.fstat(self._fd).st_size
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _is_current(self) -> bool:
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        ours = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def _old(self, number: int) -> Path:
        return self.path.with_name(f"{FILE_NAME}.{number}")

    def _rotate(self) -> None:
        """Move the file aside while it is held, and hold a new one."""
        for number in range(self._keep - 1, 0, -1):
            if self._old(number).exists():
                self._old(number).replace(self._old(number + 1))
        if self._keep > 0:
            self.path.replace(self._old(1))
        else:
            self.path.unlink()
        fd = _open(self.path)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.close(self._fd)
        self._fd = fd


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)


def encode(record: AuditLine) -> bytes:
    """One line.

    A call's `call_id` comes first in `data`, where `AuditLog.missing` looks for it before any text of a caller; what is
    no call's has none, and begins with something else that no caller wrote.
    """
    data = record["data"]
    if "call_id" in data:
        data = {"call_id": data["call_id"], **data}
    line = {"timestamp": record["timestamp"], "event_type": record["event_type"], "data": data}
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def _folder_id(folder: Path) -> UUID:
    path = folder / _ID_FILE
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640), "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # gateways that start together agree on one
        if os.fstat(file.fileno()).st_size == 0:
            file.write(f"{uuid4()}\n")
            file.seek(0)
        try:
            return UUID(file.read().strip())
        except ValueError:
            raise SetupError(f"{path}: it does not hold the folder's id. Remove it; a new one is made.") from None


def _cut_torn_line(fd: int, size: int) -> None:
    end = size
    while end > 0:
        start = max(0, end - 65536)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end != size:
        os.ftruncate(fd, end)
