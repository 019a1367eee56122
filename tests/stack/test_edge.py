"""The edge takes in bodies within bounds, before LiteLLM authenticates, and nothing that LiteLLM would obey."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest
from gatehouse.dialects import names_of
from gatehouse.dialects.caller_fields import MAX_MESSAGES
from gatehouse.proxy.control_fields import control_fields

from tests.support.gateway import MASTER_KEY, Gateway
from tests.support.process import wait_until
from tests.support.upstream import Upstream

CANARY = "xylophonecanary"
CHAT: dict[str, Any] = {"model": "up-chat", "messages": [{"role": "user", "content": "hello"}]}
ROUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "/v1/chat/completions": ("acompletion", CHAT),
    "/v1/completions": ("atext_completion", {"model": "up-text", "prompt": "hello"}),
    "/v1/embeddings": ("aembedding", {"model": "up-embedding", "input": "hello"}),
    "/v1/responses": ("aresponses", {"model": "up-chat", "input": "hello"}),
    "/v1/messages": ("anthropic_messages", CHAT | {"max_tokens": 10, "model": "up-claude"}),
    "/v1/moderations": ("amoderation", {"model": "up-moderation", "input": "hello"}),
    "/v1/images/generations": ("aimage_generation", {"model": "up-image", "prompt": "hello"}),
    "/v1/audio/speech": ("aspeech", {"model": "up-speech", "input": "hello", "voice": "alloy"}),
}
# Each was a way round governance, or reached the provider.
OBEYED = """
    router_settings_override fallbacks headers provider_specific_header organization session_id trace_id litellm_params
    user_api_key_hash success_callback api_key api_base base_url custom_llm_provider cache_key preset_cache_key
    additional_drop_params litellm_system_prompt mock_response litellm_metadata guardrails api_version extra_headers
    drop_params max_retries user_config prompt_id model_list
""".split()


@pytest.mark.parametrize("route", ROUTES)
def test_no_provider_sees_what_litellm_would_have_obeyed(
    upstream_gateway: Gateway, upstream: Upstream, route: str
) -> None:
    call_type, body = ROUTES[route]
    fields = control_fields()
    # Every name is refused by the unit tests; here are the worst of them and a sample, on the real thing.
    sample = sorted(fields.obeyed | fields.top)[::40]
    with upstream_gateway.client() as client:
        for name in {*OBEYED, *sample} - names_of(call_type):
            values = (CANARY, {"a": CANARY}, [{"model": "up-chat", "messages": [{"content": CANARY}]}])
            for value in values if name in OBEYED else values[:1]:
                for asked in (body | {name: value}, body | {"extra_body": {name: value}}):
                    answer = client.post(route, json=asked)
                    assert answer.status_code == 400, (name, answer.text)
                    assert answer.json()["error"]["code"] == "invalid_request"
                    assert answer.json()["error"]["param"] == name
                    assert CANARY not in answer.text
        for metadata in ({"session_id": CANARY}, {"a": {"user_api_key_alias": CANARY}}, {"guardrails": [CANARY]}):
            assert client.post(route, json=body | {"metadata": metadata}).status_code == 400
        for header in ("x-litellm-tags", "x-litellm-session-id", "x-litellm-disable-callbacks"):
            assert client.post(route, json=body, headers={header: CANARY}).status_code == 400
        assert upstream.requests == []
        headers = {"x-my-session-id": CANARY, "baggage": f"session.id={CANARY}", "openai-organization": CANARY}
        answer = client.post(route, json=body, headers=headers, params={"api-version": CANARY})
        assert answer.status_code == 200, answer.text
    assert len(upstream.requests) == 1
    assert CANARY not in upstream.received


def test_a_refused_request_is_written_down_with_who_asked_and_nothing_of_it(upstream_gateway: Gateway) -> None:
    key = upstream_gateway.new_key(key_alias="the-agent")
    with upstream_gateway.client(key) as client:
        answer = client.post("/v1/chat/completions", json=CHAT | {"cache_key": CANARY})
    assert answer.status_code == 400
    call_id = answer.headers["x-gatehouse-call-id"]
    wait_until(lambda: upstream_gateway.lines_of(call_id) != [], "the refusal's line")
    (line,) = upstream_gateway.lines_of(call_id)
    assert line["data"]["caller"]["key_alias"] == "the-agent"
    assert line["data"]["error"] == "invalid_request"
    assert CANARY not in json.dumps(line)


def test_nobody_is_told_what_is_wrong_before_they_are_known(upstream_gateway: Gateway) -> None:
    for key in (None, "sk-not-a-key"):
        with upstream_gateway.client(key) as client:
            for body in (CHAT, CHAT | {"cache_key": "x"}):
                answer = client.post("/v1/chat/completions", json=body)
                assert answer.status_code == 401, answer.text


def peak_growth(gateway: Gateway, work: Any) -> int:
    """Return the most bytes by which the gateway's memory grew during `work`."""
    assert gateway.server.process is not None
    process = psutil.Process(gateway.server.process.pid)
    before = peak = process.memory_info().rss
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return peak - before


