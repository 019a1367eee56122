"""A stream of events comes apart the same wherever it was cut, and what is not changed stays as it was."""

from __future__ import annotations

import re
import time

import pytest
from gatehouse.dialects import sse
from gatehouse.dialects.sse import EventTooLarge, SSEDecoder, event
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._streaming import SSEDecoder as OpenAIDecoder

ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES = st.sampled_from(
    [
        *(b"data: {}", b"data:x", b"data", b"data:", b"data:  two", b"event: a", b": ping", b"id: 7", b"database: no"),
        *(
            b"",
            b"",
            b"",
            b" data: blank",
            b"\tdata: tab",
            b"\xef\xbb\xbfdata: mark",
            b"\0data: nul",
            b"data : no",
            b"Data: no",
        ),
        *(
            b": ping\x0bdata: tabulator",
            b": \xe2\x80\xa8data: separator",
            b"id: \xc2\x85 data: next line",
            b"\xffdata: no",
        ),
        *(b"\xef\xbb\xbf", b" ", b"data\0: no", b"data: \xff", b"data: [DONE]", b"data: a\xe2\x80\xa8data: b"),
    ]
)
STREAMS = st.lists(st.tuples(LINES, ENDS)).map(lambda lines: b"".join(line + end for line, end in lines))
BOM = b"\xef\xbb\xbf"


def by_the_standard(stream: bytes) -> list[str]:
    """Return the events' data as WHATWG HTML, section 9.2.6, defines them."""
    found: list[str] = []
    data: list[str] = []
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    for line in re.split(r"\r\n|\n|\r", text)[:-1]:
        name, _, value = line.partition(":")
        if line and name == "data":
            data.append(value.removeprefix(" "))
        elif not line:
            found += ["\n".join(data)] if data else []
            data = []
    return found


def by_openai(stream: bytes) -> list[str]:
    """Read as OpenAI's client does, and Anthropic's, which the same generator makes."""
    data = (b"\n".join(line for line in stream.splitlines())).decode("utf-8", "replace").encode()
    return [each.data for each in OpenAIDecoder().iter_bytes(iter([data + b"\n"]))]


def by_lines(stream: bytes) -> list[str]:
    """Read as programs do that take each line of `httpx.Response.iter_lines`."""
    lines = (line.strip() for line in stream.decode("utf-8", "replace").splitlines())
    return [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]


def by_bytes(stream: bytes) -> list[str]:
    """Read as programs do that take the lines of `requests.Response.iter_lines` and decode with `utf-8-sig`."""
    lines = (line.decode("utf-8-sig", "replace") for line in stream.splitlines())
    return [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]


def _read(stream: bytes) -> str:
    """Return all of a stream that is screened."""
    events = SSEDecoder()
    found = [*events.decode(stream), *events.rest()]
    assert b"".join(each.raw for each in found) == stream
    return "\n\n".join(each.data.decode("utf-8", "replace") for each in found if each.data is not None)


@settings(max_examples=500)
@given(STREAMS)
def test_what_any_reader_takes_for_data_is_screened(stream: bytes) -> None:
    read = _read(stream)
    for reader in (by_the_standard, by_openai, by_lines, by_bytes):
        for said in reader(stream):
            # Of the lines of one text each: between them a laxer reader may have found another.
            assert all(line.strip() in read for line in re.split(r"[\r\n]+", said)), (reader, said)
    assert "no" not in read.replace("no\0", "")


@given(st.lists(st.tuples(st.sampled_from([b"data: {}", b"data:x", b"data", b": ping", b"database: no", b""]), ENDS)))
def test_events_are_those_of_the_standard(lines: list[tuple[bytes, bytes]]) -> None:
    for mark in (b"", BOM):
        stream = mark + b"".join(line + end for line, end in lines)
        found = [each.data.decode() for each in SSEDecoder().decode(stream) if each.data is not None]
        assert found == by_the_standard(stream)


@settings(max_examples=300)
@given(STREAMS, st.data())
def test_events_are_the_same_however_the_stream_is_cut(stream: bytes, data: st.DataObject) -> None:
    whole = SSEDecoder()
    expected = [each.data for each in [*whole.decode(stream), *whole.rest()] if each.data is not None]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    cut = SSEDecoder()
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    found = [*(each for piece in pieces for each in cut.decode(piece)), *cut.rest()]
    assert [each.data for each in found if each.data is not None] == expected
    assert b"".join(each.raw for each in found) == stream


@pytest.mark.parametrize("end", [b"\n\r\n", b"\r\n\n", b"\r\r", b"\n\r", b"\r\n\r", b"\n\n", b"\r\n\r\n"])
def test_an_event_ends_at_once_at_an_empty_line_however_lines_end(end: bytes) -> None:
    stream = SSEDecoder()
    assert [each.data for each in stream.decode(b"data: 1" + end)] == [b"1"]
    assert [each.data for each in stream.decode(b"data: 2\r\ndata: 3" + end)] == [b"2\n3"]


def test_a_stream_may_begin_with_an_empty_line_cut_anywhere() -> None:
    assert [each.raw for each in SSEDecoder().decode(b"\n\n")] == [b"\n\n"]
    stream = SSEDecoder()
    assert list(stream.decode(b"\n")) == []
    assert [each.raw for each in stream.decode(b"\n")] == [b"\n\n"]


def test_data_that_is_not_utf_8_stays_as_it_is_behind_a_blank_too() -> None:
    (found,) = SSEDecoder().decode(b" data: \xff\n\n")
    assert found.data == b"\xff"


def test_a_name_that_only_begins_with_data_is_another_field() -> None:
    (found,) = SSEDecoder().decode(BOM + b"database: 1\r\ndata: one\r\n data: two\r\ndata\r\ndatas\r\n\r\n")
    assert found.data == b"one\ntwo\n"
    assert found.with_data(b"{}") == b"database: 1\ndatas\ndata: {}\n\n"


def test_data_lines_are_one_text() -> None:
    (found,) = SSEDecoder().decode(b"event: a\ndata: one\ndata:two\n: ping\n\n")
    assert found.data == b"one\ntwo"
    assert found.with_data(b"{}") == b"event: a\n: ping\ndata: {}\n\n"
    (ping,) = SSEDecoder().decode(b": ping\n\n")
    assert ping.data is None


def test_the_end_without_an_empty_line_is_an_event_too() -> None:
    stream = SSEDecoder()
    assert list(stream.decode(b"data: 1\n")) == []
    assert [each.data for each in stream.rest()] == [b"1"]


def test_an_event_without_an_end_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT", 100)
    assert not list(SSEDecoder().decode(b"x" * 100))
    with pytest.raises(EventTooLarge):
        list(SSEDecoder().decode(b"data: " + b"x" * 200))


def test_an_event_is_written_with_its_name() -> None:
    assert event(b"{}", "error") == b"event: error\ndata: {}\n\n"
    assert event(b"{}") == b"data: {}\n\n"


def test_an_event_in_many_pieces_takes_work_in_proportion_to_its_length() -> None:
    def cpu_s(pieces: int) -> float:
        stream, begun = SSEDecoder(), time.thread_time()
        for _ in range(pieces):
            assert not list(stream.decode(b"x" * 64))
        return time.thread_time() - begun

    # Four times as many; if each piece copied what came before, it would be sixteen times as much work.
    assert min(cpu_s(32_000) for _ in range(3)) < 10 * min(cpu_s(8_000) for _ in range(3))
