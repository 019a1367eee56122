"""A newcomer's first day works with the gateway as shipped: clients, keys, budgets, UI."""

from __future__ import annotations

import subprocess
import time

import openai
import pytest
from gatehouse_adapter import LiteLLMAdapter

from tests.support.gateway import MASTER_KEY, METRICS_TOKEN, Gateway
from tests.support.process import wait_until


@pytest.fixture(scope="module")
def key(gateway: Gateway) -> str:
    return gateway.new_key(key_alias="first-day", max_budget=1)


@pytest.fixture
def client(gateway: Gateway, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0)


def test_the_openai_client_gets_an_answer_a_stream_and_embeddings(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "hello from openai"}]
    answer = client.chat.completions.create(model="demo", messages=messages)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == "echo: hello from openai"
    assert answer.usage
    assert answer.usage.total_tokens > 0

    stream = client.chat.completions.create(model="demo-mock", messages=messages, stream=True)  # type: ignore[arg-type]
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "".join(pieces) == "hello from openai"
    assert len(pieces) > 2

    vectors = client.embeddings.create(model="demo-embedding", input=["one", "two"]).data
    assert len(vectors) == 2
    assert vectors[0].embedding != vectors[1].embedding


def test_curl_gets_an_answer(gateway: Gateway, key: str) -> None:
    body = '{"model": "demo", "messages": [{"role": "user", "content": "hello from curl"}]}'
    done = subprocess.run(
        ["curl", "-fsS", f"{gateway.url}/v1/chat/completions", "-H", f"authorization: Bearer {key}",
         "-H", "content-type: application/json", "-d", body],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "echo: hello from curl" in done.stdout


async def test_the_adapter_gets_an_answer_and_a_stream(gateway: Gateway, key: str) -> None:
    messages = [{"role": "user", "content": "hello from the adapter"}]
    async with LiteLLMAdapter(base_url=gateway.url, api_key=key) as adapter:
        health = await adapter.validate_proxy_health()
        assert health["healthy"] is True
        assert "demo" in [model["id"] for model in await adapter.get_available_models()]
        answer = await adapter.complete_chat(messages, model="demo")
        assert answer["content"] == "echo: hello from the adapter"
        assert gateway.lines_of(answer.call_id) or answer.call_id in gateway.calls()
        stream = await adapter.complete_chat(messages, model="demo-mock", stream=True)
        text = "".join([chunk.content or "" async for chunk in stream])
        assert text == "hello from the adapter"


def test_spend_of_a_virtual_key_goes_up_and_its_budget_ends_it(gateway: Gateway) -> None:
    key = gateway.new_key(max_budget=0.003)
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0)

    def spend() -> float:
        with gateway.client() as admin:
            return float(admin.get("/key/info", params={"key": key}).json()["info"]["spend"])

    def ask(number: int) -> None:
        content = f"{number} " + "word " * 400
        client.chat.completions.create(model="demo", messages=[{"role": "user", "content": content}])

    def ask_until_refused() -> None:
        for number in range(1, 20):
            ask(number)

    ask(0)
    wait_until(lambda: spend() > 0, "the key's spend goes up")
    with pytest.raises(openai.APIStatusError) as refused:
        ask_until_refused()
    assert refused.value.body["type"] == "budget_exceeded"  # type: ignore[index]


def test_a_repeated_call_asks_the_model_again(gateway: Gateway, key: str) -> None:
    body = {"model": "demo-mock", "messages": [{"role": "user", "content": f"the same {time.time()}"}]}
    with gateway.client(key) as client:
        first = client.post("/v1/chat/completions", json=body)
        again = client.post("/v1/chat/completions", json=body)
    assert first.json()["id"] != again.json()["id"]
    gateway.wait_settled()
    for answer in (first, again):
        (line,) = gateway.lines_of(answer.headers["x-gatehouse-call-id"])
        assert line["data"]["cache_hit"] is False
        assert line["data"]["cost_usd"] > 0


def test_litellms_ui_logs_in(gateway: Gateway) -> None:
    with gateway.client(follow_redirects=False) as client:
        assert client.get("/ui/").status_code == 200
        answer = client.post("/v2/login", json={"username": "admin", "password": "test-ui-password"})
        assert answer.status_code == 200, answer.text
        assert client.post("/v2/login", json={"username": "admin", "password": "wrong"}).status_code == 401


def test_metrics_show_our_counters_to_whoever_has_the_token_only(gateway: Gateway, client: openai.OpenAI) -> None:
    client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "count me"}])
    gateway.wait_settled()
    with gateway.client(METRICS_TOKEN) as prometheus:
        page = prometheus.get("/metrics").text
    assert 'gatehouse_calls_total{call_type="acompletion",outcome="success"}' in page
    assert "litellm_" in page
    for token in (MASTER_KEY, None, "wrong"):
        with gateway.client(token) as stranger:
            assert stranger.get("/metrics").status_code == 401


def test_health_names_every_part_and_calls_no_model(gateway: Gateway) -> None:
    before = len(gateway.calls())
    with gateway.client(None) as stranger:
        answer = stranger.get("/governance/v1/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    parts = ("plugin", "ledger", "policy", "scanner", "query_engine", "cache")
    assert answer.json()["parts"] == dict.fromkeys(parts, "up")
    assert len(gateway.calls()) == before
