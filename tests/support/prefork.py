"""`gatehouse serve` without the seconds of its imports: forked from a process that has imported all that it serves.

Each test worker has one such parent. It notes which environment variables the imports read. A gateway that has another
value in one of these, or in one that Python itself reads, is started as a program of its own. So is every gateway with
GATEHOUSE_TESTS_FORK=0.

A test that would wait for what is done each minute gives its gateway `constants`: a shorter minute, which no setting of
the program offers. A gateway that is not forked does not know them, and its test waits.
"""

from __future__ import annotations

import ast
import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from tests.support.process import PATIENCE_S, Server

_REPOSITORY = Path(__file__).resolve().parents[2]
_IMPORTED_WHILE_STARTING = (
    "gatehouse.gateway.http_protocol",
    "gatehouse.ledger.provisioning",
    "litellm.proxy.management_endpoints.mcp_management_endpoints",
    "uvloop",
)


_CONSTANTS = "GATEHOUSE_TESTS_CONSTANTS"


def constants(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment of a gateway in which `module:NAME` has another value."""
    return {_CONSTANTS: json.dumps(values)}


class ForkedServer(Server):
    """Runs a server, forked where its command is `gatehouse` with arguments."""

    def start(self) -> None:
        env = dict(os.environ) if self.env is None else self.env
        forks = Path(self.command[0]).name == "gatehouse" and os.environ.get("GATEHOUSE_TESTS_FORK") != "0"
        self.log.touch()  # a forked one opens it a moment later
        parent = _parent() if forks else None
        pid = parent.fork(self.command, env, self.cwd, Path(os.devnull), self.log, self.log) if parent else None
        if parent is None or pid is None:
            super().start()
        else:
            self.process = _Child(parent, pid, self.command)  # type: ignore[assignment]  # it has what Server uses


def run(
    command: Sequence[str], env: Mapping[str, str], stdin: str = "", cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `gatehouse` with its arguments to its end, as `subprocess.run` would in a second more."""
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
        streams[0].write_text(stdin)
        forks = os.environ.get("GATEHOUSE_TESTS_FORK") != "0"
        pid = _parent().fork(command, env, cwd, *streams) if forks else None
        if pid is None:
            return subprocess.run(
                command, env=env, input=stdin, capture_output=True, text=True, timeout=PATIENCE_S, check=False, cwd=cwd
            )
        child = _Child(_parent(), pid, command)
        try:
            code = child.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(pid, signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(command, code, *(stream.read_text() for stream in streams[1:]))


class _Child:
    """Stands for `subprocess.Popen` where another process forked the child."""

    def __init__(self, parent: _Parent, pid: int, args: Sequence[str]) -> None:
        self._parent = parent
        self.pid = pid
        self.args = args
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._parent.ask(op="poll", pid=self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(list(self.args), timeout or 0)
            time.sleep(0.02)
        return code


class _Parent:
    """Controls the process that forks gateways. It ends with the test worker, because the socket closes then."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "tests.support.prefork", str(theirs.fileno())]
            # Told the environment, for the readline module has put more into the one that processes inherit.
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], cwd=_REPOSITORY, env=dict(os.environ), stdin=subprocess.DEVNULL
            )
        self._stream = ours.makefile("rw")
        self._lock = threading.Lock()
        ours.close()

    def fork(self, command: Sequence[str], env: Mapping[str, str], cwd: Path | None, *streams: Path) -> int | None:
        """Fork one with these files as input, output and errors; None where its environment forbids that."""
        files = [str(stream) for stream in streams]
        return self.ask(op="fork", command=list(command), env=dict(env), cwd=str(cwd or Path.cwd()), streams=files)

    def ask(self, **question: Any) -> int | None:
        with self._lock:
            print(json.dumps(question), file=self._stream, flush=True)
            answer: int | None = json.loads(self._stream.readline())
        return answer


@cache
def _parent() -> _Parent:
    return _Parent()


@contextmanager
def _noting_reads() -> Iterator[set[str]]:
    """Collect the names of environment variables that are read meanwhile."""
    read: set[str] = set()
    kind: Any = type(os.environ)
    original = kind.__getitem__

    def getitem(self: Any, name: str) -> str:
        read.add(name)
        value: str = original(self, name)
        return value

    kind.__getitem__ = getitem
    try:
        yield read
    finally:
        kind.__getitem__ = original


def _serve(connection: socket.socket) -> NoReturn:
    """Answer questions until the test worker is gone."""
    from gatehouse.cli.serve import _OFFLINE

    always = {**_OFFLINE, "PYTHON_DOTENV_DISABLED": "true"}
    os.environ.update(always)
    before = dict(os.environ)
    with _noting_reads() as read:
        _import_what_is_served()
    # pytest writes the name of the test that runs into the environment; nothing reads it by that name.
    seen = {name: before.get(name) for name in read if not name.startswith("PYTEST_")}
    python = _of_python(before)
    added = {name: value for name, value in os.environ.items() if before.get(name) != value}
    alone = threading.active_count() == 1  # a fork takes no other thread along, but the locks that it holds
    gc.collect()
    gc.freeze()
    stream = connection.makefile("rw")
    for line in stream:
        question = json.loads(line)
        if question["op"] == "poll":
            answer = _status(question["pid"])
        else:
            env = {**always, **question["env"]}
            same = _of_python(env) == python and all(env.get(name) == value for name, value in seen.items())
            question["env"] |= added
            answer = _fork(question, stream, connection) if alone and same else None
        print(json.dumps(answer), file=stream, flush=True)
    raise SystemExit


def _import_what_is_served() -> None:
    """Import what `gatehouse serve` does, as far as that makes no gateway: what asgi.py imports, but not its app.

    The first call would also read the tables of the tokenizers, and make FastAPI look into each of LiteLLM's routes.
    """
    import gatehouse.cli as commands
    from gatehouse.proxy import tokenizer
    from litellm.proxy import proxy_server

    for part in commands._PARTS:
        import_module(f"gatehouse.cli.{part}")
    for name in _IMPORTED_WHILE_STARTING:
        import_module(name)
    asgi = Path(commands.__file__).parents[1] / "asgi.py"
    imports = [node for node in ast.parse(asgi.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), asgi, "exec"), {})
    for name in tokenizer._ENCODINGS:
        tokenizer.get_encoding(name)
    for route in proxy_server.app.routes:
        route.matches({"type": "http", "method": "GET", "path": "/", "headers": []})


def _of_python(environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables that Python reads when it starts, which `os.environ` does not show: PYTHONPATH and others."""
    return {name: value for name, value in environ.items() if name.startswith("PYTHON")}


def _status(pid: int) -> int | None:
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def _fork(question: dict[str, Any], *open_files: Any) -> int:
    pid = os.fork()
    if pid == 0:
        for file in open_files:
            file.close()
        _become(question)
    return pid


def _become(question: dict[str, Any]) -> NoReturn:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(question["cwd"])
    os.environ.clear()
    os.environ.update(question["env"])
    for number, path in enumerate(question["streams"]):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND if number else os.O_RDONLY, 0o644)
        os.dup2(file, number)
        os.close(file)
    # What the program's own start would have set.
    sys.argv = question["command"]
    program = sys.modules["__main__"]
    program.__spec__, program.__file__ = None, sys.argv[0]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    from gatehouse.cli import main
    from gatehouse.gateway import huge_pages

    # The memory is the parent's: in huge pages it would be a copy, of half a gigabyte, for each gateway.
    huge_pages.use_huge_pages = lambda: 0
    for place, value in json.loads(os.environ.get(_CONSTANTS, "{}")).items():
        module, _, name = place.partition(":")
        if not hasattr(import_module(module), name):
            raise SystemExit(f"{place}: there is no such constant")
        setattr(import_module(module), name, value)
    code: Any = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code or 0
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End as Python does, but leave the objects alone: taking them down would copy the parent's memory."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _serve(socket.socket(fileno=int(sys.argv[1])))
