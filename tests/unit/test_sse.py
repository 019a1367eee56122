"""A stream of events comes apart the same wherever it was cut, and what is not changed stays as it was."""

from __future__ import annotations

import pytest
from gatehouse import sse
from gatehouse.sse import EventStream, EventTooLarge, event
from hypothesis import given
from hypothesis import strategies as st

ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES = st.lists(
    st.sampled_from([b"data: {}", b"data:x", b"data", b"event: a", b": ping", b"id: 7", b"database: no"]), min_size=1
)


@given(st.lists(st.tuples(LINES, ENDS), max_size=5), st.data())
def test_events_are_the_same_however_the_stream_is_cut(
    written: list[tuple[list[bytes], bytes]], data: st.DataObject
) -> None:
    # A CR that ends a piece may be half of a CRLF: one kind of line end in one stream, as servers write it.
    end = written[0][1] if written else b"\n"
    stream = b"".join(end.join(lines) + end + end for lines, _ in written)
    whole = list(EventStream().feed(stream))
    assert b"".join(each.raw for each in whole) == stream
    assert len(whole) == len(written)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    cut = EventStream()
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert [each for piece in pieces for each in cut.feed(piece)] == whole
    assert list(cut.rest()) == []


def test_data_lines_are_one_text() -> None:
    (found,) = EventStream().feed(b"event: a\ndata: one\ndata:two\n: ping\n\n")
    assert found.data == b"one\ntwo"
    assert found.with_data(b"{}") == b"event: a\n: ping\ndata: {}\n\n"
    (ping,) = EventStream().feed(b": ping\n\n")
    assert ping.data is None


def test_the_end_without_an_empty_line_is_an_event_too() -> None:
    stream = EventStream()
    assert list(stream.feed(b"data: 1\n")) == []
    assert [each.data for each in stream.rest()] == [b"1"]


def test_an_event_without_an_end_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT", 100)
    with pytest.raises(EventTooLarge):
        list(EventStream().feed(b"data: " + b"x" * 200))


def test_an_event_is_written_with_its_name() -> None:
    assert event(b"{}", "error") == b"event: error\ndata: {}\n\n"
    assert event(b"{}") == b"data: {}\n\n"
