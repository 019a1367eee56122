"""Plug-ins work in the real gateway: from a module beside config.yaml, and from an installed package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.gateway import REPOSITORY, Gateway
from tests.support.packages import install
from tests.support.postgres import Postgres
from tests.support.process import wait_until
from tests.support.redis_server import Redis

PRICE = {"input_cost_per_token": 0.000001, "output_cost_per_token": 0.000002, "max_output_tokens": 64}

PACKAGE = """
from gatehouse.loggers import BaseCustomLogger
from gatehouse.providers import BaseCustomProvider
import litellm

class Acme(BaseCustomProvider):
    def completion(self, model, messages, **call):
        message = litellm.Message(content="acme says " + messages[-1]["content"])
        usage = litellm.Usage(prompt_tokens=4, completion_tokens=5, total_tokens=9)
        return litellm.ModelResponse(choices=[litellm.Choices(message=message, finish_reason="stop")], usage=usage)

class Rewriting(BaseCustomLogger):
    async def async_pre_call_hook(self, user_api_key_dict, cache, data, call_type):
        for message in data.get("messages") or ():
            message["content"] = message["content"].replace("[unruly]", "rejected topic")
        return data

class Inherits(Rewriting):
    pass
"""

MODULE = """
from gatehouse.loggers import ContentFilter, ResponseModifier
from gatehouse.providers import Provider

class Mine(Provider):
    async def answer(self, request):
        return "mine: " + request.last_user_text

mine = Mine()
words = ContentFilter(["forbidden fruit"])
prefix = ResponseModifier("[Verified] ")
"""

POLICY = """
version: 1
screens: {blocked_content: {topics: [rejected topic]}}
"""


def configured(folder: Path, callbacks: list[str]) -> Path:
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    config["model_list"] = [
        {"model_name": name, "litellm_params": {"model": f"{name}/m"}, "model_info": PRICE} for name in ("acme", "mine")
    ]
    config["router_settings"] = {"num_retries": 0}
    settings = config["litellm_settings"]
    settings["custom_provider_map"] = [{"provider": "mine", "custom_handler": "my_plugins.mine"}]
    settings["callbacks"] = callbacks
    (folder / "my_plugins.py").write_text(MODULE)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def plugged(postgres: Postgres, redis_server: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("plugged")
    site = folder / "site"
    site.mkdir()
    points = {"gatehouse.providers": {"acme": "acme_llm:Acme"}, "gatehouse.loggers": {"rewriting": "acme_llm:Inherits"}}
    install(site, "acme-llm", {"acme_llm": PACKAGE}, points)
    (folder / "policy.yaml").write_text(POLICY)
    loggers = ["my_plugins.words", "my_plugins.prefix", "gatehouse.loggers.request_log.logger"]
    config = configured(folder, [*loggers, "gatehouse.plugin.governance", "prometheus"])
    gateway = Gateway(
        postgres.create_database(),
        redis_server.port,
        config=config,
        policy=folder / "policy.yaml",
        environ={"PYTHONPATH": str(site)},
    )
    yield gateway.start()
    gateway.close()


def ask(gateway: Gateway, model: str, text: str, **options: Any) -> Any:
    body = {"model": model, "messages": [{"role": "user", "content": text}], **options}
    with gateway.client() as client:
        return client.post("/v1/chat/completions", json=body)


def streamed(gateway: Gateway, model: str, text: str) -> str:
    answer = ask(gateway, model, text, stream=True)
    assert answer.status_code == 200, answer.text
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    return "".join(json.loads(event)["choices"][0]["delta"].get("content") or "" for event in events)


@pytest.mark.parametrize(("model", "says"), [("acme", "acme says hello"), ("mine", "mine: hello")])
def test_a_provider_answers_from_a_package_and_from_a_module(plugged: Gateway, model: str, says: str) -> None:
    answer = ask(plugged, model, "hello")
    assert answer.json()["choices"][0]["message"]["content"] == f"[Verified] {says}"
    assert streamed(plugged, model, "hello") == f"[Verified] {says}"


@pytest.mark.parametrize("model", ["acme", "mine"])
def test_a_blocked_word_reaches_no_caller_plain_or_streamed(plugged: Gateway, model: str) -> None:
    answer = ask(plugged, model, "eat forbidden fruit now")
    assert answer.json()["choices"][0]["message"]["content"].endswith("eat [FILTERED] now")
    assert streamed(plugged, model, "eat forbidden fruit now").endswith("eat [FILTERED] now")


def test_the_filter_refuses_what_it_cannot_read(plugged: Gateway) -> None:
    with plugged.client() as client:
        body = {"model": "mine", "max_tokens": 9, "messages": [{"role": "user", "content": "forbidden fruit"}]}
        answer = client.post("/v1/messages", json=body)
    assert answer.status_code == 501
    assert "forbidden fruit" not in answer.text


def test_the_gateway_decides_on_a_request_as_a_package_left_it(plugged: Gateway) -> None:
    """Its logger inherits the hook, and turns a harmless request into one that is blocked."""
    answer = ask(plugged, "mine", "about [unruly] please")
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "content_blocked"


def test_calls_are_logged_in_one_line_without_content_and_sealed_as_ever(plugged: Gateway) -> None:
    ask(plugged, "acme", "a word nobody else says: xylophone")
    plugged.wait_settled()

    def lines() -> list[str]:
        return [line for line in plugged.output.read_text().splitlines() if " gatehouse.requests: " in line]

    wait_until(lambda: any('"provider": "acme"' in line for line in lines()), "the request logger wrote a line")
    line = json.loads(next(line for line in lines() if '"provider": "acme"' in line).split(" gatehouse.requests: ")[1])
    assert line["status"] == "success"
    assert line["completion_tokens"] == 5
    assert "xylophone" not in plugged.output.read_text()
    assert all(plugged.capsule(call_id) for call_id in plugged.calls())


def test_a_plug_in_that_fails_keeps_the_gateway_from_starting_and_is_named(
    plugged: Gateway, redis_server: Redis, tmp_path: Path
) -> None:
    install(tmp_path, "broken-llm", {}, {"gatehouse.providers": {"broken": "not_there:Anything"}})
    gateway = Gateway(plugged.database_url, redis_server.port, environ={"PYTHONPATH": str(tmp_path)})
    with pytest.raises(RuntimeError) as raised:
        gateway.start()
    gateway.close()
    last = str(raised.value).strip().splitlines()[-1]
    assert "plug-in 'broken' of broken-llm 1.0 (gatehouse.providers: not_there:Anything)" in last
    assert "No module named 'not_there'" in last
