"""LiteLLM's cache answers no call and keeps no answer; Redis counts for all gateways, whatever a caller names."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import yaml

from tests.support.gateway import Gateway
from tests.support.postgres import Postgres
from tests.support.process import START_S, wait_until
from tests.support.redis_server import PASSWORD, Redis
from tests.support.upstream import Upstream

pytestmark = pytest.mark.timeout(900)

ANSWER = "cached-answer-canary"


def store(server: Redis) -> redis.Redis:
    return redis.Redis(port=server.port, password=PASSWORD, decode_responses=True)


def kept(server: Redis) -> dict[str, str]:
    """Return what Redis holds: each key with its value as text."""
    client = store(server)
    reads: dict[str, Callable[[str], object]] = {
        "string": client.get,
        "hash": client.hgetall,
        "set": client.smembers,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "list": lambda key: client.lrange(key, 0, -1),
    }
    return {key: str(reads[str(client.type(key))](key)) for key in client.scan_iter(count=1000) if client.exists(key)}


@pytest.fixture(scope="module")
def pair(postgres: Postgres, own_redis: Redis, upstream_config: Path) -> Iterator[tuple[Gateway, Gateway]]:
    """Start two gateways with the configuration as shipped, on one database and one Redis."""
    url = postgres.create_database()
    first = Gateway(url, own_redis.port, config=upstream_config).start()
    second = Gateway(url, own_redis.port, config=upstream_config, folder=first.folder).start()
    yield first, second
    second.close()
    first.close()


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "up-chat", "max_tokens": 10, "messages": [{"role": "user", "content": text}], **fields}


def counter(team: str) -> str:
    return f"spend:team:{team}"


WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "caching": {"caching": True},
    "use-cache": {"cache": {"use-cache": True}},
    "ttl": {"cache": {"use-cache": True, "ttl": 600, "s-maxage": 600}},
    "namespace": {"cache": {"use-cache": True, "namespace": "spend:team"}},
    "key": {"cache_key": "mine"},
    "key below": {"cache": {"use-cache": True, "cache_key": "mine"}},
    "preset": {"litellm_params": {"preset_cache_key": "mine"}},
    "in metadata": {"metadata": {"cache_key": "mine", "redis_namespace": "spend:team"}},
    "stream": {"stream": True, "caching": True},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_repeated_call_reaches_the_model_again_and_its_answer_is_not_kept(
    pair: tuple[Gateway, Gateway], own_redis: Redis, upstream: Upstream, way: str
) -> None:
    upstream.says = lambda _: ANSWER
    first, second = pair
    body = chat(f"say it {way}", **WAYS[way])
    served = 0
    for gateway in (first, first, second):
        with gateway.client(gateway.new_key()) as client:
            answer = client.post("/v1/chat/completions", json=body)
        assert answer.status_code in (200, 400), answer.text  # a field of LiteLLM's own may be refused
        served += answer.status_code == 200
    assert len(upstream.requests) == served
    held = kept(own_redis)
    assert not [key for key, value in held.items() if ANSWER in value or "say it" in value]
    assert not [key for key in held if "mine" in key]


def test_other_routes_keep_no_answer_either(
    pair: tuple[Gateway, Gateway], own_redis: Redis, upstream: Upstream
) -> None:
    upstream.says = lambda _: ANSWER
    asked = {
        "/v1/completions": {"model": "up-text", "prompt": "once more"},
        "/v1/embeddings": {"model": "up-embedding", "input": "once more"},
        "/v1/responses": {"model": "up-chat", "input": "once more"},
        "/v1/messages": {"model": "up-claude", "max_tokens": 5, "messages": [{"role": "user", "content": "once more"}]},
    }
    with pair[0].client() as client:
        for route, body in asked.items():
            for count in (1, 2):
                assert client.post(route, json={**body, "caching": True}).status_code in (200, 400)
                served = client.post(route, json=body)
                assert served.status_code == 200, served.text
                assert len([path for path, _ in upstream.requests if path in route or route.endswith(path)]) >= count
    assert not [key for key, value in kept(own_redis).items() if ANSWER in value or "once more" in value]


def test_no_name_that_a_caller_chooses_is_a_counter(
    pair: tuple[Gateway, Gateway], own_redis: Redis, upstream: Upstream
) -> None:
    gateway, _ = pair
    with gateway.client() as client:
        team = client.post("/team/new", json={"team_alias": "victims", "max_budget": 1000}).json()["team_id"]
    victim = gateway.new_key(team_id=team, max_budget=1000, rpm_limit=1000)
    attacker = gateway.new_key(max_budget=1000, rpm_limit=1000)

    def call(key: str, **fields: Any) -> int:
        headers = fields.pop("headers", {})
        with gateway.client(key) as client:
            return client.post("/v1/chat/completions", json=chat("x", **fields), headers=headers).status_code

    def counted() -> float | None:
        """Return the team's spend in Redis, which forgets it after a minute; LiteLLM then asks the database."""
        held = kept(own_redis).get(counter(team))
        return None if held is None else float(held)

    def settled() -> bool:
        """Wait for the real cost: LiteLLM first counts what a call may cost, then the real cost after the answer."""
        first = counted()
        time.sleep(2)
        return first is not None and counted() == first

    assert call(victim) == 200
    wait_until(settled, "the team's spend is counted")
    theirs = hashlib.sha256(victim.encode()).hexdigest()
    counters = {name for name in kept(own_redis) if theirs in name or team in name}
    assert any(name.startswith("{") for name in counters), "there are counters of rates too"
    before = counted()
    for name in sorted(counters):
        for fields in (
            {"cache_key": name, "caching": True},
            {"cache": {"use-cache": True, "cache_key": name}},
            {"litellm_params": {"preset_cache_key": name}},
            {"user": name},
            {"metadata": {"tags": [name], "session_id": name, "user_api_key_team_id": name}},
            {"litellm_session_id": name, "litellm_trace_id": name, "prompt_cache_key": name, "safety_identifier": name},
            {"headers": {"x-litellm-tags": name, "x-litellm-session-id": name, "x-litellm-customer-id": name}},
        ):
            assert call(attacker, **fields) in (200, 400, 403)
            assert counted() in (None, before), fields
    # What a caller chose stands behind a name of LiteLLM's own: no key is a counter's, or begins with one and goes on.
    added = [name for name in kept(own_redis) if name not in counters and (theirs in name or team in name)]
    assert not [name for name in added for known in counters if name.startswith(known)]
    assert call(victim) == 200
    wait_until(lambda: (counted() or 0) > (before or 0), "the team's own call is counted")


