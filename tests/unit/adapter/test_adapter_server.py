"""The adapter works against a real server: with streams, broken connections and slow answers; it leaves none open."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import gatehouse_adapter as ga
import httpx
import pytest
import pytest_asyncio
from gatehouse_adapter._internal import sending

from tests.support.byte_gateway import ANSWER, ASK, DONE, KEY, Handler, answers_with, piece, serving, streams
from tests.support.byte_gateway import ByteGateway as Gateway


@pytest_asyncio.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with serving() as found:
        yield found


@pytest_asyncio.fixture
async def adapter(gateway: Gateway) -> AsyncIterator[ga.LiteLLMAdapter]:
    async with ga.LiteLLMAdapter(base_url=gateway.url, api_key=KEY, timeout=5.0) as client:
        yield client


async def read(stream: ga.ChatStream, got: list[str] | None = None) -> str:
    got = [] if got is None else got
    async for chunk in stream:
        got.append(chunk.content)
    return "".join(got)


# Whole answers


async def test_a_plain_completion_arrives_with_usage_cost_and_call_id(
    gateway: Gateway, adapter: ga.LiteLLMAdapter
) -> None:
    answer = await adapter.complete_chat(ASK, "demo", temperature=0, approval_id="apr_1")
    assert (answer.content, answer.finish_reason, answer.cost_usd, answer.call_id) == ("Hello.", "stop", 0.002, "c-1")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer["usage"]["total_tokens"] == 3
    path, headers, body = gateway.requests[-1]
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["x-gatehouse-approval"] == "apr_1"
    assert body == {"temperature": 0, "model": "demo", "messages": ASK}


async def test_models_are_listed(adapter: ga.LiteLLMAdapter) -> None:
    models = await adapter.get_available_models()
    assert [(model.id, model.owned_by, model["id"]) for model in models] == [
        ("demo", "openai", "demo"),
        ("demo-mock", None, "demo-mock"),
    ]


async def test_one_connection_serves_whole_answers_and_streams(gateway: Gateway, adapter: ga.LiteLLMAdapter) -> None:
    for _ in range(3):
        await adapter.complete_chat(ASK, "demo")
        assert await read(await adapter.complete_chat(ASK, "demo", stream=True)) == "Hello."
    await adapter.get_available_models()
    assert gateway.connections == 1


async def test_leaving_the_adapter_closes_every_connection(gateway: Gateway) -> None:
    async with ga.LiteLLMAdapter(base_url=gateway.url, api_key=KEY) as client:
        await client.complete_chat(ASK, "demo")
        gateway.handlers["/v1/chat/completions"] = streams(piece("a"), 60.0)
        await client.complete_chat(ASK, "demo", stream=True)
        assert gateway.open == 1
    await gateway.all_closed()


async def test_a_given_http_client_is_used_and_stays_open(gateway: Gateway) -> None:
    async with httpx.AsyncClient(headers={"x-mine": "1"}) as mine:
        async with ga.LiteLLMAdapter(base_url=gateway.url, api_key=KEY, http_client=mine) as client:
            await client.get_available_models()
        assert not mine.is_closed
    assert gateway.requests[-1][1]["x-mine"] == "1"


async def test_a_compressed_answer_is_read_and_a_damaged_one_is_an_error(
    gateway: Gateway, adapter: ga.LiteLLMAdapter
) -> None:
    packed = gzip.compress(json.dumps(ANSWER).encode())
    gateway.handlers["/v1/chat/completions"] = answers_with(packed, content_encoding="gzip")
    assert (await adapter.complete_chat(ASK, "demo")).content == "Hello."
    gateway.handlers["/v1/chat/completions"] = answers_with(b"not gzip", content_encoding="gzip")
    with pytest.raises(ga.InvalidResponse, match="damaged"):
        await adapter.complete_chat(ASK, "demo")


async def test_an_endless_answer_is_cut_off(
    gateway: Gateway, adapter: ga.LiteLLMAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "MAX_BODY_BYTES", 100_000)
    gateway.handlers["/v1/chat/completions"] = streams(*[b"x" * 10_000] * 1000)
    with pytest.raises(ga.InvalidResponse, match="longer than 100000 bytes"):
        await adapter.complete_chat(ASK, "demo")
    await gateway.all_closed()


async def test_half_an_answer_is_a_failed_connection_and_the_call_is_not_repeated(
    gateway: Gateway, adapter: ga.LiteLLMAdapter
) -> None:
    async def half(body: Any, writer: asyncio.StreamWriter) -> None:
        await answers_with(b'{"choices"', content_length="500", x_gatehouse_call_id="c-5")(body, writer)
        writer.close()

    gateway.handlers["/v1/chat/completions"] = half
    with pytest.raises(ga.ConnectionFailed, match="may have been carried out") as caught:
        await adapter.complete_chat(ASK, "demo")
    assert (caught.value.status, caught.value.call_id) == (200, "c-5")
    assert len(gateway.requests) == 1


async def test_a_server_that_hangs_up_is_a_failed_connection_and_the_call_is_not_repeated(
    gateway: Gateway, adapter: ga.LiteLLMAdapter
) -> None:
    async def hang_up(body: Any, writer: asyncio.StreamWriter) -> None:
        writer.close()

    gateway.handlers["/v1/chat/completions"] = hang_up
    for stream in (False, True):
        with pytest.raises(ga.ConnectionFailed):
            await adapter.complete_chat(ASK, "demo", stream=stream)
    assert len(gateway.requests) == 2


# Time


@pytest.mark.parametrize("stream", [False, True])
async def test_a_silent_gateway_is_given_up_at_the_timeout(gateway: Gateway, stream: bool) -> None:
    async def silent(body: Any, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    gateway.handlers["/v1/chat/completions"] = silent
    begun = time.monotonic()
    async with ga.LiteLLMAdapter(base_url=gateway.url, api_key=KEY, timeout=0.3) as client:
        with pytest.raises(ga.TimedOut):
            await client.complete_chat(ASK, "demo", stream=stream)
        assert 0.25 < time.monotonic() - begun < 3
        await gateway.all_closed()
    assert len(gateway.requests) == 1


async def test_a_plain_answer_that_drips_does_not_stretch_the_timeout(gateway: Gateway) -> None:
    gateway.handlers["/v1/chat/completions"] = streams(*[b" ", 0.1] * 100)
    begun = time.monotonic()
    async with ga.LiteLLMAdapter(base_url=gateway.url, api_key=KEY, timeout=0.5) as client:
        with pytest.raises(ga.TimedOut):
            await client.complete_chat(ASK, "demo")
    assert time.monotonic() - begun < 3


async def test_keep_alives_alone_do_not_stretch_the_timeout_of_a_stream(gateway: Gateway) -> None:
    gateway.handlers["/v1/chat/completions"] = streams(piece("a"), *[b": ping\n\n", 0.1] * 100)
    begun = time.monotonic()
    async with ga.LiteLLMAdapter(base_url=gateway.url, api_key=KEY, timeout=0.5) as client:
        stream = await client.complete_chat(ASK, "demo", stream=True)
        with pytest.raises(ga.TimedOut, match=r"for 0\.5 s") as caught:
            await read(stream)
        assert caught.value.call_id == "c-9"
        assert time.monotonic() - begun < 3
        await gateway.all_closed()


async def test_a_long_stream_may_take_longer_than_the_timeout_and_so_may_its_reader(gateway: Gateway) -> None:
    gateway.handlers["/v1/chat/completions"] = streams(*[piece("a"), 0.4] * 5, DONE)
    async with ga.LiteLLMAdapter(base_url=gateway.url, api_key=KEY, timeout=1.5) as client:
        text = ""
        async for chunk in await client.complete_chat(ASK, "demo", stream=True):
            text += chunk.content
            if len(text) == 1:
                await asyncio.sleep(1.8)
        assert text == "aaaaa"


# Streams


async def test_a_stream_arrives_piece_by_piece_while_it_is_made(gateway: Gateway, adapter: ga.LiteLLMAdapter) -> None:
    going_on = asyncio.Event()

    async def handler(body: Any, writer: asyncio.StreamWriter) -> None:
        await streams(piece("first"), end=True)(body, _Endless(writer))  # type: ignore[arg-type]
        await going_on.wait()
        writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(DONE), DONE))
        await writer.drain()

    gateway.handlers["/v1/chat/completions"] = handler
    stream = await adapter.complete_chat(ASK, "demo", stream=True)
    assert stream.call_id == "c-9"
    async with aclosing(aiter(stream)) as chunks:  # type: ignore[type-var]
        first = await anext(chunks)
        assert (first.content, first.call_id, first.model) == ("first", "c-9", "demo")
        going_on.set()
        assert [chunk async for chunk in chunks] == []


class _Endless:
    """Writes a body without the mark of its end."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.drain = writer.drain

    def write(self, data: bytes) -> None:
        if data != b"0\r\n\r\n":
            self._writer.write(data)


