"""The event decoder yields the same events however the bytes are cut, and its memory is bounded."""

from __future__ import annotations

from itertools import pairwise

import pytest
from gatehouse_adapter._internal.sse import EventDecoder
from hypothesis import given
from hypothesis import strategies as st


def decode(*parts: bytes, limit: int = 1000) -> list[str]:
    decoder = EventDecoder(limit)
    return [event for part in parts for event in decoder.push(part)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_all_three_line_ends_are_understood(end: bytes) -> None:
    assert decode(end.join([b"data: a", b"", b"data: b", b"", b""])) == ["a", "b"]


def test_a_line_end_cut_in_two_is_one_line_end() -> None:
    assert decode(b"data: a\r", b"\ndata: b\r", b"", b"\n\r", b"\n") == ["a\nb"]


def test_data_of_several_lines_is_joined() -> None:
    assert decode(b"data: a\ndata:  b\ndata\ndata:c\n\n") == ["a\n b\n\nc"]


def test_comments_and_other_fields_are_passed_over() -> None:
    assert decode(b": ping\n\n: ping\n\nevent: x\nid: 1\nretry: 5\ndatum: no\ndata: a\n: ping\n\n") == ["a"]


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    assert decode(b"\xef\xbb\xbfdata: a\n\n") == ["a"]


def test_an_event_without_its_blank_line_is_not_given_out() -> None:
    assert decode(b"data: a\n\ndata: half") == ["a"]
    assert decode(b"data: a\n") == []


@given(
    events=st.lists(st.text(st.characters(blacklist_characters="\r", codec="utf-8")), min_size=1, max_size=4),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    cuts=st.lists(st.integers(0, 200), max_size=6),
)
def test_the_way_the_bytes_are_cut_changes_nothing(events: list[str], end: str, cuts: list[int]) -> None:
    lines = [line for event in events for line in (": ping", "", *(f"data: {x}" for x in event.split("\n")), "")]
    whole = "".join(line + end for line in lines).encode()
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    parts = [whole[a:b] for a, b in pairwise(edges)]
    assert decode(*parts, limit=10_000) == events
    assert decode(*(bytes([byte]) for byte in whole), limit=10_000) == events


def test_a_line_beyond_the_limit_is_an_error() -> None:
    with pytest.raises(ValueError, match="longer than 1000 bytes"):
        decode(b"data: ", b"x" * 500, b"x" * 500)


def test_an_event_of_many_lines_beyond_the_limit_is_an_error() -> None:
    with pytest.raises(ValueError, match="longer than 1000 bytes"):
        decode(b"data:\n" * 1001)


def test_many_events_and_keep_alives_never_reach_the_limit() -> None:
    assert len(decode(*[b": ping\n\n" * 50 + b"data: " + b"x" * 500 + b"\n\n"] * 20)) == 20
    assert decode(b": ping\n" * 1000) == []


def test_bytes_that_are_not_utf_8_are_an_error() -> None:
    with pytest.raises(ValueError, match="utf-8"):
        decode(b"data: \xff\n\n")
