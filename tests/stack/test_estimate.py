"""The real gateway tells any key what a request would cost by its own limits, without a call."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import Any

import httpx
import pytest
import yaml
from gatehouse.policy.model import Policy

from tests.support.gateway import MASTER_KEY, REPOSITORY, Gateway
from tests.support.postgres import Postgres
from tests.support.process import wait_until
from tests.support.redis_server import Redis

ESTIMATE = "/governance/v1/estimate"


def chat(model: str = "demo", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "How much would this be?"}], **more}


def ask(gateway: Gateway, body: Any, key: str | None = None, **headers: str) -> httpx.Response:
    with gateway.client(key or gateway.new_key()) as client:
        if isinstance(body, bytes):
            return client.post(ESTIMATE, content=body, headers={"content-type": "application/json", **headers})
        return client.post(ESTIMATE, json=body, headers=headers)


def test_any_key_is_told_tokens_price_and_cost(gateway: Gateway) -> None:
    answer = ask(gateway, chat(max_tokens=100))
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["model"] == "demo"
    assert 5 < found["input_tokens"] < 50
    assert found["max_output_tokens"] == 100
    assert found["price"] == {"input_usd_per_token": 1e-6, "output_usd_per_token": 2e-6, "source": "config"}
    assert found["estimated_cost_usd"] == pytest.approx(found["input_tokens"] * 1e-6 + 100 * 2e-6)
    assert (found["within_limits"], found["refusal"]) == (True, None)


def test_the_estimate_is_no_less_than_what_the_call_then_costs(gateway: Gateway) -> None:
    for body in (chat(), chat(max_tokens=20)):
        found = ask(gateway, body).json()
        with gateway.client() as client:
            usage = client.post("/v1/chat/completions", json=body).json()["usage"]
        assert usage["prompt_tokens"] <= found["input_tokens"]
        assert usage["completion_tokens"] <= found["max_output_tokens"]


@pytest.mark.parametrize(
    ("more", "body"),
    [
        ({}, {"model": "demo-embedding", "input": "a text", "call_type": "embedding"}),
        ({}, {"model": "demo-embedding", "input": ["a", "b"], "route": "/v1/embeddings"}),
        ({}, {**chat(max_tokens=5), "route": "/v1/messages"}),
        ({}, {"model": "demo", "input": "hi", "route": "/v1/responses"}),
        ({}, {"model": "demo", "prompt": "hi", "route": "/v1/completions"}),
    ],
)
def test_every_dialect_is_estimated(gateway: Gateway, more: dict[str, str], body: dict[str, Any]) -> None:
    answer = ask(gateway, body, **more)
    assert answer.status_code == 200, answer.text
    assert answer.json()["input_tokens"] > 0
    assert answer.json()["estimated_cost_usd"] > 0


def test_the_limits_of_the_key_and_of_the_headers_are_told(gateway: Gateway) -> None:
    key = gateway.new_key(metadata={"gatehouse": {"max_tokens_per_request": 300, "max_cost_per_request_usd": 0.5}})
    found = ask(gateway, chat(), key).json()
    assert found["within_limits"] is False
    assert "the key allows" in found["refusal"]
    assert found["limits"] == {
        "max_tokens": 300,
        "max_tokens_from": "the key",
        "max_cost_usd": 0.5,
        "max_cost_from": "the key",
    }
    assert ask(gateway, chat(max_tokens=100), key).json()["within_limits"] is True
    raised = ask(gateway, chat(), key, **{"X-Gatehouse-Max-Tokens": "99999", "X-Gatehouse-Max-Cost-Usd": "9"}).json()
    assert raised["limits"] == found["limits"]
    lowered = ask(gateway, chat(max_tokens=100), key, **{"X-Gatehouse-Max-Cost-Usd": "0.000001"}).json()
    assert lowered["within_limits"] is False
    assert lowered["limits"]["max_cost_from"] == "the header X-Gatehouse-Max-Cost-Usd"


def test_a_key_whose_limits_cannot_be_read_is_told_so(gateway: Gateway) -> None:
    key = gateway.new_key(metadata={"gatehouse": {"max_tokens_per_request": "many"}})
    answer = ask(gateway, chat(), key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "misconfigured")


def test_a_key_is_told_nothing_of_a_model_that_it_may_not_call(gateway: Gateway) -> None:
    key = gateway.new_key(models=["demo-mock"])
    assert ask(gateway, chat("demo-mock"), key).status_code == 200
    answer = ask(gateway, chat("demo"), key)
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "key_model_access_denied")


def test_a_model_that_is_added_at_run_time_is_known_with_its_price(postgres: Postgres, redis_server: Redis) -> None:
    gateway = Gateway(postgres.create_database(), redis_server.port, environ={"STORE_MODEL_IN_DB": "True"})

    def added() -> dict[str, Any]:
        answer = ask(gateway, chat("added-later"), MASTER_KEY)
        return dict(answer.json()) if answer.status_code == 200 else {}

    def new(price: float) -> dict[str, Any]:
        params = {"model": "echo/later", "input_cost_per_token": price, "output_cost_per_token": 2 * price}
        return {"model_name": "added-later", "litellm_params": params, "model_info": {"max_output_tokens": 10}}

    try:
        gateway.start()
        assert ask(gateway, chat("added-later"), MASTER_KEY).status_code == 404
        with gateway.client() as client:
            client.post("/model/new", json=new(0.00001)).raise_for_status()
            wait_until(lambda: bool(added()), "the model is served")
            found = added()
            assert found["price"] == {"input_usd_per_token": 1e-5, "output_usd_per_token": 2e-5, "source": "config"}
            assert found["max_output_tokens"] == 10
            client.post("/model/new", json=new(0.00003)).raise_for_status()
            wait_until(lambda: added()["price"]["input_usd_per_token"] == 3e-5, "the dearer deployment counts")
    finally:
        gateway.close()


@pytest.mark.parametrize(
    ("body", "status", "code", "says"),
    [
        (chat("no-such-model"), 404, "not_found", "model"),
        (chat(""), 400, "invalid_request", "model"),
        (chat("x" * 10_000), 400, "invalid_request", "model"),
        ({"model": 7, "messages": []}, 400, "invalid_request", "model"),
        ({"messages": []}, 400, "invalid_request", "model"),
        (chat(max_tokens="many"), 400, "invalid_request", "max_tokens"),
        (chat(n=True), 400, "invalid_request", "n:"),
        (chat(call_type="nonsense"), 400, "invalid_request", "call_type"),
        (chat(call_type=["chat"]), 400, "invalid_request", "call_type"),
        (chat(route="/v1/nowhere"), 400, "invalid_request", "route"),
        (chat(cache_key="x"), 400, "invalid_request", "cache_key"),
        (chat(metadata={"session_id": "x"}), 400, "invalid_request", "metadata"),
        ({"model": "demo", "messages": "hello"}, 400, "invalid_request", "not understood"),
        ([1], 400, "invalid_request", "not a JSON object"),
        (b"{", 400, "invalid_request", "not a JSON object"),
        (b"\xff\xfe", 400, "invalid_request", "not a JSON object"),
        (b'{"model": "demo", "messages": [], "max_tokens": NaN}', 400, "invalid_request", "max_tokens"),
        (b"[" * 100_000, 400, "invalid_request", "not a JSON object"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_cannot_be_estimated_is_said_and_never_a_500(
    gateway: Gateway, body: Any, status: int, code: str, says: str
) -> None:
    answer = ask(gateway, body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code
    assert says in error["message"]


@pytest.mark.parametrize(("header", "value"), [("X-Gatehouse-Max-Tokens", "-1"), ("X-Gatehouse-Max-Cost-Usd", "nan")])
def test_a_malformed_header_is_refused_by_name(gateway: Gateway, header: str, value: str) -> None:
    answer = ask(gateway, chat(), **{header: value})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert header in answer.json()["error"]["message"]


def test_without_a_key_nothing_is_answered(gateway: Gateway) -> None:
    for key in ("sk-not-a-key-of-anybody", None):
        with gateway.client(key) as client:
            assert client.post(ESTIMATE, json=chat()).status_code == 401


def test_asking_is_no_call(gateway: Gateway) -> None:
    before = set(gateway.calls())
    key = gateway.new_key()
    answer = ask(gateway, chat(), key)
    assert "x-gatehouse-call-id" not in answer.headers
    with gateway.client() as client:
        info = client.get("/key/info", params={"key": key}).json()
    assert not info["info"]["spend"]
    assert set(gateway.calls()) == before
    assert "How much would this be?" not in json.dumps(answer.json())


def test_the_page_is_right(gateway: Gateway) -> None:
    page = (REPOSITORY / "docs" / "limits.md").read_text()
    (command,) = re.findall(r"```bash\n(.*?)```", page, re.S)
    (shown,) = re.findall(r"```json\n(.*?)```", page, re.S)
    (limits,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    done = subprocess.run(
        ["bash", "-euc", command.replace("http://127.0.0.1:4000", gateway.url)],
        env={**os.environ, "LITELLM_MASTER_KEY": MASTER_KEY},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answered, expected = json.loads(done.stdout), json.loads(shown)
    assert answered.pop("estimated_cost_usd") == pytest.approx(expected.pop("estimated_cost_usd"))
    assert answered == expected
    Policy.model_validate({"version": 1, **yaml.safe_load(limits)})
