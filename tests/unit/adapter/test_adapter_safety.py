"""The adapter enforces an agent's own limits before it sends anything, and tells the gateway about them."""

from __future__ import annotations

import time
from asyncio import StreamWriter
from collections.abc import AsyncIterator
from typing import Any

import gatehouse_adapter as ga
import pytest
import pytest_asyncio

from tests.support.byte_gateway import ASK, KEY, ByteGateway, Handler, answers_with, serving

CHAT, ESTIMATE = "/v1/chat/completions", "/governance/v1/estimate"
ESTIMATED = {
    "model": "demo",
    "estimated_cost_usd": 0.5,
    "input_tokens": 10,
    "max_output_tokens": 90,
    "price": {"source": "config"},
    "within_limits": True,
    "refusal": None,
}


@pytest_asyncio.fixture
async def gateway() -> AsyncIterator[ByteGateway]:
    async with serving() as found:
        found.handlers[ESTIMATE] = answers_with(ESTIMATED)
        yield found


def client(gateway: ByteGateway, **safety: Any) -> ga.LiteLLMAdapter:
    return ga.LiteLLMAdapter(base_url=gateway.url, api_key=KEY, timeout=30.0, safety=ga.SafetyConfig(**safety))


async def test_the_gateway_hears_of_every_limit_with_the_estimate_and_with_the_call(gateway: ByteGateway) -> None:
    limits = {"max_budget_per_request": 0.5, "max_tokens_per_request": 100, "require_approval_over": 0.00000025}
    async with client(gateway, **limits) as adapter:
        assert (await adapter.complete_chat(ASK, "demo", max_tokens=90)).content == "Hello."
    assert [path for path, _, _ in gateway.requests] == [ESTIMATE, CHAT]
    for _, headers, body in gateway.requests:
        assert headers["x-gatehouse-max-cost-usd"] == "0.5"
        assert headers["x-gatehouse-max-tokens"] == "100"
        assert headers["x-gatehouse-approval-over-usd"] == "0.00000025"
        assert body == {"max_tokens": 90, "model": "demo", "messages": ASK}


@pytest.mark.parametrize(
    ("limits", "estimated", "says"),
    [
        ({"max_budget_per_request": 0.49}, {}, "0.49"),
        ({"max_tokens_per_request": 99}, {}, "99"),
        ({"max_budget_per_request": 9}, {"within_limits": False, "refusal": "The key allows less."}, "The key allows"),
        ({"require_approval_over": 9}, {"within_limits": False}, "over its limit"),
    ],
)
async def test_what_may_use_too_much_is_not_sent(
    gateway: ByteGateway, limits: dict[str, Any], estimated: dict[str, Any], says: str
) -> None:
    gateway.handlers[ESTIMATE] = answers_with(ESTIMATED | estimated)
    async with client(gateway, **limits) as adapter:
        with pytest.raises(ga.LimitExceeded, match=says) as caught:
            await adapter.complete_chat(ASK, "demo", max_tokens=90)
    assert caught.value.status is None
    assert [path for path, _, _ in gateway.requests] == [ESTIMATE]


def estimating(input_tokens: int, longest: int) -> Handler:
    """Answer estimates as the gateway does with a limit of 2,000: without a bound the model's longest answer counts."""

    async def handler(body: Any, writer: StreamWriter) -> None:
        output = body.get("max_tokens", longest) * body.get("n", 1)
        found = {"input_tokens": input_tokens, "max_output_tokens": output}
        found |= {"within_limits": input_tokens + output <= 2_000}
        await answers_with(ESTIMATED | found)(body, writer)

    return handler


@pytest.mark.parametrize(
    ("options", "longest", "sent"),
    [
        ({}, 64_000, {"max_tokens": 1_983}),
        ({"n": 2}, 64_000, {"n": 2, "max_tokens": 991}),
        ({}, 1_983, {}),
        ({"max_tokens": 5}, 64_000, {"max_tokens": 5}),
    ],
)
async def test_a_call_without_a_bound_gets_what_the_limit_leaves(
    gateway: ByteGateway, options: dict[str, Any], longest: int, sent: dict[str, Any]
) -> None:
    gateway.handlers[ESTIMATE] = estimating(17, longest)
    async with client(gateway, max_tokens_per_request=2_000) as adapter:
        assert (await adapter.complete_chat(ASK, "demo", **options)).content == "Hello."
    path, _, body = gateway.requests[-1]
    assert (path, body) == (CHAT, {**sent, "model": "demo", "messages": ASK})


async def test_messages_that_leave_nothing_for_an_answer_are_not_sent(gateway: ByteGateway) -> None:
    gateway.handlers[ESTIMATE] = estimating(2_000, 64_000)
    async with client(gateway, max_tokens_per_request=2_000) as adapter:
        with pytest.raises(ga.LimitExceeded, match="2000 tokens"):
            await adapter.complete_chat(ASK, "demo")
    assert [path for path, _, _ in gateway.requests] == [ESTIMATE]


