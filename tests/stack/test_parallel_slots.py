"""A key that may make two calls at a time gets both of them back, however its calls end, and never a third."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
import yaml
from gatehouse.proxy.identity import key_hash

from tests.support.gateway import Gateway, config_with_upstream
from tests.support.postgres import Postgres
from tests.support.process import wait_until
from tests.support.redis_server import PASSWORD, Redis
from tests.support.upstream import Upstream

CHAT: dict[str, Any] = {"model": "up-chat", "messages": [{"role": "user", "content": "hello"}]}
_POLICY = """
version: 1
limits: {allow_unpriced_models: ["up-*"]}
screens: {blocked_content: {weapons: [forbidden fruit]}}
rules:
  - {id: no-shouting, when: request.max_tokens > 1000, then: deny, reason: Too loud.}
"""
STREAMS = [
    ("/v1/chat/completions", CHAT),
    ("/v1/completions", {"model": "up-text", "prompt": "hello"}),
    ("/v1/messages", CHAT | {"max_tokens": 10}),
    ("/v1/messages", CHAT | {"max_tokens": 10, "model": "up-claude"}),
    ("/v1/responses", {"model": "up-chat", "input": "hello"}),
]


@pytest.fixture(scope="module", params=["redis", "memory"])
def limiting(
    request: pytest.FixtureRequest,
    postgres: Postgres,
    redis_server: Redis,
    recording_upstream: Upstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    """Start a gateway that counts calls in Redis, and one that counts them itself."""
    folder = tmp_path_factory.mktemp("slots")
    config = config_with_upstream(recording_upstream.url, folder)
    policy = folder / "policy.yaml"
    policy.write_text(_POLICY)
    environ = {"GATEHOUSE_SETTLE_GRACE_SECONDS": "1"}
    if request.param == "memory":
        settings = yaml.safe_load(config.read_text())
        del settings["general_settings"]["coordination_redis"]
        config.write_text(yaml.safe_dump(settings))
        environ["REDIS_HOST"] = ""
    server = Gateway(
        postgres.create_database(), redis_server.port, config=config, policy=policy, environ=environ
    ).start()
    yield server
    server.close()


def stream(gateway: Gateway, key: str, route: str, body: dict[str, Any]) -> tuple[int, str]:
    with gateway.client(key) as client:
        answer = client.post(route, json=body | {"stream": True})
        return answer.status_code, answer.text


def leave(gateway: Gateway, key: str, route: str, body: dict[str, Any], *, after_bytes: int, after_s: float) -> None:
    """Ask for a stream, and leave once so many bytes came and so much time has passed."""
    payload = json.dumps(body | {"stream": True}).encode()
    head = (
        f"POST {route} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {key}\r\ncontent-length: {len(payload)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as connection:
        connection.sendall(head.encode() + payload)
        came = 0
        while came < after_bytes and (piece := connection.recv(4096)):
            came += len(piece)
        time.sleep(after_s)


def assert_two_and_no_third(gateway: Gateway, upstream: Upstream, redis_server: Redis, key: str) -> None:
    """Check that all slots of the key are free, and that there are no more than it was given."""
    gateway.wait_settled()
    counter = redis.Redis(port=redis_server.port, password=PASSWORD)
    name = f"{{api_key:{key_hash(key)}}}:max_parallel_requests"
    wait_until(lambda: counter.zcard(name) == 0, "no slot is taken")
    upstream.reset()
    answered: list[int] = []
    decided = threading.Event()  # two of the four: those that may not be made
    upstream.holds = decided
    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            call = pool.submit(stream, gateway, key, "/v1/chat/completions", CHAT)
            call.add_done_callback(lambda done: answered.append(done.result()[0]))
        try:
            wait_until(lambda: len(answered) >= 2, "two calls are refused")
        finally:
            decided.set()
    assert answered == [429, 429, 200, 200]
    upstream.reset()


def test_streams_one_after_another_are_never_refused(
    limiting: Gateway, upstream: Upstream, redis_server: Redis
) -> None:
    key = limiting.new_key(max_parallel_requests=2)
    for route, body in STREAMS * 10:
        status, text = stream(limiting, key, route, body)
        assert status == 200, text
    assert_two_and_no_third(limiting, upstream, redis_server, key)


def test_a_stream_gives_its_slot_back_before_its_last_line(limiting: Gateway, upstream: Upstream) -> None:
    """A client that read the last line may leave and ask again at once."""
    key = limiting.new_key(max_parallel_requests=1)
    for route, body in STREAMS * 5:
        with limiting.client(key) as client, client.stream("POST", route, json=body | {"stream": True}) as answer:
            assert answer.status_code == 200, answer.read()
            for line in answer.iter_lines():
                if line in ("data: [DONE]", "event: message_stop"):
                    break


def test_a_text_that_looks_like_the_last_line_gives_no_slot_back(limiting: Gateway, upstream: Upstream) -> None:
    key = limiting.new_key(max_parallel_requests=1)
    upstream.says = lambda _: "x\ndata: [DONE]\n\nevent: message_stop\n" * 20
    upstream.chunk_delay_s = 0.05
    with (
        limiting.client(key) as client,
        client.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as a,
    ):
        lines = a.iter_lines()
        for _ in range(40):
            next(lines)
        assert stream(limiting, key, "/v1/chat/completions", CHAT)[0] == 429


def test_clients_that_leave_give_their_slots_back(limiting: Gateway, upstream: Upstream, redis_server: Redis) -> None:
    keys = [limiting.new_key(max_parallel_requests=2) for _ in STREAMS]
    for delay, chunk_delay, after_bytes, after_s in (
        (0.6, 0.0, 0, 0.2),  # before the first byte
        (0.0, 0.2, 0, 0.0),  # before it is decided on
        (0.0, 0.2, 1, 0.0),  # at the first byte
        (0.0, 0.2, 200, 0.3),  # in the middle
    ):
        upstream.delay_s, upstream.chunk_delay_s = delay, chunk_delay
        with ThreadPoolExecutor(len(STREAMS)) as pool:
            left = [
                pool.submit(leave, limiting, key, *asked, after_bytes=after_bytes, after_s=after_s)
                for key, asked in zip(keys, STREAMS, strict=True)
            ]
        for each in left:
            each.result()
        limiting.wait_settled()
    for key in keys:
        assert_two_and_no_third(limiting, upstream, redis_server, key)


def test_calls_that_fail_give_their_slots_back(limiting: Gateway, upstream: Upstream, redis_server: Redis) -> None:
    key = limiting.new_key(max_parallel_requests=2)

    def several(reason: str, **fields: Any) -> None:
        with limiting.client(key) as client:
            for streams in (True, False) * 2:
                answer = client.post("/v1/chat/completions", json=CHAT | {"stream": streams} | fields)
                assert reason in answer.text

    several("policy_denied", max_tokens=2000)
    several("model_not_found", model="no-such-model")
    upstream.status = 500
    several("upstream says no")
    upstream.reset()
    upstream.breaks = "cut"
    several("upstream_cut_off")
    upstream.reset()
    upstream.says = lambda _: "eat the forbidden fruit and tell of it at some length"
    several("content_blocked")
    assert_two_and_no_third(limiting, upstream, redis_server, key)


def test_a_team_gets_its_slots_back(limiting: Gateway, upstream: Upstream) -> None:
    with limiting.client() as client:
        team = client.post("/team/new", json={"max_parallel_requests": 1})
        assert team.status_code == 200, team.text
    key = limiting.new_key(team_id=team.json()["team_id"])
    for route, body in STREAMS * 2:
        status, text = stream(limiting, key, route, body)
        assert status == 200, text
