"""prisma-engine passes its own tests and type check on the Node.js that Gatehouse uses."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from gatehouse.storage.node import find_node

ENGINE = Path(__file__).resolve().parents[3] / "prisma-engine"


def node(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(find_node().executable), *arguments]
    return subprocess.run(command, cwd=ENGINE, capture_output=True, text=True, check=False, env=os.environ)


@pytest.mark.skipif(not (ENGINE / "node_modules").is_dir(), reason="run `gatehouse engine install --engine wasm`")
def test_the_parts_of_the_engine_do_what_they_promise() -> None:
    done = node("--test", "--test-reporter=tap")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "# tests 0" not in done.stdout


@pytest.mark.skipif(
    not (ENGINE / "node_modules" / "typescript").is_dir(), reason="run `gatehouse engine install --engine wasm --dev`"
)
def test_the_types_of_the_engine_fit() -> None:
    done = node("node_modules/typescript/bin/tsc", "--project", "tsconfig.json")
    assert done.returncode == 0, done.stdout
