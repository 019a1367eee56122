"""Prepares each supervised program to end with its parent, then replaces itself with the program by exec.

`python -m gatehouse.embedded.child SPEC`, where SPEC is a JSON file that `Launch.write` made. The supervisor sees one
process with one pid, nothing stays resident, and secrets reach the program by its environment, never its command line.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from gatehouse.core.errors import SetupError
from gatehouse.embedded.envfile import load
from gatehouse.embedded.settings import NOT_FOR_THE_GATEWAY, gateway_environment

PR_SET_PDEATHSIG = 1  # prctl(2)
PARENT = "GATEHOUSE_PARENT_PID"


@dataclass(frozen=True)
class Launch:
    """Describe how to start one program. `stop_signal` ends it; if `tied`, the kernel sends it when the parent dies."""

    argv: tuple[str, ...]
    cwd: str
    pidfile: str
    stop_signal: int
    tied: bool = True
    user: tuple[int, int] | None = None  # uid and gid to become; only root can ask for it
    gateway_home: str | None = None  # for the gateway: the folder whose .env makes its environment
    inherit: bool = False  # whether the program inherits the environment of the person who ran `up`

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Launch:
        found = json.loads(path.read_text(encoding="utf-8"))
        found["argv"] = tuple(found["argv"])
        found["user"] = tuple(found["user"]) if found["user"] else None
        return cls(**found)


def environment(launch: Launch) -> dict[str, str]:
    """Return the environment that the program inherits: everything, or only a locale and a path."""
    inherited = ("PATH", "LANG", "LC_ALL", "TZ")
    env = {name: value for name, value in os.environ.items() if launch.inherit or name in inherited}
    if launch.gateway_home:
        home = Path(launch.gateway_home)
        env |= gateway_environment(home, load(home))
        for name in NOT_FOR_THE_GATEWAY:
            env.pop(name, None)
    env[PARENT] = str(os.getpid())
    return env


def end_with_parent(stop_signal: int) -> None:
    """Ask the kernel to send `stop_signal` when the parent dies; exit at once if it is dead already.

    Linux only; elsewhere the next `up` or `down` ends what was left behind. A change of user clears the request, so it
    comes after that; exec keeps it.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(stop_signal), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    expected = os.environ.get(PARENT)
    if expected and os.getppid() != int(expected):
        sys.exit("gatehouse: the supervisor ended before this part began")


def become(launch: Launch) -> None:
    """Replace this process with the program. It never returns, and raises `SetupError` or `OSError`."""
    Path(launch.pidfile).write_text(str(os.getpid()), encoding="ascii")
    env = environment(launch)
    os.chdir(launch.cwd)
    if launch.user:
        uid, gid = launch.user
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if launch.tied:
        end_with_parent(launch.stop_signal)
    # A supervisor written in Python ignores SIGPIPE, and exec keeps ignored signals ignored.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execve(launch.argv[0], launch.argv, env)  # noqa: S606


if __name__ == "__main__":
    try:
        become(Launch.read(Path(sys.argv[1])))
    except (SetupError, OSError) as error:
        sys.exit(f"gatehouse: {error}")
