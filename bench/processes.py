"""The processes of a run: each in a session of its own, stopped while others run, and ended however the run ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


class Process:
    """Control a started program and everything that it starts; its output goes to `log`."""

    def __init__(
        self,
        stack: ExitStack,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | str = "/",
        user: tuple[int, int] | None = None,
        stop: signal.Signals = signal.SIGTERM,
    ) -> None:
        uid, gid = user or (None, None)
        self.log, self._stop = log, stop
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                argv,
                env=dict(env) if env is not None else None,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                user=uid,
                group=gid,
                extra_groups=None if uid is None else [],
            )
        stack.callback(self.end)

    @property
    def pid(self) -> int:
        return self.popen.pid

    def end(self) -> None:
        """Ask it to end, wait, then kill the rest of the process group."""
        self._signal(signal.SIGCONT)
        with suppress(ProcessLookupError):
            self.popen.send_signal(self._stop)
        try:
            self.popen.wait(15)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._signal(signal.SIGKILL)
            self.popen.wait()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def cpu_seconds(self) -> float:
        """Return the processor time of the program itself, without its children."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def wait_for_port(process: Process, port: int, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.popen.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise SystemExit(
        f"error: bench: {process.popen.args!r} is not listening on {port}. Its log ends:\n{process.tail()}"
    )


def wait_for_http(process: Process, url: str, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.popen.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.25)
    raise SystemExit(f"error: bench: {url} does not answer. The log {process.log} ends:\n{process.tail()}")
