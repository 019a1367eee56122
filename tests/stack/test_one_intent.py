"""One call causes as many attempts as are configured, and each that left without an answer counts as paid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
import yaml

from tests.stack.test_egress import ROUTES
from tests.stack.test_every_ending import send_and_leave
from tests.support.gateway import Gateway, config_with_upstream
from tests.support.postgres import Postgres
from tests.support.prefork import constants
from tests.support.process import wait_until
from tests.support.redis_server import Redis
from tests.support.upstream import Upstream

RETRIES = 1
HELLO = [{"role": "user", "content": "hello"}]
CHAT: dict[str, Any] = {"model": "up-chat", "messages": HELLO, "max_tokens": 5}
CALLS: list[tuple[str, dict[str, Any]]] = [
    *((route, make(model="up-chat")) for route, make in ROUTES.items()),
    ("/v1/messages", {"model": "up-claude", "messages": HELLO, "max_tokens": 5}),
    ("/v1/completions", {"model": "up-text", "prompt": "hello", "max_tokens": 5}),
    ("/v1/embeddings", {"model": "up-embedding", "input": ["hello"]}),
    ("/v1/moderations", {"model": "up-moderation", "input": "hello"}),
    ("/v1/images/generations", {"model": "up-image", "prompt": "hello"}),
    ("/v1/audio/speech", {"model": "up-speech", "input": "hello", "voice": "alloy"}),
]
IDS = [f"{route} {body['model']}" for route, body in CALLS]


@pytest.fixture(scope="module")
def retrying(
    postgres: Postgres, redis_server: Redis, recording_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("retrying")
    path = config_with_upstream(recording_upstream.url, folder)
    config = yaml.safe_load(path.read_text())
    config["router_settings"] |= {"num_retries": RETRIES, "retry_after": 0}
    config["general_settings"] |= {"proxy_batch_write_at": 1}
    for model in config["model_list"]:
        if model["model_name"] == "up-first":
            model["litellm_params"]["max_retries"] = 1
    path.write_text(yaml.safe_dump(config))
    # LiteLLM waits for one to two seconds after each failed attempt, whatever retry_after says.
    at_once = constants({"litellm.utils:INITIAL_RETRY_DELAY": 0.05, "litellm.utils:JITTER": 0.05})
    environ = at_once | {"GATEHOUSE_SETTLE_GRACE_SECONDS": "1"}
    server = Gateway(postgres.create_database(), redis_server.port, config=path, environ=environ).start()
    yield server
    server.close()


def data_of(gateway: Gateway, call_id: str) -> dict[str, Any]:
    wait_until(lambda: gateway.lines_of(call_id) != [], "the call's line")
    [line] = gateway.lines_of(call_id)
    return dict(line["data"])


@pytest.mark.parametrize("asked", [None, 0], ids=["as configured", "none"])
@pytest.mark.parametrize(("route", "body"), CALLS, ids=IDS)
def test_a_call_is_sent_as_often_as_is_configured(
    retrying: Gateway, upstream: Upstream, route: str, body: dict[str, Any], asked: int | None
) -> None:
    upstream.status = 500
    fields = {} if asked is None else {"num_retries": asked}
    with retrying.client() as client:
        answer = client.post(route, json=body | fields)
    assert 1 <= len(upstream.requests) <= 1 + (RETRIES if asked is None else asked), answer.text
    assert answer.status_code == 500
    # How it failed is the provider's to say, and so is whether to try again.
    assert answer.headers.get("x-should-retry") is None
    assert not data_of(retrying, answer.headers["x-gatehouse-call-id"]).get("cost_usd")


# LiteLLM has no time-out for moderations; only the three say how an answer ends.
UNANSWERED = [
    *(("late", *call) for call in CALLS if "moderations" not in call[0]),
    *(("cut", *call) for call in CALLS if call[0] in ROUTES),
]


def ask_openai(url: str, key: str, said: Any) -> None:
    openai.OpenAI(base_url=f"{url}/v1", api_key=key).chat.completions.create(model="up-chat", messages=said)


def ask_anthropic(url: str, key: str, said: Any) -> None:
    anthropic.Anthropic(base_url=url, api_key=key).messages.create(model="up-claude", max_tokens=5, messages=said)


SDKS = {"openai": ask_openai, "anthropic": ask_anthropic}


@pytest.mark.parametrize("status", [429, 500, 529])
@pytest.mark.parametrize("api", SDKS)
def test_a_client_that_asks_again_by_itself_has_had_the_repetitions(
    retrying: Gateway, upstream: Upstream, api: str, status: int
) -> None:
    """A call has 1 + num_retries attempts, and each of the client's two repetitions has one."""
    upstream.status = status
    upstream.error_headers = {"retry-after-ms": "1"}  # clients obey it, and need not wait
    key = retrying.new_key()
    said: Any = HELLO
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as raised:
        SDKS[api](retrying.url, key, said)
    assert raised.value.status_code == status
    assert "upstream says no" in str(raised.value)
    assert len(upstream.requests) == 1 + RETRIES + 2


