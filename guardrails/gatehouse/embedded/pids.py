"""Tells whether the process that a pid file names still runs, because pids are used again."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil


def living(pidfile: Path) -> psutil.Process | None:
    """Return the process named on the first line of `pidfile`, unless it has ended or is younger than the file.

    A process that took over the pid, also after a reboot, started later than the file was written.
    """
    with suppress(OSError, ValueError, IndexError, psutil.Error):
        process = psutil.Process(int(pidfile.read_text(encoding="utf-8").split()[0]))
        # Allow a second, because the kernel counts start times in clock ticks.
        older = process.create_time() <= pidfile.stat().st_mtime + 1
        if older and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None
