"""A body is read within bounds, and as strictly as its strictest reader, before LiteLLM sees any of it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import brotli
import pytest
from backports import zstd
from gatehouse.core.clock import monotonic, new_call_id, now
from gatehouse.core.errors import (
    GovernanceError,
    GovernanceUnavailable,
    InvalidRequest,
    TooLarge,
    TooManyRequests,
    TooSlow,
)
from gatehouse.core.http import Message
from gatehouse.gateway import request_body
from gatehouse.gateway.request_body import BodyReader, ClientLeft, json_object
from gatehouse.pipeline.scope import CallScope
from starlette.requests import Request

from tests.support.edge import edge

JSON = [(b"content-type", b"application/json")]
FORM = [(b"content-type", b"multipart/form-data; boundary=x")]


def packed(body: bytes) -> bytes:
    """Compress without a time, because the result is in the names of tests."""
    return gzip.compress(body, mtime=0)


class Sender:
    """Sends pieces as a client does, and then waits, or has left."""

    def __init__(
        self, pieces: Iterable[bytes], *, pause_s: float = 0.0, ends: bool = True, leaves: bool = False
    ) -> None:
        self._pieces = list(pieces)
        self._pause_s = pause_s
        self._ends = ends
        self._leaves = leaves
        self.taken = 0

    async def __call__(self) -> Message:
        await asyncio.sleep(self._pause_s)
        if not self._pieces:
            if self._leaves:
                return {"type": "http.disconnect"}
            await asyncio.sleep(3600)
        piece = self._pieces.pop(0)
        self.taken += len(piece)
        return {"type": "http.request", "body": piece, "more_body": bool(self._pieces) or not self._ends}


async def test_a_body_is_put_together_however_it_is_cut() -> None:
    reader = BodyReader(100)
    assert await reader.read([], Sender([b"a" * 40, b"b" * 60])) == b"a" * 40 + b"b" * 60
    assert await reader.read([], Sender([b""])) == b""


async def test_a_body_over_the_bound_is_refused_and_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "_DRAIN_S", 0.05)
    reader = BodyReader(100)
    for headers, pieces in (
        ([], [b"a" * 50, b"b" * 51]),
        ([(b"content-length", b"101")], [b"a" * 101]),
        ([(b"content-length", b"9" * 30)], [b"a"]),
        ([], [b"x"] * 101),
    ):
        with pytest.raises(TooLarge):
            await reader.read(headers, Sender(pieces))
    assert reader.shares.total == 0
    sender = Sender([b"a"] * 1_000, ends=False)
    with pytest.raises(TooLarge):
        await reader.read([], sender)
    # What still came was taken, or the client would not see its answer.
    assert sender.taken == 1_000


async def test_a_client_that_asks_first_is_told_at_once() -> None:
    sender = Sender([b"a" * 101])
    with pytest.raises(TooLarge):
        await BodyReader(100).read([(b"content-length", b"101"), (b"expect", b"100-continue")], sender)
    assert sender.taken == 0


async def test_a_client_that_drips_is_cut_off_and_a_slow_one_that_keeps_going_is_not() -> None:
    reader = BodyReader(10_000_000, grace_s=0.2)
    for sender in (Sender([b"x"] * 1_000, pause_s=0.02), Sender([b"x"], ends=False), Sender([])):
        with pytest.raises(TooSlow):
            await reader.read([], sender)
    pieces = [b"x" * 16 * 1024] * 10
    assert len(await reader.read([], Sender(pieces, pause_s=0.05))) == 160 * 1024
    assert reader.shares.total == 0


async def test_a_client_that_leaves_ends_the_reading() -> None:
    with pytest.raises(ClientLeft):
        await BodyReader(100).read([], Sender([b"x"], ends=False, leaves=True))


KB, MB = 1024, 1024 * 1024


async def test_what_one_sender_holds_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "_DRAIN_S", 0.05)
    reader = BodyReader(2 * MB, max_held=4 * MB)
    shares = reader.shares
    with shares.of("hostile") as first, shares.of("hostile") as second:
        assert len(await reader.read([], Sender([b"x" * KB] * 1_900), first)) == 1_900 * KB
        sender = Sender([b"x" * KB] * 1_000)
        with pytest.raises(TooManyRequests, match="one caller"):
            await reader.read([], sender, second)
        assert sender.taken == 1_000 * KB  # or the client would not see its answer
        with shares.of("other") as other:
            assert len(await reader.read([], Sender([b"x" * KB] * 1_000), other)) == 1_000 * KB
    assert shares.total == 0
    assert not shares.rest.held
    assert not shares.beginnings.held


async def test_what_is_refused_is_in_nobodys_way_while_its_rest_comes() -> None:
    reader = BodyReader(1 * MB, max_held=1 * MB)
    for pieces in ([b"x" * 800 * KB], [b"x" * 500 * KB, b"x" * 600 * KB]):
        with reader.shares.of("one") as share:
            reading = asyncio.create_task(reader.read([], Sender(pieces, ends=False), share))
            await asyncio.sleep(0.05)
            assert not reading.done()
            assert reader.shares.total == 0
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


def test_each_of_many_senders_finds_room() -> None:
    shares, rooms = BodyReader(32 * MB).shares, []
    with contextlib.ExitStack() as stack:
        for number in range(64):
            share, room = stack.enter_context(shares.of(f"hostile {number}")), 0
            with contextlib.suppress(GovernanceError):
                while True:
                    share.add(64 * KB)
                    room += 64 * KB
            rooms.append(room)
        assert rooms[0] >= 128 * MB  # one alone has half
        assert min(rooms) >= 64 * KB
        stack.enter_context(shares.of("another")).add(64 * KB)
        for _ in range(100):
            stack.enter_context(shares.of("an agent")).add(2 * KB)
    assert shares.total == 0


def test_when_others_hold_everything_it_is_not_the_callers_fault() -> None:
    shares = BodyReader(100, max_held=4 * MB).shares
    with shares.of("one") as one, shares.of("two") as two:
        one.add(2 * MB)
        with pytest.raises(GovernanceUnavailable):
            two.add(2 * MB)


async def test_what_comes_out_of_a_packed_body_counts_too() -> None:
    reader = BodyReader(1 * MB, max_held=1 * MB)
    headers = [(b"content-encoding", b"gzip")]
    body = packed(b"x" * 1_000_000)
    with reader.shares.of("one") as share:
        await reader.read(headers, Sender([body]), share)
        with pytest.raises(GovernanceUnavailable):
            reader.unpacked(headers, body, share)
    assert reader.shares.total == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"x"',
        b"1",
        b"null",
        b"{",
        b'{"a": 1} x',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b'{"a": -1e999}',
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": 1, "\\u0061": 2}',
        b'{"a": "\\ud800"}',
        b'{"a": "\\uD800 x"}',
        b'{"\\udfff": 1}',
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b"\xef\xbb\xbf{}",
        '{"a": "x"}'.encode("utf-16"),
        '{"a": "x"}'.encode("utf-32-le"),
        b"{'a': 1}",
        b'{"a": 01}',
        b'{"a": "' + b"\x00" + b'"}',
        b"[" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"a": ' + b"9" * 5_000 + b"}",
    ],
    ids=lambda body: repr(body[:30]),
)
def test_what_readers_disagree_on_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        json_object(body)


def test_whole_characters_pass_however_they_are_written() -> None:
    assert json_object(b'{"a": "\\ud83d\\ude00 \xf0\x9f\x98\x80 \\\\ud800"}') == {"a": "😀 😀 \\ud800"}
    assert json_object(b' {"a": [1, 1.5, true, null, -0]} ') == {"a": [1, 1.5, True, None, 0]}


async def take(
    body: bytes, headers: list[tuple[bytes, bytes]] = JSON, path: str = "/v1/chat/completions"
) -> tuple[bytes, dict[str, Any], GovernanceError | None]:
    """Return the body, headers and query that LiteLLM gets, and the fault that was found."""
    call = CallScope(new_call_id(), path, now(), monotonic())
    scope: dict[str, Any] = {"headers": list(headers), "query_string": b"api-version=x&model=y"}
    taken = await edge().take(call, scope, Sender([body]))
    passed = dict(scope["headers"])
    assert passed.pop(b"x-litellm-call-id") == str(call.call_id).encode()
    return taken.body, {"headers": passed, "query": scope["query_string"]}, call.incoming.fault


@pytest.mark.parametrize("value", [2**64, -(2**80), 10**400, [[[]]], 1e300], ids=lambda value: str(value)[:9])
async def test_what_json_can_say_is_written_again(value: Any) -> None:
    deep: Any = value
    for _ in range(300):
        deep = {"a": deep}
    for body in ({"model": "m", "new": value}, {"extra_body": {"messages": deep}}):
        passed, _, fault = await take(json.dumps(body).encode())
        assert fault is None
        assert json.loads(passed) == (
            {"model": "m", "extra_body": {"new": value}} if "new" in body else {"messages": deep}
        )


async def test_what_is_nested_deeper_than_can_be_written_is_refused() -> None:
    for depth in (800, 900, 950, 1_000, 1_100, 5_000):
        body = b'{"extra_body": {"messages": ' + b"[" * depth + b"]" * depth + b"}}"
        _, _, fault = await take(body)
        assert fault is None or isinstance(fault, InvalidRequest)


async def test_a_body_without_anything_new_passes_byte_for_byte() -> None:
    body = b'{ "model":"m",  "messages":[{"role":"user","content":"caf\\u00e9 1.10"}],"temperature":1.0}'
    passed, seen, fault = await take(body)
    assert (passed, fault) == (body, None)
    assert seen == {
        "headers": {b"content-type": b"application/json", b"content-length": str(len(body)).encode()},
        "query": b"",
    }


async def test_new_fields_go_where_litellm_does_not_look() -> None:
    passed, _, fault = await take(b'{"model":"m","extra_body":{"top_p":1},"new":{"a":1}}')
    assert fault is None
    assert json.loads(passed) == {"model": "m", "top_p": 1, "extra_body": {"new": {"a": 1}}}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"cache_key": "x"}', JSON),
        (b'{"a": 1, "a": 2}', JSON),
        (b"{}", [*JSON, (b"x-litellm-tags", b"a")]),
        (b"{}", [*JSON, (b"content-encoding", b"gzip")]),
        (packed(b'{"cache_key": "x"}'), [*JSON, (b"content-encoding", b"gzip")]),
        (b"model=m", [(b"content-type", b"application/x-www-form-urlencoded")]),
        (b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--x--', FORM),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
async def test_a_fault_leaves_litellm_nothing_but_who_the_caller_is(
    body: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    key = (b"authorization", b"Bearer sk-1")
    passed, seen, fault = await take(body, [*headers, key])
    assert fault is not None
    assert (fault.status, passed) == (400, b"{}")
    assert seen["headers"] == {
        b"content-type": b"application/json",
        b"content-length": b"2",
        b"authorization": b"Bearer sk-1",
    }


def form(*fields: tuple[str, bytes]) -> bytes:
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="{name}"'.encode()
        + (b'; filename="a.wav"' if name == "file" else b"")
        + b"\r\n\r\n"
        + value
        + b"\r\n"
        for name, value in fields
    ]
    return b"".join(parts) + b"--x--\r\n"


GOOD_FORM = (("model", b"m"), ("file", b"RIFF"), ("include[]", b"logprobs"), ("include[]", b"x"), ("language", b"en"))


async def parsed(body: bytes, content_type: bytes) -> list[tuple[str, Any]]:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async with Request({"type": "http", "headers": [(b"content-type", content_type)]}, receive).form() as read:
        return [
            (name, value if isinstance(value, str) else (value.filename, value.content_type, await value.read()))
            for name, value in read.multi_items()
        ]


async def test_a_form_with_a_file_passes_as_it_was_read() -> None:
    passed, seen, fault = await take(form(*GOOD_FORM), FORM, "/v1/audio/transcriptions")
    assert fault is None
    assert await parsed(passed, seen["headers"][b"content-type"]) == [
        ("model", "m"),
        ("file", ("file.wav", "application/octet-stream", b"RIFF")),
        ("include[]", "logprobs"),
        ("include[]", "x"),
        ("language", "en"),
    ]
    assert seen["headers"][b"content-length"] == str(len(passed)).encode()


@pytest.mark.parametrize(
    ("head", "sent"),
    [
        ('; filename="Ada Lovelace (ada@example.com).mp3"\r\nContent-Type: audio/mpeg', ("file.mp3", "audio/mpeg")),
        ('; filename="x.adalovelace"\r\nContent-Type: ada@example.com', ("file", "application/octet-stream")),
        ('; filename="ada.wav/../x"\r\nX-Ada: ada@example.com', ("file", "application/octet-stream")),
        ("; filename*=utf-8''ada%40example.com.ogg; filename=\"a.ogg\"", ("file.ogg", "application/octet-stream")),
    ],
)
async def test_of_a_files_name_its_ending_is_sent(head: str, sent: tuple[str, str]) -> None:
    body = f'--x\r\nContent-Disposition: form-data; name="file"{head}\r\n\r\nRIFF\r\n--x--\r\n'.encode()
    passed, seen, fault = await take(body, FORM, "/v1/audio/transcriptions")
    assert fault is None
    assert await parsed(passed, seen["headers"][b"content-type"]) == [("file", (*sent, b"RIFF"))]
    assert b"ada" not in passed.lower()


@pytest.mark.parametrize(
    "body",
    [
        form(*GOOD_FORM, ("api_base", b"http://x")),
        form(*GOOD_FORM, ("metadata", b"{}")),
        form(*GOOD_FORM, ("litellm_metadata[]", b"{}")),
        form(*GOOD_FORM, ("model", b"n")),
        form(*GOOD_FORM, ("file", b"RIFX")),
        form(("model", b"m"), ("file", b"RIFF")).replace(b'name="model"', b'name="model"; filename="a"'),
        form(("model", b"m"), ("file", b"RIFF")).replace(b'; filename="a.wav"', b""),
        b"{}",
        b"--x\r\nbroken",
    ],
    ids=range(9),
)
async def test_a_form_that_says_more_is_refused(body: bytes) -> None:
    _, _, fault = await take(body, FORM, "/v1/audio/transcriptions")
    assert isinstance(fault, InvalidRequest)


async def test_json_where_a_file_was_expected_is_refused() -> None:
    _, _, fault = await take(b'{"model": "m"}', JSON, "/v1/audio/transcriptions")
    assert isinstance(fault, InvalidRequest)


async def test_the_names_of_a_form_are_noted_too() -> None:
    call = CallScope(new_call_id(), "/v1/audio/transcriptions", now(), monotonic())
    fields = ("file", "model", "timestamp_granularities[]", "api_base")
    body = b"".join(f'--x\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n1\r\n'.encode() for name in fields)
    await edge().take(call, {"headers": list(FORM), "query_string": b""}, Sender([body + b"--x--\r\n"]))
    assert call.incoming.top_level == dict.fromkeys(("file", "model", "timestamp_granularities", "api_base"), False)


PLAIN = b'{"model": "m", "messages": []}'
GZIP = [*JSON, (b"content-encoding", b"gzip")]
PACKS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": packed,
    "GZIP": packed,
    "x-gzip": packed,
    "deflate": zlib.compress,
    "zstd": zstd.compress,
    "br": brotli.compress,
}


def encoded(encoding: str) -> list[tuple[bytes, bytes]]:
    return [*JSON, (b"content-encoding", encoding.encode())]


@pytest.mark.parametrize("encoding", [*PACKS, "identity"])
@pytest.mark.parametrize("size", [0, 300_000])
async def test_a_packed_body_is_unpacked_before_anybody_reads_it(encoding: str, size: int) -> None:
    plain = PLAIN + b" " * size
    passed, seen, fault = await take(PACKS.get(encoding, bytes)(plain), encoded(encoding))
    assert (passed, fault) == (plain, None)
    assert seen["headers"] == {b"content-type": b"application/json", b"content-length": str(len(plain)).encode()}


@pytest.mark.parametrize("encoding", ["gzip, gzip", "zstd, br", "compress", "x", ""])
async def test_a_body_that_is_packed_otherwise_is_refused(encoding: str) -> None:
    _, _, fault = await take(PLAIN, encoded(encoding))
    assert fault is not None
    assert (fault.status, fault.code) == (415, "unsupported_encoding")
    _, _, fault = await take(packed(PLAIN), [*GZIP, (b"content-encoding", b"gzip")])
    assert fault is not None
    assert fault.status == 415


@pytest.mark.parametrize("encoding", PACKS)
@pytest.mark.parametrize("size", [1_000_001, 100_000_000])
async def test_what_is_unpacked_is_bounded(encoding: str, size: int) -> None:
    """The larger body would be a hundred times the bound, and the gateway may hold none of it."""
    bomb = PACKS[encoding](b" " * size)
    tracemalloc.start()
    _, _, fault = await take(bomb, encoded(encoding))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(fault, TooLarge)
    assert most < 20_000_000


async def test_zstd_holds_no_more_than_a_sender_may_ask_for() -> None:
    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0}
    packing = zstd.ZstdCompressor(options=options)
    _, _, fault = await take(packing.compress(PLAIN) + packing.flush(), encoded("zstd"))
    assert isinstance(fault, InvalidRequest)


@pytest.mark.parametrize("how", ["not packed", "cut off", "more behind it", "twice", "nothing"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "br"])
async def test_a_damaged_body_is_refused(encoding: str, how: str) -> None:
    whole = PACKS[encoding](PLAIN)
    damaged = {
        "not packed": PLAIN,
        "cut off": whole[:-2],
        "more behind it": whole + b"x",
        "twice": whole * 2,
        "nothing": b"",
    }
    _, _, fault = await take(damaged[how], encoded(encoding))
    assert isinstance(fault, InvalidRequest)
