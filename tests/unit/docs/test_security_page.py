"""docs/security.md names a test for each promise, and each test that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
PAGE = (REPOSITORY / "docs" / "security.md").read_text()
PROMISES = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.partition("## What is decided on")[2].splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| promise"))
]


def test_there_are_promises() -> None:
    assert len(PROMISES) > 25


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise[0][:40])
def test_each_promise_names_a_test_that_is_there(promise: list[str]) -> None:
    path, _, name = promise[-1].partition("::")
    tree = ast.parse((REPOSITORY / path).read_text())
    there = {each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in there


def test_every_test_that_the_page_names_is_in_a_table() -> None:
    assert len(re.findall(r"tests/[\w/]+/test_\w+\.py::", PAGE)) == len(PROMISES)