async def test_a_stream_asks_for_usage_and_gives_it(gateway: Gateway, adapter: ga.LiteLLMAdapter) -> None:
    chunks = [chunk async for chunk in await adapter.complete_chat(ASK, "demo", stream=True)]
    assert "".join(chunk.content for chunk in chunks) == "Hello."
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 3
    assert gateway.requests[-1][2]["stream_options"] == {"include_usage": True}
    await read(await adapter.complete_chat(ASK, "demo", stream=True, stream_options={}))
    assert gateway.requests[-1][2]["stream_options"] == {}


@pytest.mark.parametrize("way", ["break", "error", "cancel", "aclose", "with", "never read"])
async def test_leaving_a_stream_early_closes_its_connection(
    gateway: Gateway, adapter: ga.LiteLLMAdapter, way: str
) -> None:
    gateway.handlers["/v1/chat/completions"] = streams(piece("a"), piece("b"), 60.0)
    stream = await adapter.complete_chat(ASK, "demo", stream=True)

    async def leave() -> None:
        async for _ in stream:
            if way == "break":
                break
            if way == "error":
                raise LookupError
            if way == "cancel":
                reading.cancel()
            if way == "aclose":
                await stream.aclose()

    if way == "never read":
        async with stream:
            pass
    elif way == "with":
        async with stream:
            chunks = aiter(stream)
            await anext(chunks)
    else:
        reading = asyncio.create_task(leave())
        outcome = (await asyncio.gather(reading, return_exceptions=True))[0]
        expected = {"error": LookupError, "cancel": asyncio.CancelledError, "aclose": ga.StreamInterrupted}
        assert type(outcome) is expected.get(way, type(None))
    await gateway.all_closed()  # `stream` is still held here: closing does not wait for the garbage collector
    assert stream.call_id == "c-9"