def test_two_gateways_count_budgets_and_rates_together(pair: tuple[Gateway, Gateway], upstream: Upstream) -> None:
    first, second = pair

    def call(gateway: Gateway, key: str) -> int:
        with gateway.client(key) as client:
            return client.post("/v1/chat/completions", json=chat("count")).status_code

    rated = first.new_key(rpm_limit=4)
    # The window of a minute may end between the calls: then the next full one counts.
    for _ in range(2):
        codes = [call(gateway, rated) for gateway in (first, second) * 3]
        if codes == [200] * 4 + [429] * 2:
            break
        time.sleep(61)
    assert codes == [200] * 4 + [429] * 2

    # Each call costs 0.000007: with a budget for ten, either gateway alone would serve all of its own.
    spent = first.new_key(max_budget=0.00007)
    served = 0
    for _ in range(10):
        served += sum(call(gateway, spent) == 200 for gateway in (first, second))
    assert 0 < served <= 11


@pytest.mark.parametrize(
    ("section", "settings", "said"),
    [
        (
            "litellm_settings",
            {"cache": True, "cache_params": {"type": "local"}},
            "litellm_settings.cache stores answers",
        ),
        (
            "litellm_settings",
            {"cache": True, "cache_params": {"type": "redis"}},
            "litellm_settings.cache stores answers",
        ),
        ("router_settings", {"cache_responses": True}, "litellm_settings.cache stores answers"),
        (
            "litellm_settings",
            {"responses": {"background_mode": {"polling_via_cache": "all"}}},
            "polling_via_cache keeps unmasked requests and answers",
        ),
    ],
    ids=["local", "redis", "router", "polling"],
)
def test_a_start_with_a_cache_of_answers_says_why_not(
    postgres: Postgres,
    redis_server: Redis,
    upstream_config: Path,
    tmp_path: Path,
    section: str,
    settings: dict[str, Any],
    said: str,
) -> None:
    config = yaml.safe_load(upstream_config.read_text())
    config[section].update(settings)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    gateway = Gateway(postgres.create_database(), redis_server.port, config=path)
    gateway.server.start()
    wait_until(lambda: not gateway.server.running, "the gateway ends", START_S)
    assert said in gateway.output.read_text()
    gateway.close()


def test_a_cache_that_is_turned_on_in_the_database_stops_the_serving(
    postgres: Postgres, redis_server: Redis, upstream_config: Path, upstream: Upstream, tmp_path: Path
) -> None:
    config = yaml.safe_load(upstream_config.read_text())
    often = {"store_model_in_db": True, "proxy_config_reload_interval_seconds": 2}  # LiteLLM's default is 30
    config["general_settings"].update(often)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    gateway = Gateway(postgres.create_database(), redis_server.port, config=path).start()

    def call() -> Any:
        with gateway.client() as client:
            return client.post("/v1/chat/completions", json=chat("hello"))

    try:
        assert call().status_code == 200
        with gateway.client() as client:
            asked = client.post("/cache/settings", json={"cache_settings": {"type": "local"}})
        assert asked.status_code == 403, asked.text
        with psycopg.connect(gateway.database_url) as connection:
            connection.execute(
                'insert into "LiteLLM_CacheConfig" (id, cache_settings, updated_at) values (%s, %s, now())',
                ("cache_config", json.dumps({"type": "local"})),
            )
        wait_until(lambda: call().status_code == 500, "calls are refused once LiteLLM reads its database again")
        assert call().json()["error"]["message"].startswith("LiteLLM's cache of answers is on.")
        sent = len(upstream.requests)
        assert call().status_code == 500
        assert len(upstream.requests) == sent
        assert "LiteLLM_CacheConfig" in gateway.output.read_text()
    finally:
        gateway.close()
