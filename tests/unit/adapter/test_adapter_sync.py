"""LiteLLMAdapterSync keeps the adapter's promises without asyncio: from any thread, in a running loop, after a fork."""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gatehouse_adapter as ga
import pytest

from tests.support.byte_gateway import ASK, DONE, KEY, ByteGateway, piece, serving, streams

CHAT = "/v1/chat/completions"


@pytest.fixture
def gateway() -> Iterator[ByteGateway]:
    """Run a gateway on a loop of its own, as in production."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    context = serving()
    found = asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result(30)
    yield found
    asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)


@pytest.fixture
def adapter(gateway: ByteGateway) -> Iterator[ga.LiteLLMAdapterSync]:
    with ga.LiteLLMAdapterSync(base_url=gateway.url, api_key=KEY, timeout=30.0) as client:
        yield client


def closed(gateway: ByteGateway) -> None:
    until = time.monotonic() + 30
    while gateway.open and time.monotonic() < until:
        time.sleep(0.02)
    assert gateway.open == 0


def test_it_has_the_same_names_with_the_same_arguments() -> None:
    def public(cls: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(cls, inspect.isfunction)
        return {name: list(inspect.signature(each).parameters) for name, each in methods if not name.startswith("_")}

    wanted = public(ga.LiteLLMAdapter)
    wanted["close"] = wanted.pop("aclose")
    assert public(ga.LiteLLMAdapterSync) == wanted
    of_loop = {"transport", "http_client"}
    wanted_args = set(inspect.signature(ga.LiteLLMAdapter).parameters) - of_loop
    assert set(inspect.signature(ga.LiteLLMAdapterSync).parameters) == wanted_args


def test_plain_calls_and_streams(gateway: ByteGateway, adapter: ga.LiteLLMAdapterSync) -> None:
    assert adapter.validate_proxy_health()
    assert [model.id for model in adapter.get_available_models()] == ["demo", "demo-mock"]
    assert adapter.complete_chat(ASK, "demo").content == "Hello."
    stream = adapter.complete_chat(ASK, "demo", stream=True)
    assert "".join(chunk.content for chunk in stream) == "Hello."
    assert stream.call_id == "c-9"
    with pytest.raises(RuntimeError, match="read already"):
        next(iter(stream))
    assert gateway.connections == 1


def fail_at_the_first(stream: ga.ChatStreamSync) -> None:
    for _ in stream:
        raise LookupError


@pytest.mark.parametrize("way", ["break", "error", "close", "with", "never read"])
def test_leaving_a_stream_early_closes_its_connection(
    gateway: ByteGateway, adapter: ga.LiteLLMAdapterSync, way: str
) -> None:
    gateway.handlers[CHAT] = streams(piece("a"), piece("b"), 60.0)
    stream = adapter.complete_chat(ASK, "demo", stream=True)
    if way == "break":
        for _ in stream:
            break
    elif way == "error":
        with pytest.raises(LookupError):
            fail_at_the_first(stream)
    elif way == "close":
        stream.close()
        stream.close()
    else:
        with stream:
            if way == "with":
                next(iter(stream))
    closed(gateway)


def test_errors_are_the_same(gateway: ByteGateway, adapter: ga.LiteLLMAdapterSync) -> None:
    gateway.handlers[CHAT] = streams(piece("a"))
    with pytest.raises(ga.StreamInterrupted):
        list(adapter.complete_chat(ASK, "demo", stream=True))
    with pytest.raises(ga.BadRequest):
        adapter.get_approval("none")


async def test_it_works_where_a_loop_runs_already(gateway: ByteGateway, adapter: ga.LiteLLMAdapterSync) -> None:
    assert adapter.complete_chat(ASK, "demo").content == "Hello."
    assert [chunk.content for chunk in adapter.complete_chat(ASK, "demo", stream=True)][:2] == ["Hel", "lo."]


def test_many_threads_share_one_adapter_and_one_loop(gateway: ByteGateway, adapter: ga.LiteLLMAdapterSync) -> None:
    async def echo(body: Any, writer: asyncio.StreamWriter) -> None:
        word = body["messages"][0]["content"]
        await streams(*[piece(letter) for letter in word], DONE)(body, writer)

    def loops() -> int:
        return [thread.name for thread in threading.enumerate()].count("gatehouse-background")

    gateway.handlers[CHAT] = echo
    words = [f"word number {number}" for number in range(40)]
    adapter.get_available_models()
    before = loops()  # what else runs in a background here has one too

    def ask(word: str) -> str:
        stream = adapter.complete_chat([{"role": "user", "content": word}], "demo", stream=True)
        return "".join(chunk.content for chunk in stream)

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(ask, words)) == words
    with ga.LiteLLMAdapterSync(base_url=gateway.url, api_key=KEY) as other:
        other.get_available_models()
        assert loops() == before


def _in_child(url: str, said: Any) -> None:
    with ga.LiteLLMAdapterSync(base_url=url, api_key=KEY, timeout=30.0) as client:
        said.put(client.complete_chat(ASK, "demo").content)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_loop_of_its_own(gateway: ByteGateway, adapter: ga.LiteLLMAdapterSync) -> None:
    adapter.get_available_models()
    context = multiprocessing.get_context("fork")
    said = context.Queue()
    child = context.Process(target=_in_child, args=(gateway.url, said))
    child.start()
    assert said.get(timeout=60) == "Hello."
    child.join(30)


def test_ctrl_c_ends_the_wait_and_closes_the_connection(gateway: ByteGateway) -> None:
    gateway.handlers[CHAT] = streams(60.0)
    code = (
        "import gatehouse_adapter as ga, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"client = ga.LiteLLMAdapterSync(base_url={gateway.url!r}, api_key='sk-x')\n"
        "try:\n    client.complete_chat([], 'demo')\nexcept KeyboardInterrupt:\n    print('interrupted', flush=True)\n"
        "import time\ntime.sleep(60)\n"
    )
    environ = {**os.environ, "NO_PROXY": "127.0.0.1"}
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environ, text=True)
    try:
        until = time.monotonic() + 60
        while not gateway.requests and time.monotonic() < until:
            time.sleep(0.05)
        program.send_signal(signal.SIGINT)
        assert program.stdout is not None
        assert program.stdout.readline() == "interrupted\n"
        closed(gateway)
    finally:
        program.kill()
        program.wait(30)