async def test_a_stream_can_be_read_once(adapter: ga.LiteLLMAdapter) -> None:
    stream = await adapter.complete_chat(ASK, "demo", stream=True)
    await read(stream)
    with pytest.raises(RuntimeError, match="read already"):
        await read(stream)


async def test_a_stream_closed_before_it_is_read_is_interrupted(adapter: ga.LiteLLMAdapter) -> None:
    stream = await adapter.complete_chat(ASK, "demo", stream=True)
    await stream.aclose()
    await stream.aclose()
    with pytest.raises(ga.StreamInterrupted):
        await read(stream)


@pytest.mark.parametrize("end", [True, False])
async def test_a_stream_without_its_end_mark_is_interrupted(
    gateway: Gateway, adapter: ga.LiteLLMAdapter, end: bool
) -> None:
    gateway.handlers["/v1/chat/completions"] = streams(piece("a"), piece("b"), piece("c")[:-1], end=end)
    stream = await adapter.complete_chat(ASK, "demo", stream=True)
    got: list[str] = []
    with pytest.raises(ga.StreamInterrupted, match="after 2 chunks") as caught:
        await read(stream, got)
    assert got == ["a", "b"]
    assert (caught.value.call_id, caught.value.code) == ("c-9", "stream_interrupted")
    assert len(gateway.requests) == 1


async def test_an_error_inside_a_stream_is_raised_after_the_pieces_before_it(
    gateway: Gateway, adapter: ga.LiteLLMAdapter
) -> None:
    refusal = {"error": {"message": "No.", "code": "policy_denied", "gatehouse": {"policies": ["r1"]}}}
    event = f"data: {json.dumps(refusal)}\r\n\r\n".encode()
    gateway.handlers["/v1/chat/completions"] = streams(b": ping\r\n\r\n", piece("a"), event, DONE)
    stream = await adapter.complete_chat(ASK, "demo", stream=True)
    got: list[str] = []
    with pytest.raises(ga.PolicyDenied) as caught:
        await read(stream, got)
    assert got == ["a"]
    assert (caught.value.status, caught.value.call_id, caught.value.policies) == (403, "c-9", ["r1"])


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (b"data: Traceback (most recent call last)\n\n", "not JSON"),
        (b"data: [1]\n\n", "list, not dict"),
        (b"data: \xff\xfe\n\n", "utf-8"),
        (b'data: {"choices": [{"delta": {"content": 5}}]}\n\n', "content is int"),
        (b"data: " + b"[" * 100_000 + b"\n\n", "not JSON"),
    ],
)
async def test_an_unreadable_event_is_an_invalid_response(
    gateway: Gateway, adapter: ga.LiteLLMAdapter, event: bytes, why: str
) -> None:
    gateway.handlers["/v1/chat/completions"] = streams(event, 60.0)
    with pytest.raises(ga.InvalidResponse, match=why) as caught:
        await read(await adapter.complete_chat(ASK, "demo", stream=True))
    assert (caught.value.status, caught.value.call_id) == (200, "c-9")
    await gateway.all_closed()


async def test_a_large_event_arrives_and_an_endless_one_is_cut_off(
    gateway: Gateway, adapter: ga.LiteLLMAdapter
) -> None:
    gateway.handlers["/v1/chat/completions"] = streams(piece("x" * 3_000_000), DONE)
    assert len(await read(await adapter.complete_chat(ASK, "demo", stream=True))) == 3_000_000
    gateway.handlers["/v1/chat/completions"] = streams(b"data: ", *[b"x" * 1_000_000] * 20)
    with pytest.raises(ga.InvalidResponse, match="longer than"):
        await read(await adapter.complete_chat(ASK, "demo", stream=True))
    await gateway.all_closed()


