"""Makes a project folder with free ports for tests of the embedded stack; its gateway is a stand-in."""

from __future__ import annotations

import re
import shutil
import sys
import time
from pathlib import Path

import psutil
from gatehouse.embedded.envfile import ensure
from gatehouse.embedded.pids import living
from gatehouse.embedded.stack import Stack

from tests.support.process import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
PORTS = ("GATEHOUSE_PORT", "POSTGRES_PORT", "REDIS_PORT", "PROMETHEUS_PORT")

# Answers readiness and one chat call; dies at once while a file named `broken` is there.
STAND_IN = """
import http.server, json, os, pathlib, signal, sys
if pathlib.Path("broken").exists():
    sys.exit("stand-in: broken as asked")
pathlib.Path("environment.json").write_text(json.dumps(dict(os.environ)))
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, body=b"{}"):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
    do_GET = answer
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        known = self.headers["authorization"] == "Bearer " + os.environ["LITELLM_MASTER_KEY"]
        self.answer(json.dumps({"choices": [{"message": {"content": "stand-in" if known else "stranger"}}]}).encode())
    def log_message(self, *arguments):
        print("stand-in: a request", flush=True)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["GATEHOUSE_PORT"])), Handler).serve_forever()
"""


class Project:
    """Holds a folder that looks like a checkout to the embedded stack."""

    def __init__(self, folder: Path) -> None:
        self.home = folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in (".env.example", "config.yaml", "policy.yaml"):
            shutil.copy(REPOSITORY / name, folder / name)
        ensure(folder)
        for name in PORTS:
            self.set(name, str(free_port()))
        (folder / "stand_in.py").write_text(STAND_IN)
        self.stack = Stack(folder, [sys.executable, str(folder / "stand_in.py")])
        self.lines: list[str] = []

    def set(self, name: str, value: str) -> None:
        path = self.home / ".env"
        path.write_text(re.sub(rf"(?m)^{name}=.*$", f"{name}={value}", path.read_text()))

    def up(self) -> bool:
        return self.stack.up(self.lines.append)

    def down(self) -> bool:
        return self.stack.down(self.lines.append)

    def pid(self, part: str) -> int:
        process = living(self.home / f".gatehouse/run/{part}.pid")
        assert process, f"{part} does not run"
        return int(process.pid)

    def states(self) -> dict[str, str]:
        return {row.part: row.state for row in self.stack.status()}

    def all_running(self) -> bool:
        return set(self.states().values()) == {"running"}

    def processes(self) -> list[psutil.Process]:
        """Return every process of the stack, found by its ancestors."""
        supervisor = psutil.Process(self.pid("supervisor"))
        return [supervisor, *supervisor.children(recursive=True)]

    def remove(self) -> None:
        self.down()
        data = self.home / ".gatehouse/postgres"
        if data.is_symlink():
            shutil.rmtree(data.resolve().parent, ignore_errors=True)
        shutil.rmtree(self.home, ignore_errors=True)


def gone(processes: list[psutil.Process], seconds: float = 10) -> list[psutil.Process]:
    """Wait for processes to end; return those that did not."""
    deadline = time.monotonic() + seconds
    while alive := [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return alive
