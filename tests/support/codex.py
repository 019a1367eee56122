"""Installs OpenAI's Codex CLI from npm, by the lock file in tests/agents, and runs it without a terminal."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gatehouse.storage.node import Node, find_node, npm_ci

FOLDER = Path(__file__).resolve().parents[1] / "agents"
PACKAGES = FOLDER / "node_modules"
SCRIPT = PACKAGES / "@openai" / "codex" / "bin" / "codex.js"
SECONDS = 240  # a turn takes some seconds; a busy machine may be many times slower


@dataclass(frozen=True)
class Codex:
    """Runs Codex with a home and a repository of its own.

    Attributes:
        home: the user's home folder; its configuration and sessions lie there too.
        work: the git repository that it works in.
        key: the virtual key, which it gets as GATEHOUSE_KEY.
    """

    home: Path
    work: Path
    key: str

    @staticmethod
    def create(folder: Path, config: str, key: str) -> Codex:
        """Write the configuration and an empty repository into `folder`."""
        home, work = folder / "home", folder / "work"
        home.mkdir()
        (home / "config.toml").write_text(config)
        subprocess.run(["git", "init", "--quiet", str(work)], check=True)
        return Codex(home, work, key)

    def run(self, model: str, prompt: str) -> subprocess.CompletedProcess[str]:
        """Give it a task, and wait until it is done.

        Its commands run without its sandbox, which does not work in a container. It reaches loopback alone, because
        its proxy is a port where nothing listens.
        """
        node = codex_node()
        nowhere = "http://127.0.0.1:9"
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "CODEX_HOME": str(self.home),
            "GATEHOUSE_KEY": self.key,
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), nowhere),
            "NO_PROXY": "127.0.0.1",
        }
        return subprocess.run(
            [node.executable, SCRIPT, "exec", "--dangerously-bypass-approvals-and-sandbox", "--model", model, prompt],
            cwd=self.work,
            env=node.environment(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )


@cache
def codex_node() -> Node:
    """Install Codex unless it is installed, and return the Node.js that runs it.

    Raises:
        SetupError: Node.js or npm is missing, or npm's registry does not answer.
        RuntimeError: npm left the program out.
    """
    node = find_node()
    with _alone():
        lock = FOLDER / "package-lock.json"
        installed = PACKAGES / ".gatehouse-lock"
        if not installed.is_file() or installed.read_bytes() != lock.read_bytes():
            npm_ci(node, FOLDER)
            _check(node)
            installed.write_bytes(lock.read_bytes())
    return node


def _check(node: Node) -> None:
    """Fail where npm left out the program itself: it is an optional package, one for each kind of machine."""
    done = subprocess.run([node.executable, SCRIPT, "--version"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = next((line for line in done.stderr.splitlines() if "Error: " in line), done.stderr.strip()[-300:])
        raise RuntimeError(
            f"Codex CLI: npm installed it, but it does not start ({reason}). "
            "Check that npm's registry answers, then run the tests again."
        )


@contextmanager
def _alone() -> Iterator[None]:
    """Keep a second process of the tests from installing at the same time."""
    handle = os.open(FOLDER, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
