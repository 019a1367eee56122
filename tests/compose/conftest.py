"""Builds and starts one compose stack for all tests of this folder, and removes it in any case."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.stack import Stack, copy_checkout

# The first test builds the image and the stack: minutes, where the packages are not cached.
TIMEOUT_S = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    try:
        subprocess.run(["docker", "info"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no Docker engine answers")
    folder = tmp_path_factory.mktemp("compose")
    copy_checkout(folder)
    Stack.remove_abandoned()
    stack = Stack(folder)
    stack.down()
    try:
        stack.compose("build")
        stack.up()
        yield stack
    finally:
        stack.down()
