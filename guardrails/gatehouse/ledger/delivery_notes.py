"""Notes which answers a client has whole, so that a gateway that is killed before it settles them leaves no doubt.

A note is written before an answer's last byte leaves, to a file beside the spool. It is not forced to the disk, so it
outlives the process, not the machine. Gateways on one machine read each other's.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

log = logging.getLogger("gatehouse.audit")

_SUFFIX: Final = ".delivered"
# A file starts anew at this size once all of its calls are settled.
_MAX_BYTES: Final = 1 << 20
# A dead gateway's calls are sealed long before that.
_KEPT_S: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """An answer that its client has whole: the status, and its cost by our own count."""

    http_status: int
    usd: float | None


class DeliveryNotes:
    """One gateway's file in a folder that several may share."""

    def __init__(self, folder: Path, gateway_id: UUID) -> None:
        self._folder = folder
        self._path = folder / f"{gateway_id}{_SUFFIX}"
        self._open: set[str] = set()
        self._fd: int | None = None

    def add(self, call_id: str, delivery: Delivery) -> None:
        """Write a note, once; a failure is logged, because the answer is what the client waits for."""
        if call_id in self._open:
            return
        line = json.dumps([call_id, delivery.http_status, delivery.usd]).encode() + b"\n"
        try:
            if self._fd is None:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.write(self._fd, line)
        except OSError as error:
            log.warning("%s: %s; a delivered answer is not noted", self._path, error.strerror)
            return
        self._open.add(call_id)

    def settled(self, call_ids: Iterable[str]) -> None:
        """Note that these calls are settled; their notes are needed no more."""
        self._open.difference_update(call_ids)
        if self._fd is not None and not self._open and os.fstat(self._fd).st_size > _MAX_BYTES:
            os.ftruncate(self._fd, 0)

    def of_others(self) -> Mapping[str, Delivery]:
        """Return what other gateways noted, by call id, and remove files that no gateway can need any more."""
        found: dict[str, Delivery] = {}
        for path in self._folder.glob(f"*{_SUFFIX}"):
            if path == self._path:
                continue
            try:
                if time.time() - path.stat().st_mtime > _KEPT_S:
                    path.unlink()
                    continue
                found.update(_read(path))
            except OSError as error:
                log.warning("%s: %s; its notes are left out", path, error.strerror)
        return found

    def close(self) -> None:
        """Remove the file: everything is settled, or lies in the spool."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            self._path.unlink(missing_ok=True)


def _read(path: Path) -> Iterator[tuple[str, Delivery]]:
    for line in path.read_bytes().splitlines():
        try:
            call_id, status, usd = json.loads(line)
        except ValueError:  # the last line may be torn
            continue
        yield call_id, Delivery(status, usd)
