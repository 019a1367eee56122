"""Runs the shipped docker-compose.yml from a copy of the checkout, with secrets, ports and volumes of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
from gatehouse.embedded.envfile import ensure, load

from tests.support.lines import audit_lines
from tests.support.process import PATIENCE_S, free_port, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
SERVICES = ("gateway", "postgres", "redis", "prometheus")
ONCE = ("logs", "prepare")  # run at each start and end
IMAGE = "gatehouse:local"
_PROJECT = "gatehouse-test-"
SECRETS = (
    "LITELLM_MASTER_KEY",
    "LITELLM_SALT_KEY",
    "GATEHOUSE_SECRET",
    "UI_PASSWORD",
    "POSTGRES_PASSWORD",
    "GATEHOUSE_DB_PASSWORD",
    "REDIS_PASSWORD",
    "GATEHOUSE_METRICS_TOKEN",
)


def copy_checkout(folder: Path) -> None:
    """Copy the files that git knows or would add, as a clone of the next commit would have them."""
    listing = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    for name in filter(None, listing.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)


class Stack:
    """Runs one compose project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = f"{_PROJECT}{os.getpid()}"
        self.env = self._make_env()
        self.url = f"http://127.0.0.1:{self.env['GATEHOUSE_PORT']}"
        self.prometheus_url = f"http://127.0.0.1:{self.env['PROMETHEUS_PORT']}"

    def _make_env(self) -> dict[str, str]:
        path = ensure(self.folder).path
        text = path.read_text()
        for name in ("GATEHOUSE_PORT", "PROMETHEUS_PORT"):
            text = re.sub(rf"(?m)^{name}=.*$", f"{name}={free_port()}", text)
        path.write_text(text)
        return load(self.folder)

    def compose(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        # The shell's variables would win over .env; the test's stack is to be made from its own .env alone.
        done = subprocess.run(
            ["docker", "compose", "-p", self.project, *arguments],
            cwd=self.folder,
            env=_without(*self.env, "COMPOSE_"),
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"docker compose {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
        return done

    def up(self) -> None:
        done = self.compose("up", "--detach", "--wait", "--wait-timeout", "600", check=False)
        if done.returncode != 0:
            logs = self.compose("logs", "--tail", "60", check=False).stdout
            raise RuntimeError(f"the stack did not come up:\n{done.stderr}\n{logs}")

    def down(self) -> None:
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans")

    @staticmethod
    def remove_abandoned() -> None:
        """Remove the stacks of test runs that were killed: the engine would start them again with every start."""
        for project in set(docker("ps", "-a", "--format", '{{.Label "com.docker.compose.project"}}').split()):
            of_test, _, pid = project.rpartition("-")
            if f"{of_test}-" == _PROJECT and not psutil.pid_exists(int(pid)):
                docker("compose", "-p", project, "down", "--volumes", "--remove-orphans")

    def container(self, service: str) -> dict[str, Any]:
        """Return what `docker inspect` says of the service's container."""
        answer: list[dict[str, Any]] = json.loads(docker("inspect", f"{self.project}-{service}-1"))
        return answer[0]

    def state(self, service: str) -> tuple[int, str]:
        """Return the container's pid on the host, and its health."""
        state = self.container(service)["State"]
        return state["Pid"], state["Health"]["Status"]

    def inside(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the service's container as its own user."""
        return subprocess.run(
            ["docker", "exec", f"{self.project}-{service}-1", *command], capture_output=True, text=True, check=False
        )

    def kill(self, pid: int) -> None:
        """Kill a process with SIGKILL by its pid on the engine's host, which may be another machine."""
        kill = f"import os; os.kill({pid}, 9)"
        docker("run", "--rm", "--pid=host", "--user=0:0", "--entrypoint=python", IMAGE, "-c", kill)

    def wait_healthy(self, service: str, other_than: int, seconds: float = PATIENCE_S) -> None:
        """Wait until the service is healthy again, in another process than the killed one."""

        def again() -> bool:
            time.sleep(1)  # each look starts a process, on the cores that the service needs to start
            pid, health = self.state(service)
            return pid not in (0, other_than) and health == "healthy"

        wait_until(again, f"{service} is healthy again", seconds)

    def client(self, key: str | None = None) -> httpx.Client:
        bearer = key or self.env["LITELLM_MASTER_KEY"]
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {bearer}"}, timeout=PATIENCE_S)

    def chat(self, key: str, text: str) -> httpx.Response:
        body = {"model": "demo", "messages": [{"role": "user", "content": text}]}
        with self.client(key) as client:
            return client.post("/v1/chat/completions", json=body)

    def new_key(self) -> str:
        with self.client() as client:
            answer = client.post("/key/generate", json={"models": ["demo"]})
        answer.raise_for_status()
        return str(answer.json()["key"])

    def audit_lines(self, call_id: str) -> list[dict[str, Any]]:
        lines = audit_lines(self.folder / "logs" / "litellm_audit.jsonl")
        return [line for line in lines if line["data"]["call_id"] == call_id]


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"docker {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def _without(*prefixes: str) -> Mapping[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
