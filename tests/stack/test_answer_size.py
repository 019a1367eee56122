"""An answer that is too large is an error, and the gateway does not hold it in memory to find that out."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.gateway import Gateway
from tests.support.postgres import Postgres
from tests.support.prefork import constants
from tests.support.process import wait_until
from tests.support.redis_server import Redis
from tests.support.upstream import Upstream

BOUND = 64 * 1024 * 1024
SENT = 300_000_000
CHAT: dict[str, Any] = {"model": "up-chat", "messages": [{"role": "user", "content": "hello"}]}
CLAUDE = CHAT | {"model": "up-claude", "max_tokens": 10}


@pytest.fixture(scope="module", params=["aiohttp", "httpx"])
def bounded(
    request: pytest.FixtureRequest,
    postgres: Postgres,
    redis_server: Redis,
    upstream_config: Path,
) -> Iterator[Gateway]:
    """A gateway with each of the transports that LiteLLM's clients may have."""
    environ = constants({"litellm:disable_aiohttp_transport": request.param == "httpx"})
    server = Gateway(postgres.create_database(), redis_server.port, config=upstream_config, environ=environ).start()
    with server.client() as client:  # what the first calls load is not theirs
        for route, body in (("/v1/chat/completions", CHAT), ("/v1/messages", CLAUDE)):
            for stream in (True, False):
                client.post(route, json=body | {"stream": stream})
    yield server
    server.close()


class Watched:
    """Measures the most memory that a process gains."""

    def __init__(self, gateway: Gateway) -> None:
        assert gateway.server.process is not None
        self._process = psutil.Process(gateway.server.process.pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.005):
            self.most = max(self.most, self._process.memory_info().rss)

    def __enter__(self) -> Watched:
        self.before = self.most = self._process.memory_info().rss
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def grown(self) -> int:
        return self.most - self.before


@pytest.mark.parametrize("says_size", [False, True], ids=["chunks", "content-length"])
@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/chat/completions", CLAUDE),
        ("/v1/messages", CLAUDE),
        ("/v1/responses", {"model": "up-chat", "input": "hello"}),
        ("/v1/embeddings", {"model": "up-embedding", "input": "hello"}),
        ("/v1/images/generations", {"model": "up-image", "prompt": "hello"}),
    ],
    ids=["openai", "claude", "messages", "responses", "embeddings", "images"],
)
def test_an_answer_that_is_too_large_is_an_error(
    bounded: Gateway, upstream: Upstream, route: str, body: dict[str, Any], says_size: bool
) -> None:
    upstream.sends, upstream.says_size = SENT, says_size
    with bounded.client() as client, Watched(bounded) as memory:
        answer = client.post(route, json=body)
    assert answer.status_code == 502, answer.text
    assert answer.json()["error"]["code"] == "answer_too_large"
    assert answer.headers["x-should-retry"] == "false"
    assert memory.grown < 3 * BOUND
    call_id = answer.headers["x-gatehouse-call-id"]
    wait_until(lambda: bounded.lines_of(call_id) != [], "the call's line")
    data = bounded.lines_of(call_id)[0]["data"]
    assert (data["status"], data["error"], data["http_status"]) == ("failure", "answer_too_large", 502)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/messages", CLAUDE),
        ("/v1/responses", {"model": "up-chat", "input": "hello"}),
    ],
    ids=["chat", "messages", "responses"],
)
def test_a_stream_of_one_event_without_end_is_cut_off(
    bounded: Gateway, upstream: Upstream, route: str, body: dict[str, Any]
) -> None:
    upstream.sends = SENT
    with bounded.client() as client, Watched(bounded) as memory:
        answer = client.post(route, json=body | {"stream": True})
    assert "answer_too_large" in answer.text
    assert memory.grown < 4 * BOUND
    call_id = answer.headers["x-gatehouse-call-id"]
    wait_until(lambda: bounded.lines_of(call_id) != [], "the call's line")
    data = bounded.lines_of(call_id)[0]["data"]
    assert (data["status"], data["error"]) == ("failure", "answer_too_large")


def test_a_large_answer_within_the_bound_passes(bounded: Gateway, upstream: Upstream) -> None:
    upstream.says = lambda _: "a" * 5_000_000
    with bounded.client() as client:
        answer = client.post("/v1/chat/completions", json=CHAT)
    assert json.loads(answer.content)["choices"][0]["message"]["content"] == "a" * 5_000_000
