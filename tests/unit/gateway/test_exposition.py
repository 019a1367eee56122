"""`/metrics` shows no label that a caller made up, and loses no count."""

from __future__ import annotations

from typing import Any

import pytest
from gatehouse.gateway.exposition import OTHER, Exposition
from gatehouse.gateway.labels import labels
from gatehouse.gateway.routes import template_of
from litellm.proxy import proxy_server
from litellm.router import Router
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch) -> None:
    models: list[Any] = [
        {"model_name": "demo", "litellm_params": {"model": "openai/of-the-provider"}},
        {"model_name": "ollama/*", "litellm_params": {"model": "ollama_chat/*"}},
    ]
    monkeypatch.setattr(proxy_server, "llm_router", Router(model_list=models))


def shown(registry: CollectorRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = generate_latest(Exposition(registry, labels())).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@pytest.mark.usefixtures("router")
def test_series_that_callers_made_up_become_one_whose_count_is_whole() -> None:
    registry = CollectorRegistry()
    counter = Counter("litellm_requests", "r", ["requested_model"], registry=registry)
    for count, model in enumerate(("demo", "ada@example.com", "4532015112830366", "ollama/ada", "ollama/eve"), 1):
        counter.labels(model).inc(count)
    assert shown(registry) == {
        ("litellm_requests_total", (("requested_model", "demo"),)): 1,
        ("litellm_requests_total", (("requested_model", OTHER),)): 5,
        ("litellm_requests_total", (("requested_model", "ollama/*"),)): 9,
    }


@pytest.mark.usefixtures("router")
def test_of_states_the_largest_is_shown_and_histograms_are_added_up() -> None:
    registry = CollectorRegistry()
    gauge = Gauge("litellm_state", "s", ["model"], registry=registry)
    histogram = Histogram("litellm_seconds", "s", ["model"], buckets=(1,), registry=registry)
    for value, model in ((2, "ada"), (7, "eve")):
        gauge.labels(model).set(value)
        histogram.labels(model).observe(value / 4)
    assert shown(registry) == {
        ("litellm_state", (("model", OTHER),)): 7,
        ("litellm_seconds_bucket", (("le", "1.0"), ("model", OTHER))): 1,
        ("litellm_seconds_bucket", (("le", "+Inf"), ("model", OTHER))): 2,
        ("litellm_seconds_count", (("model", OTHER),)): 2,
        ("litellm_seconds_sum", (("model", OTHER),)): 2.25,
    }


def test_other_metrics_are_shown_as_they_are() -> None:
    registry = CollectorRegistry()
    Counter("gatehouse_rules", "r", ["rule", "route"], registry=registry).labels("a rule", "/x").inc()
    assert shown(registry) == {("gatehouse_rules_total", (("route", "/x"), ("rule", "a rule"))): 1}


@pytest.mark.usefixtures("router")
@pytest.mark.parametrize(
    ("label", "value", "expected"),
    [
        ("model", "of-the-provider", "of-the-provider"),
        ("litellm_model_name", "openai/of-the-provider", "openai/of-the-provider"),
        ("model_group", "gpt-4o", "gpt-4o"),  # of LiteLLM's price list
        ("requested_model", "", ""),
        ("requested_model", "None", "None"),
        ("route", "/v1/chat/completions", "/v1/chat/completions"),
        ("route", "/key/info", "/key/info"),
        ("route", "/engines/ada@example.com/chat/completions", "/engines/{model}/chat/completions"),
        ("route", "/models/ada@example.com", "/models/{model_id}"),
        ("route", "/ada@example.com", OTHER),
        ("user_agent", "claude-cli/2.0.14 (external)", "claude-cli/2"),
        ("user_agent", "ada@example.com", OTHER),
        ("client_ip", "10.0.0.1", "10.0.0.1"),
        ("client_ip", "ada@example.com", OTHER),
        ("stream", "True", "True"),
        ("stream", "ada@example.com", OTHER),
        ("end_user", "customer-7", "customer-7"),
        ("end_user", "hmac:1a2b3c4d:" + "0" * 32, "hmac:1a2b3c4d:" + "0" * 32),
        ("end_user", "ada@example.com", OTHER),
    ],
)
def test_each_label_has_a_known_value(label: str, value: str, expected: str) -> None:
    registry = CollectorRegistry()
    Gauge("litellm_x", "x", [label], registry=registry).labels(value).set(1)
    assert list(shown(registry)) == [("litellm_x", ((label, expected),))]


def test_a_path_that_no_route_has_has_no_template() -> None:
    assert template_of("/v1/ada") is None
