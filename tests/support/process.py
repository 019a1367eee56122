"""Starts processes for tests: finds them by port, stops them by pid, and keeps their output in a file."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_given: set[int] = set()


def free_port() -> int:
    """Return a port where no process listens, and that none is likely to take before the server does.

    The kernel's own choice (port 0) is from the range out of which every outgoing connection of the machine gets its
    port too, so that one may hold it when the server starts, or starts again; this is from below that range.
    """
    ports = range(10_000, _first_ephemeral_port())
    while True:
        port = secrets.choice(ports)
        if port in _given:
            continue
        _given.add(port)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def _first_ephemeral_port() -> int:
    """Return Linux's first ephemeral port; elsewhere, and where little is left below it, Linux's default."""
    with contextlib.suppress(OSError):
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        if first > 12_000:
            return first
    return 32_768


# A wait ends as soon as what it waits for is true, so its limit costs nothing; a busy machine may be five times slower.
PATIENCE_S = 180.0
START_S = 300.0  # a gateway that starts: half a minute where nothing is in the page cache, and then five times slower


def wait_until(ready: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not so after {seconds:.0f} s")
        time.sleep(0.05)


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Server:
    """Runs one child process in a group of its own."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        user: int | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.command = [str(part) for part in command]
        self.log = log
        self.env = dict(env) if env is not None else None
        self.user = user
        self.cwd = cwd
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env=self.env,
                user=self.user,
                group=self.user,
                start_new_session=True,
                cwd=self.cwd,
            )

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill this process alone with SIGKILL, as an accident would."""
        self.send(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def stop(self, number: int = signal.SIGTERM, seconds: float = 30.0) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.send(number)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self.process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self.process.returncode
