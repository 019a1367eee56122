"""Takes intents and settlements while the ledger cannot be written, with `audit.on_error: spool` in policy.yaml.

Promises: what `add` returned for is on the disk; a gateway's files are drained by itself or, once it is dead, by the
next one on the same folder, in the order written, and removed only after everything in them is committed.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from uuid import UUID

from gatehouse.core.errors import SetupError
from gatehouse.core.files import sync_folder
from gatehouse.ledger.rows import IntentRow
from gatehouse.ledger.settlement import Settlement

Entry = IntentRow | Settlement


class Spool:
    """One gateway's spool in a folder that several may share.

    Each gateway holds the lock on `<gateway id>.lock` while it lives; its entries are in `<gateway id>.<number>.jsonl`.
    """

    def __init__(self, folder: Path, gateway_id: UUID) -> None:
        """Take the lock.

        Raises:
            SetupError: the folder cannot be written.
        """
        self._folder = folder
        self._me = gateway_id
        self._number = 0
        self._fd: int | None = None
        self._pending: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writing = asyncio.Lock()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _try_lock(folder / f"{gateway_id}.lock")
        except OSError as error:
            raise SetupError(
                f"{error.filename or folder}: {error.strerror}. Let the gateway's user write there."
            ) from None

    async def add(self, entry: Entry) -> None:
        """Write an entry and wait until it is on the disk; many at once share one fsync.

        Raises:
            OSError: it could not be written; nothing of it is kept.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((_line(entry), done))
        async with self._writing:
            batch, self._pending = self._pending, []
            if batch:
                await self._write(batch)
        await done

    async def _write(self, batch: list[tuple[bytes, asyncio.Future[None]]]) -> None:
        try:
            await asyncio.to_thread(self._append, b"".join(data for data, _ in batch))
        except OSError as error:
            for _, done in batch:
                if not done.done():
                    done.set_exception(error)
            return
        for _, done in batch:
            if not done.done():
                done.set_result(None)

    def _append(self, data: bytes) -> None:
        if self._fd is None:
            path = self._folder / f"{self._me}.{self._number:06}.jsonl"
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            sync_folder(self._folder)
        size = os.fstat(self._fd).st_size
        try:
            written = 0
            while written < len(data):
                written += os.write(self._fd, data[written:])
            os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, size)
            raise

    async def cut(self) -> list[Path]:
        """Close the file that is being written, and name all of this gateway's files, oldest first."""
        async with self._writing:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None
                self._number += 1
        return _files(self._folder, self._me)

    def orphans(self) -> Iterator[tuple[UUID, list[Path]]]:
        """Dead gateways with their files, each locked against others while it is being looked at."""
        for path in sorted(self._folder.glob("*.lock")):
            try:
                owner = UUID(path.stem)
            except ValueError:
                continue
            if owner == self._me:
                continue
            fd = _try_lock(path)
            if fd is None:
                continue
            try:
                yield owner, _files(self._folder, owner)
                if not _files(self._folder, owner):
                    path.unlink(missing_ok=True)
            finally:
                os.close(fd)

    def close(self) -> None:
        """Give the lock back; without entries nothing of this gateway stays in the folder."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        if not _files(self._folder, self._me):
            (self._folder / f"{self._me}.lock").unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def read(path: Path) -> Iterator[Entry]:
    """The entries of a file. A torn last line was never promised to anybody and is left out."""
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                found = json.loads(line)
                yield Settlement(**found["row"]) if found["kind"] == "settlement" else found["row"]


def _line(entry: Entry) -> bytes:
    if isinstance(entry, Settlement):
        said = {"kind": "settlement", "row": asdict(entry)}
    else:
        said = {"kind": "intent", "row": entry}
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


def _files(folder: Path, owner: UUID) -> list[Path]:
    return sorted(folder.glob(f"{owner}.*.jsonl"))


def _try_lock(path: Path) -> int | None:
    """Lock the file for this process, or None when another one holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd
