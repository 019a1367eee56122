"""What is stored with keys and teams names models and numbers, and carries no text, callbacks or credentials."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gatehouse.core.errors import GovernanceError, InvalidRequest, TooLarge
from gatehouse.gateway.management import MAX_BYTES, check_stored
from gatehouse.proxy.key_settings import check_management, check_router_settings
from hypothesis import given
from hypothesis import strategies as st

CANARY = "ada.lovelace@example.com"
SPEAKS = [{"gpt-4o": [{"model": "x", "messages": [{"role": "user", "content": CANARY}]}]}]
ROUTES = """
/key/generate /key/update /key/service-account/generate /key/bulk_update /key/regenerate /key/abc/regenerate /team/new
/team/update /team/key/bulk_update /user/new /user/update /user/bulk_update /customer/new /end_user/update /project/new
/organization/new /model/new /model/abc/update /budget/new /tag/new /management/v1/users/bulk
""".split()

GOOD: list[dict[str, Any]] = [
    {"fallbacks": [{"gpt-4o": ["claude-sonnet", "azure/gpt 4 (eu)"]}], "num_retries": 3, "timeout": 1.5},
    {"context_window_fallbacks": [{"a": ["b"]}], "default_fallbacks": ["a"]},
    {"routing_strategy": "latency-based-routing", "routing_strategy_args": {"ttl": 10, "lowest_latency_buffer": 0.5}},
    {"model_group_retry_policy": {"gpt-4o": {"RateLimitErrorRetries": 5}}, "retry_policy": {"TimeoutErrorRetries": 1}},
    {"model_group_alias": {"a": "b", "c": {"model": "d", "hidden": True}}, "enable_tag_filtering": True},
    {"weights": {"gpt-4o": {"some-deployment": 0.3}}, "optional_pre_call_checks": ["prompt_caching"]},
    {"fallbacks": None, "allowed_fails": 3, "cooldown_time": 30.0, "model_group_affinity_config": {"a": ["b"]}},
    {"routing_groups": [{"group_name": "g", "models": ["a"], "routing_strategy": "simple-shuffle"}]},
    {},
]
BAD: list[Any] = [
    {"fallbacks": SPEAKS},
    {"context_window_fallbacks": SPEAKS},
    {"content_policy_fallbacks": SPEAKS},
    {"default_fallbacks": [{"model": "x", "messages": []}]},
    {"fallbacks": [{"a": "b"}]},
    {"fallbacks": {"a": ["b"]}},
    {"fallbacks": [{"a": [{"b": 1}]}]},
    {"fallbacks": [{"a": ["b" * 1000]}]},
    {"fallbacks": [{"a": ["b\nc"]}]},
    {"fallbacks": json.dumps(SPEAKS)},
    {"model_group_alias": {"a": {"model": "b", "messages": []}}},
    {"routing_strategy_args": {"a": {"b": 1}}},
    {"num_retries": "many"},
    {"timeout": float("nan")},
    {"a_setting_of_next_year": 1},
    {"set_verbose": True},
    json.dumps({"fallbacks": SPEAKS}),
    "fallbacks: [{gpt-4o: [{model: x, messages: []}]}]",
    [{"fallbacks": SPEAKS}],
]


@pytest.mark.parametrize("settings", GOOD)
def test_router_settings_may_name_models_and_numbers(settings: dict[str, Any]) -> None:
    check_router_settings(settings)
    for route in ROUTES:
        check_management(route, {"router_settings": settings, "metadata": {"note": "x"}})


@pytest.mark.parametrize("settings", BAD, ids=lambda value: str(value)[:50])
def test_router_settings_hold_nothing_else_wherever_they_stand(settings: Any) -> None:
    places: list[Any] = [
        {"router_settings": settings},
        {"metadata": {"router_settings": settings}},
        {"metadata": {"deep": [{"router_settings": settings}]}},
        {"metadata": json.dumps({"router_settings": settings})},
        {"keys": [{"key": "k", "router_settings": settings}]},
        {"user_updates": {"router_settings": settings}},
        {"aliases": {"a": json.dumps({"router_settings": settings})}},
        [{"router_settings": settings}],
    ]
    for route in ROUTES:
        for body in places:
            with pytest.raises(InvalidRequest, match=r"router_settings|nothing else") as refused:
                check_management(route, body)
            assert CANARY not in refused.value.message


@pytest.mark.parametrize(
    "field",
    [
        {"config": {"model_list": [{"model_name": "x", "litellm_params": {"model": "openai/x"}}]}},
        {"metadata": {"logging": [{"callback_name": "langfuse", "callback_vars": {"langfuse_host": "http://x"}}]}},
        {"metadata": {"callback_settings": {"success_callback": ["langfuse"]}}},
        {"metadata": {"litellm_disabled_callbacks": ["governance"]}},
        {"metadata": {"allow_client_mock_response": True}},
        {"metadata": {"allow_client_message_redaction_opt_out": True}},
        {"metadata": {"allow_client_pricing_override": True}},
        {"metadata": {"model_config": {"gpt-4o": {"openai": {"litellm_credentials": "mine"}}}}},
        {"metadata": {"cache": {"ttl": 5}}},
        {"metadata": {"guardrails": [{"name": {"default_on": True}}]}},
        {"guardrails": [{"inner": 1}]},
        {"permissions": {"some-guardrail": False}},
        {"cache": {"use-cache": True}},
        {"aliases": {"gpt-4o": {"model": "x", "messages": []}}},
        {"model_aliases": {"gpt-4o": ["x"]}},
        {"budget_fallbacks": {"gpt-4o": [{"model": "x"}]}},
        {"litellm_params": {"model": "openai/x", "success_callback": ["langfuse"]}},
        {"litellm_params": {"model": "openai/x", "fallbacks": SPEAKS}},
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_field_that_litellm_would_obey_is_refused_by_name(field: dict[str, Any]) -> None:
    for body in (field, {"keys": [field]}, {"update": field}):
        with pytest.raises(InvalidRequest) as refused:
            check_management("/key/generate", body)
        name = list(field.get("metadata") or field.get("litellm_params") or field)[-1]
        assert name in refused.value.message


@pytest.mark.parametrize(
    "body",
    [
        {"key_alias": "a", "models": ["gpt-4o"], "max_budget": 12.5, "duration": "30d", "aliases": {"a": "gpt-4o"}},
        {"config": {}, "permissions": {}, "guardrails": [], "aliases": {}, "router_settings": {}},
        {"permissions": {"get_spend_routes": True}},
        {"permissions": ["/key/generate"], "all_teams": True},
        {"guardrails": ["pii"], "policies": ["p"], "prompts": ["p"], "tags": ["a"], "disable_global_guardrails": True},
        {"metadata": {"config": {"a": 1}, "permissions": {"read": True}, "callbacks": ["x"], "note": "[x", "y": "{}"}},
        {"metadata": {"nested": {"logging": [1], "cache": {"ttl": 1}}, "cache": {"no-cache": True}, "tags": ["a"]}},
        {"aliases": {"config": "gpt-4o", "logging": "gpt-4o"}, "model_aliases": {"cache": "gpt-4o"}},
        {"litellm_params": {"model": "openai/x", "api_base": "https://x", "fallbacks": ["a"]}, "model_info": {}},
        {"model_max_budget": {"gpt-4o": {"budget_limit": 1}}, "budget_limits": [{"max_budget": 1}]},
        None,
        "text",
        [],
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_ordinary_settings_pass(body: Any) -> None:
    for route in ROUTES:
        check_management(route, body)


def test_the_body_of_a_call_that_is_only_priced_is_no_setting() -> None:
    check_management("/spend/calculate", {"messages": [], "callbacks": ["x"], "fallbacks": SPEAKS})


def test_a_body_without_bottom_is_refused() -> None:
    body: Any = {}
    for _ in range(500):
        body = {"a": body}
    with pytest.raises(InvalidRequest, match="deep"):
        check_management("/key/generate", body)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
)


@given(json_values, st.sampled_from(["fallbacks", "content_policy_fallbacks", "model_group_alias", "routing_groups"]))
def test_no_text_but_names_passes_in_router_settings(value: Any, name: str) -> None:
    """What passes holds no object that a request could be made of."""
    try:
        check_router_settings({name: value})
    except InvalidRequest:
        return
    assert "messages" not in json.dumps(value)


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", json.dumps({"models": ["a"]}).encode()])
def test_a_body_that_stores_nothing_forbidden_passes(body: bytes) -> None:
    check_stored("/key/generate", body)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_a_stored_fallback_with_messages_is_refused_in_any_encoding(encoding: str) -> None:
    body = json.dumps({"router_settings": {"fallbacks": SPEAKS}}).encode(encoding)
    for path in ("/key/generate", "/team/update/"):
        with pytest.raises(InvalidRequest):
            check_stored(path, body)


def test_a_name_said_twice_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="two entries of one name"):
        check_stored("/key/generate", b'{"router_settings": {}, "router_settings": {"fallbacks": []}}')


def test_too_large_or_too_deep_a_body_is_refused() -> None:
    check_stored("/key/generate", b" " * MAX_BYTES)
    check_stored("/upload/logo", b" " * (MAX_BYTES + 1))
    with pytest.raises(TooLarge) as refused:
        check_stored("/key/generate", b" " * (MAX_BYTES + 1))
    assert refused.value.status == 413
    with pytest.raises(GovernanceError):
        check_stored("/key/generate", b"[" * 500_000)
