"""The page of what clients see differently is what the tests know of it."""

from __future__ import annotations

from tests.support.client_differences import PAGE, page


def test_the_page_is_what_the_tests_know() -> None:
    assert PAGE.read_text() == page(), "run `python -m tests.support.client_differences`"
