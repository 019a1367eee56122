"""An answer that is too large, or stops early, is told from one that is whole, however a provider writes it."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import httpx
import pytest
from gatehouse.core.call import Caller, GovernedCall
from gatehouse.core.clock import monotonic, new_call_id, now
from gatehouse.gateway.provider_answers import watched
from gatehouse.pipeline.scope import CallScope, current_scope

LIMIT = 1_000_000
SSE = "text/event-stream"
CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"


class Body(httpx.AsyncByteStream):
    """Sends a provider's pieces, then ends or breaks off."""

    def __init__(self, pieces: Iterable[bytes], error: Exception | None = None) -> None:
        self._pieces = pieces
        self._error = error
        self.sent = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.sent += len(piece)
            yield piece
        if self._error is not None:
            raise self._error

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def scope() -> Iterator[CallScope]:
    call_id, at = new_call_id(), now()
    scope = CallScope(call_id, CHAT, at, monotonic(), intent=True)
    scope.call = GovernedCall(call_id, at, CHAT, "acompletion", "m", stream=True, caller=Caller())
    token = current_scope.set(scope)
    yield scope
    current_scope.reset(token)


async def ask(
    body: Body,
    path: str = CHAT,
    *,
    kind: str = SSE,
    stream: bool = True,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    async def handle(_: Any, request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers={"content-type": kind} | (headers or {}), stream=body, request=request)

    request = httpx.Request("POST", f"https://provider.example{path}", json={"stream": stream, "messages": []})
    return await watched(handle, LIMIT)(None, request)


def events(*said: Any) -> bytes:
    return b"".join(
        b"data: " + (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n\n" for each in said
    )


def chunk(text: str | None = None, index: int = 0, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": finish}], **fields}


USAGE = {"choices": [], "usage": {"total_tokens": 5}}
TOOL = {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1, "function": {"arguments": "{"}}]}}]}
WHOLE = {
    "chat": (CHAT, events(chunk("a"), chunk(finish="stop"), b"[DONE]")),
    "no DONE": (CHAT, events(chunk("a"), chunk(finish="stop"))),
    "no finish": (CHAT, events(chunk("a"), b"[DONE]")),
    "usage at the end": (CHAT, events(chunk("a"), chunk(finish="length"), USAGE)),
    "usage with a choice": (CHAT, events(chunk("a"), chunk(finish="stop"), chunk(usage={"total_tokens": 5}))),
    "tool call": (CHAT, events(TOOL, TOOL, chunk(finish="tool_calls"))),
    "two choices": (CHAT, events(chunk("a"), chunk("b", 1), chunk(finish="stop", index=1), chunk(finish="stop"))),
    "nothing said": (CHAT, events(chunk(finish="stop"))),
    "text": ("/v1/completions", events({"choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]})),
    "comments": (CHAT, b": PROCESSING\n\n" + events(chunk("a"), chunk(finish="stop"))),
    "carriage returns": (CHAT, events(chunk("a"), b"[DONE]").replace(b"\n", b"\r\n")),
    "no line break at the end": (CHAT, events(chunk("a"), b"[DONE]").rstrip()),
    "an error that it says": (CHAT, events(chunk("a"), {"error": {"message": "overloaded"}})),
    "messages": (MESSAGES, events({"type": "message_start"}, {"type": "message_stop"})),
    "messages, stopped": (MESSAGES, events({"type": "message_delta", "delta": {"stop_reason": "end_turn"}})),
    "messages, error": (MESSAGES, events({"type": "error", "error": {"type": "overloaded_error"}})),
    "responses": (RESPONSES, events({"type": "response.created"}, {"type": "response.completed"})),
    "responses, incomplete": (RESPONSES, events({"type": "response.incomplete"})),
    "responses, failed": (RESPONSES, events({"type": "response.failed"})),
    "no API that we know": ("/v1beta/models/m:streamGenerateContent", events({"candidates": []})),
}
CUT_OFF = {
    "chat": (CHAT, events(chunk("a"), chunk("b"))),
    "one of two choices": (CHAT, events(chunk("a"), chunk("b", 1), chunk(finish="stop"))),
    "usage alone": (CHAT, events(chunk("a"), USAGE)),
    "words like the end": (CHAT, events(chunk('data: [DONE]\n\n"finish_reason":"stop"'))),
    "half an event": (CHAT, events(chunk("a")) + b'data: {"choices":[{"finish_reason":"stop"'),
    "messages": (MESSAGES, events({"type": "message_start"}, {"type": "content_block_stop"})),
    "messages, not stopped": (MESSAGES, events({"type": "message_delta", "delta": {"stop_reason": None}})),
    "responses": (RESPONSES, events({"type": "response.created"}, {"type": "response.output_text.done"})),
    "nothing": (CHAT, b""),
}


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("case", WHOLE)
async def test_a_whole_stream_passes_byte_for_byte(scope: CallScope, case: str, size: int) -> None:
    path, data = WHOLE[case]
    answer = await ask(Body([data[at : at + size] for at in range(0, len(data), size)]), path)
    assert await answer.aread() == data
    assert scope.sending.provider_failed is None


@pytest.mark.parametrize("size", [7, 100_000])
@pytest.mark.parametrize("case", CUT_OFF)
async def test_a_stream_that_stops_early_is_a_failure(scope: CallScope, case: str, size: int) -> None:
    path, data = CUT_OFF[case]
    answer = await ask(Body([data[at : at + size] for at in range(0, len(data), size)]), path)
    with pytest.raises(httpx.RemoteProtocolError):
        await answer.aread()
    assert scope.sending.provider_failed is not None
    assert scope.sending.provider_failed.code == "upstream_cut_off"


@pytest.mark.parametrize(
    "error", [httpx.ReadError("reset"), httpx.RemoteProtocolError("cut"), httpx.ReadTimeout("late")]
)
@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
async def test_a_stream_whose_connection_breaks_is_a_failure_where_it_had_not_ended(
    scope: CallScope, path: str, error: Exception
) -> None:
    answer = await ask(Body([events({"type": "message_start"})], error), path)
    with pytest.raises(type(error)):
        await answer.aread()
    assert scope.sending.provider_failed is not None

    scope.sending.provider_failed = None
    answer = await ask(Body([events({"type": "message_stop"})], error), path)
    with pytest.raises(type(error)):
        await answer.aread()
    assert scope.sending.provider_failed is None


@pytest.mark.parametrize("kind", [SSE, "text/html", "application/json"])
@pytest.mark.parametrize("said", [b"<html>Bad Gateway</html>", b"data: nonsense\n\n", b'{"choices": []}'])
async def test_a_stream_without_events_is_unreadable(scope: CallScope, kind: str, said: bytes) -> None:
    answer = await ask(Body([said]), kind=kind)
    with pytest.raises(httpx.RemoteProtocolError):
        await answer.aread()
    assert scope.sending.provider_failed is not None
    assert scope.sending.provider_failed.code == "upstream_unreadable"


async def test_a_stream_that_its_reader_leaves_is_no_failure(scope: CallScope) -> None:
    body = Body([events(chunk("a")), events(chunk("b"))])
    answer = await ask(body)
    async for _ in answer.aiter_raw():
        break
    await answer.aclose()
    assert body.closed
    assert scope.sending.provider_failed is None


async def test_an_answer_that_nobody_asked_to_stream_need_not_say_that_it_is_over(scope: CallScope) -> None:
    answer = await ask(Body([b'{"choices": []}']), kind="application/json", stream=False)
    await answer.aread()
    assert scope.sending.provider_failed is None


async def test_a_providers_error_is_passed_on(scope: CallScope) -> None:
    answer = await ask(Body([b'{"error": {}}'], httpx.ReadError("reset")), kind="application/json", status=500)
    with pytest.raises(httpx.ReadError):
        await answer.aread()
    assert scope.sending.provider_failed is None


async def test_an_answer_of_one_piece_that_breaks_off_is_a_failure(scope: CallScope) -> None:
    answer = await ask(Body([b'{"choi'], httpx.ReadError("reset")), kind="application/json", stream=False)
    with pytest.raises(httpx.ReadError):
        await answer.aread()
    assert scope.sending.provider_failed is not None
    assert scope.sending.provider_failed.code == "upstream_cut_off"


def endless(piece: bytes) -> Iterator[bytes]:
    """Yield enough for every bound, and little enough for a machine where one is not kept."""
    for _ in range(100_000_000 // max(len(piece), 1000)):
        yield piece


@pytest.mark.parametrize(("kind", "status"), [("application/json", 200), (SSE, 500), ("text/html", 200)])
async def test_what_is_too_large_is_not_read_on(scope: CallScope, kind: str, status: int) -> None:
    body = Body(endless(b" " * 10_000))
    answer = await ask(body, kind=kind, status=status)
    with pytest.raises(httpx.RemoteProtocolError):
        await answer.aread()
    assert scope.sending.provider_failed is not None
    assert scope.sending.provider_failed.code == "answer_too_large"
    assert body.sent <= LIMIT + 10_000


async def test_what_says_that_it_is_too_large_is_not_read_at_all(scope: CallScope) -> None:
    body = Body(endless(b" "))
    with pytest.raises(httpx.RemoteProtocolError):
        await ask(body, kind="application/json", headers={"content-length": str(LIMIT + 1)})
    assert scope.sending.provider_failed is not None
    assert scope.sending.provider_failed.code == "answer_too_large"
    assert body.sent == 0
    assert body.closed


async def test_an_answer_of_just_the_size_that_is_allowed_passes(scope: CallScope) -> None:
    said = json.dumps("a" * (LIMIT - 2)).encode()
    answer = await ask(Body([said]), "/v1/embeddings", kind="application/json", headers={"content-length": str(LIMIT)})
    assert await answer.aread() == said
    assert scope.sending.provider_failed is None


async def test_a_stream_may_be_longer_than_an_answer_but_no_event_of_it(scope: CallScope) -> None:
    many = [events(chunk("a" * 10_000))] * 200
    answer = await ask(Body([*many, events(b"[DONE]")]))
    assert len(await answer.aread()) > LIMIT
    assert scope.sending.provider_failed is None

    body = Body(endless(b"data: " + b"a" * 1_000_000 + b"\n"))
    answer = await ask(body)
    with pytest.raises(httpx.RemoteProtocolError):
        async for _ in answer.aiter_bytes():
            pass
    assert scope.sending.provider_failed is not None
    assert scope.sending.provider_failed.code == "answer_too_large"  # type: ignore[unreachable]
    assert body.sent < 50_000_000


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
async def test_what_is_packed_is_measured_unpacked(scope: CallScope, pack: Any) -> None:
    encoding = {"content-encoding": "gzip" if pack is gzip.compress else "deflate"}
    path, data = WHOLE["chat"]
    answer = await ask(Body([pack(data)]), path, headers=encoding | {"content-length": "17"})
    assert await answer.aread() == data
    assert "content-encoding" not in answer.headers
    assert "content-length" not in answer.headers

    packed = pack(b" " * LIMIT * 20)
    answer = await ask(
        Body([packed[at : at + 1000] for at in range(0, len(packed), 1000)]), "/x", headers=encoding, kind="a/b"
    )
    with pytest.raises(httpx.RemoteProtocolError):
        await answer.aread()
    assert scope.sending.provider_failed is not None
    assert scope.sending.provider_failed.code == "answer_too_large"


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd", "gzip,deflate"])
async def test_what_is_packed_otherwise_is_not_unpacked(scope: CallScope, encoding: str) -> None:
    body = Body(endless(b"x"))
    with pytest.raises(httpx.RemoteProtocolError):
        await ask(body, headers={"content-encoding": encoding})
    assert scope.sending.provider_failed is not None
    assert body.sent == 0


async def test_a_provider_is_asked_for_nothing_that_cannot_be_unpacked(scope: CallScope) -> None:
    answer = await ask(Body([b"{}"]), kind="application/json", stream=False)
    assert answer.request.headers["accept-encoding"] == "gzip, deflate"


async def test_what_is_no_governed_call_is_left_alone() -> None:
    body = Body([b" " * (LIMIT + 1)])
    assert len(await (await ask(body, kind="application/json")).aread()) == LIMIT + 1


async def test_what_a_client_repeats_is_judged_anew(scope: CallScope) -> None:
    with pytest.raises(httpx.ReadError):
        await (await ask(Body([b"{"], httpx.ReadError("")), kind="application/json", stream=False)).aread()
    assert scope.sending.provider_failed is not None
    await (await ask(Body([b"ok"]), "/webhook-of-a-logger", kind="text/plain")).aread()
    assert scope.sending.provider_failed is not None
    await (await ask(Body([b"{}"]), kind="application/json", stream=False)).aread()
    assert scope.sending.provider_failed is None


async def test_what_was_too_large_is_not_asked_for_again(scope: CallScope) -> None:
    large = {"content-length": str(LIMIT + 1)}
    for _ in range(2):
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(Body([]), kind="application/json", headers=large)
    fine = Body([b"{}"])
    with pytest.raises(httpx.RemoteProtocolError):
        await ask(fine, kind="application/json")
    await (await ask(Body([b"ok"]), "/webhook-of-a-logger", kind="text/plain")).aread()
    assert scope.sending.provider_failed is not None