@pytest.mark.parametrize(
    ("how", "route", "body"), UNANSWERED, ids=[f"{how} {route} {body['model']}" for how, route, body in UNANSWERED]
)
def test_what_is_not_answered_is_not_sent_more_often_and_costs_its_input(
    retrying: Gateway, upstream: Upstream, how: str, route: str, body: dict[str, Any]
) -> None:
    fields: dict[str, Any] = {"num_retries": 0}
    if how == "late":
        upstream.delay_s = 2.5
        fields["timeout"] = 1
    else:
        upstream.breaks = "cut"
    with retrying.client() as client:
        answer = client.post(route, json=body | fields)
    assert answer.status_code >= 400, answer.text
    assert len(upstream.requests) == 1
    data = data_of(retrying, answer.headers["x-gatehouse-call-id"])
    assert data["status"] == "failure"
    if body["model"] not in ("up-image", "up-speech"):  # they have no price of that kind
        assert data["cost_usd"] > 0


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_leaving_before_the_first_byte_costs_the_input_and_the_key_has_spent_it(
    retrying: Gateway, upstream: Upstream, stream: bool
) -> None:
    known = set(retrying.calls())
    upstream.delay_s = 4.0
    key = retrying.new_key()
    send_and_leave(retrying, CHAT | {"stream": stream}, after_bytes=0, key=key)
    wait_until(lambda: set(retrying.calls()) - known != set(), "the call's intent")
    [call_id] = set(retrying.calls()) - known
    cost = data_of(retrying, call_id)["cost_usd"]
    assert cost > 0

    def spent() -> bool:
        with retrying.client() as client:
            info = client.get("/key/info", params={"key": key}).json()["info"]
        return bool(info["spend"] >= cost * 0.99)

    wait_until(spent, "the key has spent it")


def test_a_limit_holds_for_all_attempts_that_may_be_billed(retrying: Gateway, upstream: Upstream) -> None:
    """One attempt may cost 0.1 cents, and one call 0.15 cents."""
    upstream.delay_s = 2.5
    body = CHAT | {"max_tokens": 500, "timeout": 1}
    key = retrying.new_key(metadata={"gatehouse": {"max_cost_per_request_usd": 0.0015}})
    with retrying.client(key) as client:
        answer = client.post("/v1/chat/completions", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "limit_exceeded")
        assert len(upstream.requests) == 1
        upstream.requests.clear()
        client.post("/v1/chat/completions", json=body | {"max_tokens": 100})
    assert len(upstream.requests) == 2


def test_a_deployments_own_retries_are_the_operators_to_set(retrying: Gateway, upstream: Upstream) -> None:
    upstream.status = 500
    with retrying.client() as client:
        client.post("/v1/embeddings", json={"model": "up-first", "input": "hello", "num_retries": 0})
    assert len(upstream.requests) >= 2


def test_retries_that_are_stored_with_a_key_are_those_of_the_configuration(
    retrying: Gateway, upstream: Upstream
) -> None:
    upstream.status = 500
    policy = {"InternalServerErrorRetries": 5}
    key = retrying.new_key(router_settings={"num_retries": 5, "model_group_retry_policy": {"up-chat": policy}})
    with retrying.client(key) as client:
        answer = client.post("/v1/chat/completions", json=CHAT)
    assert len(upstream.requests) == 1 + RETRIES, answer.text
