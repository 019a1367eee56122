"""Claude Code works behind the gateway, where it is installed: its package is under commercial terms.

GATEHOUSE_CLAUDE_CODE names the program. tests/stack/test_client_differences.py imitates its requests everywhere.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.gateway import Gateway
from tests.support.upstream import Upstream

PROGRAM = os.environ.get("GATEHOUSE_CLAUDE_CODE")

pytestmark = pytest.mark.skipif(not PROGRAM, reason="GATEHOUSE_CLAUDE_CODE names no program")


def test_it_gets_an_answer(upstream_gateway: Gateway, upstream: Upstream, tmp_path: Path) -> None:
    assert PROGRAM is not None
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "ANTHROPIC_BASE_URL": upstream_gateway.url,
        "ANTHROPIC_AUTH_TOKEN": upstream_gateway.new_key(),
        "ANTHROPIC_MODEL": "up-claude",
        "ANTHROPIC_SMALL_FAST_MODEL": "up-claude",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    done = subprocess.run(
        [PROGRAM, "-p", "Say hello."],
        cwd=tmp_path,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "Hello from upstream\n"), done.stderr
    assert any(path == "/v1/messages" for path, _ in upstream.requests)
