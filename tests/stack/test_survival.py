"""The embedded stack as shipped recovers when parts are killed during 200 concurrent calls, and loses nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
from gatehouse.embedded.stack import Stack

from tests.support.embedded import REPOSITORY, Project, gone
from tests.support.gateway import query_engine_of
from tests.support.lines import audit_lines
from tests.support.load import Result, call_many
from tests.support.process import wait_until

CALLS = 200
IDLE_LIMIT_BYTES = 1.5e9


class Shipped(Project):
    """Runs the embedded stack with the real gateway, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.stack = Stack(folder, self._serve())

    def _serve(self) -> list[str]:
        settings = Stack(self.home).settings()
        gatehouse = Path(sys.executable).with_name("gatehouse")
        return [
            "/usr/bin/env", f"GATEHOUSE_HOME={REPOSITORY}", f"CONFIG_FILE_PATH={self.home}/config.yaml",
            f"GATEHOUSE_POLICY={self.home}/policy.yaml", f"GATEHOUSE_LOG_DIR={self.home}/logs",
            str(gatehouse), "serve", "--port", str(settings.gateway_port),
        ]  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.stack.settings().gateway_port}"

    @property
    def key(self) -> str:
        return self.stack.settings().master_key

    def answers(self) -> bool:
        body = {"model": "demo", "messages": [{"role": "user", "content": "still there?"}]}
        headers = {"authorization": f"Bearer {self.key}"}
        try:
            return httpx.post(f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=10).is_success
        except httpx.HTTPError:
            return False

    def logged(self) -> Counter[str]:
        return Counter(line["data"]["call_id"] for line in audit_lines(self.home / "logs" / "litellm_audit.jsonl"))

    def rows(self) -> dict[str, bool]:
        """Return whether each call is settled, by its id."""
        with psycopg.connect(self.stack.settings().database_url) as connection:
            return dict(
                connection.execute("select call_id::text, settled_at is not null from gatehouse.calls").fetchall()
            )


@pytest.fixture(scope="module")
def stack() -> Iterator[Shipped]:
    folder = Path(tempfile.mkdtemp(prefix="gatehouse-survival-"))
    folder.chmod(0o755)
    project = Shipped(folder / "checkout")
    project.up()
    yield project
    project.remove()
    shutil.rmtree(folder, ignore_errors=True)


def victim(name: str) -> Callable[[Shipped], int]:
    if name == "query-engine":
        return lambda stack: query_engine_of(stack.pid("gateway")).pid
    return lambda stack: stack.pid(name)


@pytest.mark.timeout(300)
def test_the_idle_stack_holds_under_one_and_a_half_gigabytes(stack: Shipped) -> None:
    """The test measures proportional set size: memory that processes share, such as Postgres's buffers, counts once."""
    assert stack.answers()
    held = sum(process.memory_full_info().pss for process in stack.processes())
    print(f"embedded stack, idle: {held / 1e6:.0f} MB")
    assert held < IDLE_LIMIT_BYTES


@pytest.mark.timeout(400)
@pytest.mark.parametrize("part", ["redis", "query-engine", "postgres", "gateway"])
async def test_a_killed_part_comes_back_and_every_intent_has_one_line(stack: Shipped, part: str) -> None:
    find = victim(part)
    before = psutil.Process(find(stack))

    async def kill() -> None:
        await asyncio.sleep(0.8)
        os.kill(before.pid, signal.SIGKILL)

    results = await call_many(stack.url, stack.key, {"model": "demo-mock"}, calls=CALLS, concurrent=200, meanwhile=kill)
    assert gone([before]) == []
    wait_until(stack.answers, "calls are answered again", 180)
    wait_until(lambda: find(stack) != before.pid, f"{part} is back", 60)
    wait_until(lambda: settled(stack), "every intent has its line", 90)
    check(stack, results)


def settled(stack: Shipped) -> bool:
    rows = stack.rows()
    return all(rows.values()) and set(stack.logged()) >= set(rows)


def check(stack: Shipped, results: list[Result]) -> None:
    lines = stack.logged()
    assert set(lines.values()) == {1}
    assert set(stack.rows()) <= set(lines)
    answered = {result.call_id for result in results if result.status == 200}
    assert None not in answered
    assert answered <= set(lines)
