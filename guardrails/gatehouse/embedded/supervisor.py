"""Controls the one supervisord of a project folder: starts it, asks it, ends it, and ends what a killed one left.

supervisord (the library `supervisor`) does the supervising.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil

from gatehouse.core.errors import SetupError
from gatehouse.embedded.child import PARENT, Launch
from gatehouse.embedded.pids import living

# sockaddr_un holds 107 bytes (unix(7)), and supervisord binds "<path>.<pid>" before it renames.
MAX_SOCKET_BYTES = 107 - 8
CONF = "supervisord.conf"
OWN = "supervisord"  # supervisord's own pid file, besides the one that `child` wrote for it


@dataclass(frozen=True)
class Process:
    """Hold supervisord's report on one part. `state` is RUNNING, BACKOFF...; `started` is seconds since 1970."""

    name: str
    state: str
    pid: int
    started: int
    uptime: int


def socket_path(state: Path) -> str:
    """Return where supervisord listens: in `state`, or in a private folder under /tmp if that path is too long.

    Raise `SetupError` when the folder belongs to another user.
    """
    usual = str(state / "supervisor.sock")
    if len(os.fsencode(usual)) <= MAX_SOCKET_BYTES:
        return usual
    folder = Path(f"/tmp/gatehouse-{os.geteuid()}")  # noqa: S108
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise SetupError(
            f"{folder}: it is not a private folder of this user. Remove it, or shorten the project's path."
        )
    return str(folder / f"{sha256(os.fsencode(usual)).hexdigest()[:16]}.sock")


class Supervisor:
    """Control the supervisord of one project folder, whether or not it runs."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.socket = socket_path(state)

    @property
    def socket_in_conf(self) -> str:
        """Return the socket's path as the configuration names it: relative, unless it lies elsewhere."""
        inside = Path(self.socket).parent == self.state
        return Path(self.socket).name if inside else self.socket

    def call(self, method: str, *arguments: object) -> Any:
        """Call a method over the socket. Raise `OSError` or `xmlrpc.client.Error` when supervisord does not answer."""
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        try:
            proxy = xmlrpc.client.ServerProxy("http://localhost", transport=transport)
            return getattr(proxy.supervisor, method)(*arguments)
        finally:
            transport.close()

    def processes(self) -> list[Process] | None:
        """Return the parts in the order in which they start; None when no supervisord answers."""
        try:
            found = self.call("getAllProcessInfo")
        except (OSError, xmlrpc.client.Error):
            return None
        return [
            Process(p["name"], p["statename"], p["pid"], p["start"], max(0, p["now"] - p["start"]) if p["pid"] else 0)
            for p in found
        ]

    def start(self, *, attached: bool) -> subprocess.Popen[bytes]:
        """Start supervisord in a session of its own. An attached one ends with this process, however that ends."""
        argv = (sys.executable, "-P", "-m", "supervisor.supervisord", "-c", CONF)
        pidfile = str(self.state / "run/supervisor.pid")
        spec = self.state / "run/supervisor.json"
        Launch(argv, str(self.state), pidfile, signal.SIGTERM, tied=attached, inherit=True).write(spec)
        Path(self.socket).unlink(missing_ok=True)
        with (self.state / "logs/supervisor.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", "gatehouse.embedded.child", str(spec)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "GATEHOUSE_PYTHON": sys.executable, PARENT: str(os.getpid())},
            )

    def survivors(self) -> dict[str, psutil.Process]:
        """Return the living processes of this stack by part, whether or not a supervisord watches them."""
        files = (self.state / "run").glob("*.pid")
        return {file.stem: process for file in files if file.stem != OWN and (process := living(file))}

    def stop(self, waiting: Callable[[list[str]], None], patience: float = 120) -> bool:
        """End everything, in order, and wait until it has ended. Return whether there was anything to end.

        From time to time `waiting` receives the parts that still run. After `patience` seconds they are killed.
        """
        if not self.survivors():
            return False
        try:
            self.call("shutdown")
        except (OSError, xmlrpc.client.Error):
            self._signal(signal.SIGTERM)
        if not self._wait_gone(waiting, patience):
            self._signal(signal.SIGKILL)
            self._wait_gone(waiting, 10)
        return True

    def end_leftovers(self, waiting: Callable[[list[str]], None]) -> None:
        """Wait for processes that a killed supervisord left, most of them ending already, and end the rest."""
        if self.survivors() and not self._wait_gone(waiting, 5):
            self.stop(waiting)

    def _signal(self, number: signal.Signals) -> None:
        alive = self.survivors()
        # On SIGTERM a living supervisord stops its parts itself, in order. SIGKILL must hit it first.
        if "supervisor" in alive:
            alive = {"supervisor": alive["supervisor"], **(alive if number == signal.SIGKILL else {})}
        for name, process in alive.items():
            # Postgres would read SIGTERM as "when the last client has left".
            gentle = signal.SIGINT if name == "postgres" else signal.SIGTERM
            with suppress(psutil.Error):
                process.send_signal(gentle if number == signal.SIGTERM else number)

    def _wait_gone(self, waiting: Callable[[list[str]], None], patience: float) -> bool:
        deadline = time.monotonic() + patience
        while alive := self.survivors():
            if time.monotonic() > deadline:
                return False
            waiting([name for name in alive if name != "supervisor"])
            time.sleep(0.1)
        return True
