"""Whether a port is free, told before anything is started.

Standard library only, because setup.sh asks before anything is installed; psutil, where it is, names the holder.
"""

from __future__ import annotations

import errno
import socket
import time

from gatehouse.core.errors import SetupError

# A killed program shows as ended some milliseconds before its listeners are closed: Prometheus with its many threads
# was seen to hold its port for 40 ms as a zombie. An `up` right after a kill must not stumble over that.
_MAX_WAIT_S = 2.0
LISTENABLE = "Set it to 127.0.0.1 or 0.0.0.0 in .env."


def check_port(title: str, variable: str, host: str, port: int) -> None:
    """Raises `SetupError` when nobody could listen there now; `variable` is the one of `.env` that moves it."""
    try:
        _listen_soon(host, port)
    except socket.gaierror as error:
        raise SetupError(f"GATEHOUSE_BIND: {host!r} is not an address. {LISTENABLE}") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"is already taken{_taker(port)}. Stop that program, or set {variable} to a free port in .env."
        elif error.errno == errno.EACCES:
            reason = f"is reserved for root. Set {variable} to a port above 1023 in .env."
        elif error.errno == errno.EADDRNOTAVAIL:
            raise SetupError(f"GATEHOUSE_BIND: {host} is no address of this machine. {LISTENABLE}") from error
        else:
            reason = f"cannot be opened: {error.strerror}. Set {variable} to another port in .env."
        raise SetupError(f"{title}: port {port} {reason}") from error


def _listen_soon(host: str, port: int) -> None:
    deadline = time.monotonic() + _MAX_WAIT_S
    while True:
        try:
            return _listen(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _listen(host: str, port: int) -> None:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is not "taken"
        listener.bind(address)
        listener.listen(1)


def _taker(port: int) -> str:
    """The program that listens there, when this user may know: " by nginx (pid 4711)"."""
    try:
        import psutil
    except ImportError:  # setup.sh asks before anything is installed
        return ""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return ""