def megabytes(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b" " * 1_000_000


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/key/generate", "/v1/audio/transcriptions"])
@pytest.mark.parametrize("declared", [True, False])
def test_300_mb_without_a_key_take_no_memory(upstream_gateway: Gateway, route: str, declared: bool) -> None:
    statuses: list[int] = []

    def send() -> None:
        headers = {"content-type": "application/json"}
        if declared:
            headers["content-length"] = "300000000"
        with upstream_gateway.client(None) as client:
            statuses.append(client.post(route, content=megabytes(300), headers=headers).status_code)

    assert peak_growth(upstream_gateway, send) < 64 * 1024 * 1024
    assert statuses == [413]


def test_too_many_messages_are_refused_and_a_long_conversation_is_not(
    upstream_gateway: Gateway, upstream: Upstream
) -> None:
    message = {"role": "user", "content": "x"}
    with upstream_gateway.client() as client:
        many = client.post("/v1/chat/completions", json=CHAT | {"messages": [message] * (MAX_MESSAGES + 1)})
        assert (many.status_code, many.json()["error"]["code"]) == (413, "too_large")
        assert upstream.requests == []
        assert client.post("/v1/chat/completions", json=CHAT | {"messages": [message] * 1_000}).status_code == 200


def dribble(gateway: Gateway, first: bytes) -> tuple[bool, bytes]:
    """Send a beginning and then a byte each half second; whether the gateway had enough of it, and its answer.

    It has after ten seconds. The body of 99 bytes would take 50.
    """
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=1) as connection:
        connection.sendall(first)
        answer = b""
        connection.settimeout(0.5)
        for _ in range(98):
            try:
                piece = connection.recv(4096)
                answer += piece
                if not piece:
                    return True, answer
            except TimeoutError:
                try:
                    connection.sendall(b"x" if first else b"")
                except OSError:
                    return True, answer
            except OSError:
                return True, answer
    return False, answer


BEGINNINGS = {
    "body": "POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n"
    f"Authorization: Bearer {MASTER_KEY}\r\n\r\n",
    "body of a management route": "POST /key/generate HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n",
    "headers": "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-A: ",
    "nothing": "",
}


@pytest.fixture(scope="module")
def dribbled(upstream_gateway: Gateway) -> dict[str, tuple[bool, bytes]]:
    """What became of each slow beginning; all were sent at one time."""
    with ThreadPoolExecutor(len(BEGINNINGS)) as pool:
        ends = pool.map(lambda first: dribble(upstream_gateway, first.encode()), BEGINNINGS.values())
        return dict(zip(BEGINNINGS, ends, strict=True))


@pytest.mark.parametrize("what", BEGINNINGS)
def test_who_sends_a_byte_now_and_then_is_cut_off(
    upstream_gateway: Gateway, dribbled: dict[str, tuple[bool, bytes]], what: str
) -> None:
    cut_off, answer = dribbled[what]
    assert cut_off
    assert not answer or answer.startswith(b"HTTP/1.1 408")
    assert httpx.get(f"{upstream_gateway.url}/health/liveliness").status_code == 200
