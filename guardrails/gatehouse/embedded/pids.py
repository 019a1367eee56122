"""Whether the process that a pid file names is still the one that was meant: pids are used again."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil


def living(pidfile: Path) -> psutil.Process | None:
    """Return the process named on the first line of `pidfile`, unless it is gone or younger than the file.

    Both a process that took the pid over and one after a reboot began later than the file was written.
    """
    with suppress(OSError, ValueError, IndexError, psutil.Error):
        process = psutil.Process(int(pidfile.read_text(encoding="utf-8").split()[0]))
        # A second's grace for the clock ticks in which the kernel counts.
        older = process.create_time() <= pidfile.stat().st_mtime + 1
        if older and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None
