"""Checks whether a port is free before anything is started.

It imports the standard library only, because setup.sh runs it before anything is installed; psutil, if installed, finds
the program that holds the port.
"""

from __future__ import annotations

import errno
import socket
import time

from gatehouse.core.errors import SetupError

# A killed program ends some milliseconds before its listeners are closed: a zombie Prometheus with its many threads
# held its port for 40 ms. An `up` right after a kill must wait for that.
_MAX_WAIT_S = 2.0
LISTENABLE = "Set it to 127.0.0.1 or 0.0.0.0 in .env."


def check_port(title: str, variable: str, host: str, port: int) -> None:
    """Raise `SetupError` when no program could listen there now; `variable` is the setting in `.env` for the port."""
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
            raise SetupError(f"GATEHOUSE_BIND: {host} is not an address of this machine. {LISTENABLE}") from error
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
    """Return the program that listens there, where this user may see it: " by nginx (pid 4711)"."""
    try:
        import psutil
    except ImportError:  # setup.sh runs this before anything is installed
        return ""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return ""