async def test_an_estimate_without_a_price_is_above_every_amount(gateway: ByteGateway) -> None:
    gateway.handlers[ESTIMATE] = answers_with(ESTIMATED | {"estimated_cost_usd": None, "price": {"source": "none"}})
    async with client(gateway) as adapter:
        cost = await adapter.get_cost_estimate(ASK, "litellm/demo")
    assert cost["estimated_cost_usd"] > 1.0
    assert not cost.has_price
    assert cost.to_dict()["estimated_cost_usd"] is None
    assert gateway.requests[-1][2]["model"] == "demo"


def test_key_and_limits_have_a_second_name_and_one_value() -> None:
    limits = ga.SafetyConfig(max_tokens_per_request=1)
    for adapter in (ga.LiteLLMAdapter, ga.LiteLLMAdapterSync):
        adapter(base_url="http://127.0.0.1:1", master_key=KEY, safety_config=limits)
        with pytest.raises(ga.ConfigurationError, match="master_key"):
            adapter(base_url="http://127.0.0.1:1", api_key=KEY, master_key=KEY)
        with pytest.raises(ga.ConfigurationError, match="safety_config"):
            adapter(base_url="http://127.0.0.1:1", api_key=KEY, safety=limits, safety_config=limits)


@pytest.mark.parametrize(
    "handler",
    [
        answers_with({"error": {"message": "Not Found"}}, 404),
        answers_with({"error": {"message": "Oops."}}, 500),
        answers_with(b"garbage"),
        answers_with({"model": "demo"}),
        answers_with(ESTIMATED | {"within_limits": "yes"}),
        answers_with(ESTIMATED | {"estimated_cost_usd": float("nan")}),
    ],
)
async def test_where_the_gateway_cannot_be_asked_nothing_is_sent(gateway: ByteGateway, handler: Any) -> None:
    gateway.handlers[ESTIMATE] = handler
    async with client(gateway, require_approval_over=1.0) as adapter:
        with pytest.raises(ga.GatehouseError):
            await adapter.complete_chat(ASK, "demo")
    assert [path for path, _, _ in gateway.requests] == [ESTIMATE]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": "x"}]},
        {"role": "user", "content": [{"image_url": {"url": "x"}}]},
        {"role": "user", "content": ({"type": "tool_result", "content": [{"type": "image_url"}]},)},
    ],
)
async def test_a_kind_of_content_that_is_blocked_is_never_sent(gateway: ByteGateway, message: dict[str, Any]) -> None:
    async with client(gateway, blocked_part_types=["image_url", "file"]) as adapter:
        for call in (adapter.complete_chat, adapter.request_approval):
            with pytest.raises(ga.ContentBlocked, match="image_url"):
                await call([*ASK, message], "demo")
        assert (await adapter.complete_chat([{"role": "user", "content": "image_url"}], "demo")).content == "Hello."
    assert len(gateway.requests) == 1


async def test_categories_of_content_are_the_gateways_to_block(gateway: ByteGateway) -> None:
    async with client(gateway, blocked_content_types=["illegal", "harmful"]) as adapter:
        await adapter.complete_chat(ASK, "demo")
    ((path, headers, _),) = gateway.requests
    assert (path, headers["x-gatehouse-block-content"]) == (CHAT, "harmful, illegal")


async def test_messages_that_go_in_circles_are_refused_and_not_searched_for_ever(gateway: ByteGateway) -> None:
    message: dict[str, Any] = {"role": "user", "content": []}
    message["content"].append(message)
    async with client(gateway, blocked_part_types=["file"]) as adapter:
        with pytest.raises(ga.BadRequest):
            await adapter.complete_chat([message], "demo")
    assert gateway.requests == []


async def test_calls_over_the_rate_wait_for_their_turn_and_not_for_ever(gateway: ByteGateway) -> None:
    async with client(gateway, rate_limit_per_minute=60) as adapter:
        begun = time.monotonic()
        for _ in range(61):
            await adapter._chat._guard.turn()
        assert time.monotonic() - begun > 0.5
    safety = ga.SafetyConfig(rate_limit_per_minute=1)
    async with ga.LiteLLMAdapter(base_url=gateway.url, api_key=KEY, timeout=10.0, safety=safety) as adapter:
        await adapter.complete_chat(ASK, "demo")
        with pytest.raises(ga.RateLimited, match="1 calls a minute") as caught:
            await adapter.complete_chat(ASK, "demo")
    assert caught.value.status is None
    assert len(gateway.requests) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_budget_per_request": -1},
        {"max_budget_per_request": float("nan")},
        {"max_budget_per_request": True},
        {"max_tokens_per_request": 0},
        {"max_tokens_per_request": 1.5},
        {"require_approval_over": "5"},
        {"rate_limit_per_minute": 0},
        {"blocked_content_types": "image_url"},
        {"blocked_content_types": [7]},
        {"blocked_content_types": ["harmful,illegal"]},
        {"blocked_part_types": "image_url"},
    ],
)
def test_a_limit_that_is_none_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ga.ConfigurationError, match=next(iter(wrong))):
        ga.SafetyConfig(**wrong)
