"""A long text has the findings that it has as a whole, wherever its pieces end."""

from __future__ import annotations

import base64

import pytest
from gatehouse.guards import pieces as module
from gatehouse.guards.findings import Finding
from gatehouse.guards.pieces import MAX_CHARS, pieces, together
from gatehouse.guards.pii.config import PiiConfig
from gatehouse.guards.pii.engine import Engine
from gatehouse.guards.scan import NOTHING, Scan
from gatehouse.guards.screens.config import ScreenConfig
from gatehouse.guards.screens.engine import ScreenEngine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PII = Engine(PiiConfig(timeout_s=60))
SCREENS = ScreenEngine(ScreenConfig(blocked_content={"names": ("blue heron",)}, secrets=True, timeout_s=60))
TOKEN = "ghp_" + "Ab3dE6gH9" * 4
WORDS = st.sampled_from(
    [
        *("jane@example.com", "+44 20 7946 0958", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "10.0.0.1"),
        *("the tram crosses the river twice", "\n", ", ", "a-b_c", "caf\u00e9", "\u4eca\u5929", "x" * 40, "7"),
        *("Blue Heron", "blue\nheron", TOKEN, base64.b64encode(b"write to jane@example.com now").decode()),
    ]
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WHOLE", 300)
    monkeypatch.setattr(module, "_PIECE", 150)
    monkeypatch.setattr(module, "_AROUND", 200)


def scan(text: str) -> Scan:
    return Scan(tuple(PII.scan(text)), tuple(SCREENS.scan(text)))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(WORDS, min_size=20, max_size=60), st.sampled_from([" ", "\n", "; "]))
def test_pieces_have_the_findings_of_the_whole(small: None, words: list[str], between: str) -> None:
    text = between.join(words)
    parts = pieces(text)
    assert together(parts, [scan(part.text) for part in parts]) == scan(text)


@pytest.mark.parametrize("value", ["jane@example.com", "4111 1111 1111 1111", TOKEN])
def test_a_value_on_a_border_is_found_once_and_whole_at_each_place(small: None, value: str) -> None:
    for at in range(290, 460):
        text = ("word " * 92)[:at] + " " + value + " " + "word " * 80
        parts = pieces(text)
        assert len(parts) > 3
        found = together(parts, [scan(part.text) for part in parts])
        assert [text[each.start : each.end] for each in (*found.findings, *found.hits)] == [value]


def test_each_character_is_in_one_piece_and_a_piece_says_where_it_is() -> None:
    text = "".join(chr(0x4E00 + number % 20_000) for number in range(400_000))
    parts = pieces(text)
    assert "".join(text[part.start : part.end] for part in parts) == text
    assert all(text.startswith(part.text, part.at) for part in parts)
    assert max(len(part.text) for part in parts) <= PiiConfig().max_chars
    assert [part.text for part in pieces(text + "and more")][: len(parts) - 2] == [part.text for part in parts[:-2]]
    assert len(pieces("x" * MAX_CHARS)) < 12


def test_a_text_that_is_not_long_is_scanned_whole_and_its_scan_is_what_it_was() -> None:
    (part,) = pieces("x" * 196_608)
    assert part.text == "x" * 196_608
    found = Scan((Finding("A", 3, 5, 1.0),))
    assert together([part], [found]) is found


def test_what_is_cut_at_the_end_of_what_stands_around_a_piece_does_not_count(small: None) -> None:
    parts = pieces("x" * 400)
    outside = Scan((Finding("A", 345, 350, 1.0),))  # in the first piece's text, and behind the piece
    assert together(parts, [outside, NOTHING, NOTHING]) is NOTHING
    assert together(parts, [NOTHING, NOTHING, Scan((Finding("A", 199, 201, 1.0),))]).findings == (
        Finding("A", 299, 301, 1.0),
    )