async def test_a_json_answer_to_a_stream_request_is_an_error(gateway: Gateway, adapter: ga.LiteLLMAdapter) -> None:
    gateway.handlers["/v1/chat/completions"] = answers_with(ANSWER)
    with pytest.raises(ga.InvalidResponse, match="a stream was requested"):
        await adapter.complete_chat(ASK, "demo", stream=True)


async def test_thirty_streams_at_once_do_not_mix(gateway: Gateway, adapter: ga.LiteLLMAdapter) -> None:
    async def handler(body: Any, writer: asyncio.StreamWriter) -> None:
        word = body["messages"][0]["content"]
        await streams(*[part for letter in word for part in (piece(letter), 0.01)], DONE)(body, writer)

    gateway.handlers["/v1/chat/completions"] = handler
    words = [f"word number {number}" for number in range(30)]

    async def ask(word: str) -> str:
        return await read(await adapter.complete_chat([{"role": "user", "content": word}], "demo", stream=True))

    assert await asyncio.gather(*map(ask, words)) == words


# Health


async def test_health_asks_only_the_free_probes(gateway: Gateway, adapter: ga.LiteLLMAdapter) -> None:
    health = await adapter.validate_proxy_health()
    assert health
    assert health.healthy is health["healthy"] is True
    assert (health.status, health.reason) == ("ok", None)
    assert health.parts == {"ledger": "up"}
    assert [path for path, _, _ in gateway.requests] == ["/health/readiness", "/governance/v1/health"]


async def test_health_of_a_gateway_that_is_not_there_is_an_answer_and_no_error() -> None:
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with ga.LiteLLMAdapter(base_url=url, api_key=KEY, max_retries=5) as client:
            begun = time.monotonic()
            health = await client.validate_proxy_health()
            assert time.monotonic() - begun < 2
    assert (health.healthy, health.status) == (False, "unreachable")
    assert url in str(health.reason)


@pytest.mark.parametrize("handler", [answers_with(b"<html>hi</html>"), answers_with({}, 500), answers_with(b"[]", 401)])
async def test_health_of_something_else_is_an_answer_and_no_error(
    gateway: Gateway, adapter: ga.LiteLLMAdapter, handler: Handler
) -> None:
    gateway.handlers["/governance/v1/health"] = handler
    health = await adapter.validate_proxy_health()
    assert not health
    assert health.reason


async def test_health_does_not_wait_longer_than_the_timeout(gateway: Gateway) -> None:
    gateway.handlers["/governance/v1/health"] = streams(60.0)
    async with ga.LiteLLMAdapter(base_url=gateway.url, api_key=KEY, timeout=0.3) as client:
        health = await client.validate_proxy_health()
    assert (health.healthy, health.status) == (False, "unreachable")


# What is left behind, and the documentation


LEAVES = """
import asyncio, gc, sys
import gatehouse_adapter as ga

async def main(url, key):
    async with ga.LiteLLMAdapter(base_url=url, api_key=key, timeout=5.0) as client:
        for model in ("torn", "open"):
            stream = await client.complete_chat([{"role": "user", "content": "x"}], model, stream=True)
            try:
                async for _ in stream:
                    if model == "open":
                        break
            except ga.StreamInterrupted:
                print(model)
            del stream
        gc.collect()
        await asyncio.sleep(0)
    gc.collect()

asyncio.run(main(*sys.argv[1:]))
gc.collect()
"""


async def test_a_torn_and_an_abandoned_stream_leave_no_warning_behind(gateway: Gateway) -> None:
    answers = {"torn": streams(piece("a"), end=False), "open": streams(piece("a"), piece("b"), 60.0)}
    gateway.handlers["/v1/chat/completions"] = lambda body, writer: answers[body["model"]](body, writer)
    # In a process of its own: what other tests left behind is not this one's.
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "always", "-c", LEAVES, gateway.url, KEY, stdout=-1, stderr=-1
    )
    out, err = await program.communicate()
    assert (program.returncode, out.decode().split(), err.decode()) == (0, ["torn"], "")
    await gateway.all_closed()


README = Path(__file__).parents[3] / "adapter" / "README.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
async def test_every_snippet_of_the_readme_runs(gateway: Gateway, snippet: str) -> None:
    environ = {**os.environ, "LITELLM_BASE_URL": gateway.url, "LITELLM_MASTER_KEY": KEY, "NO_PROXY": "127.0.0.1"}
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", snippet, env=environ, stdout=-1, stderr=-1
    )
    out, err = await program.communicate()
    assert program.returncode == 0, err.decode()
    assert out.strip()
    assert err == b""


def test_the_readme_has_snippets() -> None:
    assert len(SNIPPETS) >= 3
