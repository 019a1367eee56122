"""Twice the text is at most two and a half times the work, for hostile and ordinary texts alike.

Work is counted in calls, of Python's functions and of those below them, so that a busy machine changes nothing. What a
single pattern does inside such a call has its own tests.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from gatehouse.guards.pii.config import PiiConfig
from gatehouse.guards.pii.engine import Engine
from gatehouse.guards.screens.config import ScreenConfig
from gatehouse.guards.screens.engine import ScreenEngine

UNITS = [
    *(
        "a.",
        "a-",
        "a@",
        "%40a.",
        "1 ",
        "12-",
        "1.",
        "4111 ",
        "0:",
        "12/12/",
        "+1",
        "(0",
        "+49 30 ",
        "201-555-0123 ",
        "01 ",
    ),
    *(
        "phone 1 ",
        "card 4111111111111111 ",
        "John Smith ",
        "J. ",
        "name: ",
        "12 Main Street ",
        "rue de la ",
        "Via ",
        "市路1号",
    ),
    *(
        "東京都",
        "김",
        "born 1",
        "account number 12345 ",
        "a|1|",
        "\n1,2,3",
        "sk-",
        "api_key='a",
        "eyJ",
        "://a:",
        "curl -u a:",
    ),
    *("A-", "name\n", "%41", "&#65;", "YWJj\n", "The quick brown fox, 2024-05-01, said 12.5. "),
]
CHARS = 3_000


def calls(work: Callable[[str], Any], text: str) -> int:
    count = 0

    def counted(*_: Any) -> None:
        nonlocal count
        count += 1

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        work(text)
    finally:
        sys.setprofile(before)
    return count


@pytest.fixture(scope="module")
def scans() -> tuple[Callable[[str], Any], ...]:
    pii = Engine(PiiConfig(timeout_s=60))
    screens = ScreenEngine(ScreenConfig(secrets=True, prompt_injection=True, timeout_s=60))
    for engine in (pii, screens):
        engine.warm()
    return pii.scan, screens.scan


@pytest.mark.parametrize("unit", UNITS)
def test_twice_the_text_is_twice_the_work(scans: tuple[Callable[[str], Any], ...], unit: str) -> None:
    for scan in scans:
        text = (unit * CHARS)[: 2 * CHARS]
        scan(text)  # what is only done once does not count
        once, twice = calls(scan, text[:CHARS]), calls(scan, text)
        assert twice <= 2.5 * max(once, 2_000), unit
