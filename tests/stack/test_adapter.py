"""The adapter works against the real gateway: approvals, money, and an agent's own limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gatehouse_adapter as ga
import httpx
import pytest

from tests.support.gateway import MASTER_KEY, Gateway
from tests.support.postgres import Postgres
from tests.support.process import PATIENCE_S
from tests.support.redis_server import Redis
from tests.support.upstream import Upstream

POLICY = """
version: 1
limits: {allow_unpriced_models: ["up-*"]}
rules:
  - id: long-answers
    when: request.max_tokens > 50
    then: require_approval
    reason: Long answers are looked at first.
    approvers: {users: [grace], hold: 300s}
"""
LONG = {"model": "up-chat", "max_tokens": 100}


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def asking(
    postgres: Postgres, redis_server: Redis, upstream_config: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text(POLICY)
    server = Gateway(postgres.create_database(), redis_server.port, config=upstream_config, policy=policy).start()
    with server.client() as client:
        for user, role in (("grace", "internal_user"), ("ada", "internal_user"), ("root", "proxy_admin")):
            client.post("/user/new", json={"user_id": user, "user_role": role}).raise_for_status()
    yield server
    server.close()


@pytest.fixture(scope="module")
def grace(asking: Gateway) -> str:
    return asking.new_key(user_id="grace")


def adapter(gateway: Gateway, key: str, **options: Any) -> ga.LiteLLMAdapter:
    return ga.LiteLLMAdapter(base_url=gateway.url, api_key=key, timeout=PATIENCE_S, **options)


async def vote(gateway: Gateway, key: str, approval_id: str, decision: str = "approve", **fields: Any) -> None:
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=PATIENCE_S) as client:
        answer = await client.post(
            f"/governance/v1/approvals/{approval_id}/votes", json={"decision": decision, **fields}
        )
        assert answer.status_code == 200, answer.text


async def pending(gateway: Gateway) -> str:
    """Wait until one approval is pending; return it."""
    headers = {"authorization": f"Bearer {MASTER_KEY}"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=PATIENCE_S) as client:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            page = (await client.get("/governance/v1/approvals/", params={"state": "requested"})).json()
            if page["approvals"]:
                assert len(page["approvals"]) == 1
                return str(page["approvals"][0]["id"])
            await asyncio.sleep(0.1)
    raise AssertionError("nothing waits for approval")


async def decided_while_waiting(
    work: Awaitable[Any], gateway: Gateway, decide: Callable[[str], Awaitable[None]]
) -> Any:
    waiting = asyncio.ensure_future(work)
    await decide(await pending(gateway))
    return await asyncio.wait_for(waiting, PATIENCE_S)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_waits_is_sent_once_when_a_person_has_agreed(
    asking: Gateway, upstream: Upstream, grace: str, stream: bool
) -> None:
    async def decide(approval_id: str) -> None:
        assert upstream.requests == []
        await vote(asking, grace, approval_id)

    async with adapter(asking, asking.new_key()) as client:
        call = client.complete_chat(ask(f"wait {stream}"), **LONG, stream=stream, approval="wait")
        answer = await decided_while_waiting(call, asking, decide)
        text = "".join([chunk.content async for chunk in answer]) if stream else answer.content
    assert text == "Hello from upstream"
    assert len(upstream.requests) == 1


async def test_a_rejection_ends_the_wait_with_the_reviewers_words(
    asking: Gateway, upstream: Upstream, grace: str
) -> None:
    async def decide(approval_id: str) -> None:
        await vote(asking, grace, approval_id, "reject", comment="Shorter, please.")

    async with adapter(asking, asking.new_key()) as client:
        with pytest.raises(ga.ApprovalRejected, match="Shorter, please") as caught:
            await decided_while_waiting(client.complete_chat(ask("no"), **LONG, approval="wait"), asking, decide)
    assert caught.value.policies == ["long-answers"]
    assert caught.value.approval is not None
    assert (caught.value.approval.state, caught.value.approval.comment) == ("rejected", "Shorter, please.")
    assert upstream.requests == []


async def test_who_waits_in_vain_comes_back_later_with_the_approval(
    asking: Gateway, upstream: Upstream, grace: str
) -> None:
    async with adapter(asking, asking.new_key()) as client:
        with pytest.raises(ga.ApprovalTimeout) as caught:
            await client.complete_chat(ask("later"), **LONG, approval="wait", approval_timeout=0.5)
        approval = caught.value.approval
        assert approval is not None
        assert (await client.get_approval(approval.id)).state == "requested"
        await vote(asking, grace, approval.id)
        assert upstream.requests == []
        answer = await client.complete_chat(ask("later"), **LONG, approval_id=approval.id)
        assert answer.content == "Hello from upstream"
        assert (await client.get_approval(approval.id)).state == "consumed"
        with pytest.raises(ga.ApprovalExpired):
            await client.complete_chat(ask("later"), **LONG, approval_id=approval.id)
    assert len(upstream.requests) == 1


async def test_asking_for_approval_sends_nothing_and_comes_back_at_once(
    asking: Gateway, upstream: Upstream, grace: str
) -> None:
    async with adapter(asking, asking.new_key()) as client:
        approval = await client.request_approval(ask("first ask"), **LONG)
        assert (approval.state, approval["rules"]) == ("requested", ["long-answers"])
        assert (await client.request_approval(ask("first ask"), **LONG)).id == approval.id
        await vote(asking, grace, approval.id)
        again = await client.request_approval(ask("first ask"), **LONG)  # it is approved now, and still nothing is sent
        assert (again.id, again.state) == (approval.id, "approved")
        assert upstream.requests == []
        assert (await client.complete_chat(ask("first ask"), **LONG, approval_id=approval.id)).content
        assert len(upstream.requests) == 1
        with pytest.raises(ga.BadRequest) as caught:
            await adapter(asking, asking.new_key()).get_approval(approval.id)
        assert caught.value.status == 404


async def test_a_caller_may_want_a_person_where_no_rule_does(asking: Gateway, upstream: Upstream) -> None:
    root = asking.new_key(user_id="root")
    async with adapter(asking, asking.new_key()) as client:
        approval = await client.request_approval(ask("may I?"), "up-chat", max_tokens=5)
        assert approval["rules"] == ["caller/approval"]
        await vote(asking, root, approval.id, "reject")
    careful = ga.SafetyConfig(require_approval_over=0.00001)
    async with adapter(asking, asking.new_key(), safety=careful) as client:
        with pytest.raises(ga.ApprovalRequired) as caught:
            await client.complete_chat(ask("dear"), "up-chat", max_tokens=40)
        assert caught.value.approval is not None
        assert upstream.requests == []
        await vote(asking, root, caught.value.approval.id)
        call = client.complete_chat(ask("dear"), "up-chat", max_tokens=40, approval_id=caught.value.approval.id)
        assert (await call).content == "Hello from upstream"
    async with adapter(asking, asking.new_key(), safety=ga.SafetyConfig(require_approval_over=1)) as client:
        assert (await client.complete_chat(ask("cheap"), "up-chat", max_tokens=40)).content == "Hello from upstream"
    assert len(upstream.requests) == 2


async def test_the_gateway_enforces_the_callers_own_limits_too(asking: Gateway, upstream: Upstream) -> None:
    async with adapter(asking, asking.new_key(), safety=ga.SafetyConfig(max_tokens_per_request=20)) as client:
        with pytest.raises(ga.LimitExceeded, match="20") as caught:
            await client.complete_chat(ask("too long"), "up-chat", max_tokens=40)
        assert caught.value.status is None  # before it was sent
        client._chat._guard.check_estimate = lambda estimate: None  # type: ignore[method-assign]
        with pytest.raises(ga.LimitExceeded, match="X-Gatehouse-Max-Tokens") as caught:
            await client.complete_chat(ask("too long"), "up-chat", max_tokens=40)
        assert caught.value.status == 413
    async with adapter(asking, asking.new_key(), safety=ga.SafetyConfig(max_budget_per_request=0.00001)) as client:
        with pytest.raises(ga.LimitExceeded, match=r"\$"):
            await client.complete_chat(ask("too dear"), "up-chat", max_tokens=40)
    assert upstream.requests == []


async def test_an_estimate_says_tokens_cost_and_where_the_price_is_from(asking: Gateway, upstream: Upstream) -> None:
    async with adapter(asking, asking.new_key()) as client:
        found = await client.get_cost_estimate(ask("How much?"), "up-chat", max_tokens=40)
    assert (found.output_tokens, found.price_source, found.within_limits, found.refusal) == (40, "config", True, None)
    assert found.estimated_cost_usd == pytest.approx(found.input_tokens * 1e-6 + 40 * 2e-6)
    assert upstream.requests == []


async def test_budget_and_usage_are_those_of_the_key_and_with_the_master_key_of_all(asking: Gateway) -> None:
    # What LiteLLM tells: a key of a user all of it, a key of nobody its total, the master key everything of everybody.
    users, nobodys = asking.new_key(user_id="ada", max_budget=1.0), asking.new_key(max_budget=2.0)
    today = datetime.now(UTC).date().isoformat()
    async with adapter(asking, users) as ada, adapter(asking, nobodys) as nobody, adapter(asking, MASTER_KEY) as all_of:
        fresh = await ada.check_budget_limit()
        assert (fresh.within_budget, fresh.current_spend, fresh.remaining_budget, fresh.limit) == (True, 0, 1.0, 1.0)
        cost = (await ada.complete_chat(ask("spend"), "demo", max_tokens=5)).cost_usd
        assert (await nobody.complete_chat(ask("spend"), "demo", max_tokens=5)).cost_usd == cost
        assert cost
        await written_down(ada, nobody)
        status = await ada.check_budget_limit(limit=cost / 2)
        assert (status.within_budget, bool(status), status.remaining_budget, status.scope) == (False, False, 0.0, "key")
        assert status.current_spend == pytest.approx(cost)
        assert (await ada.check_budget_limit(limit=5.0)).limit == 1.0  # the key's own is lower
        stats = await ada.get_usage_stats(days=2)
        assert stats.total_spend == pytest.approx(cost)
        assert stats.by_day == {today: pytest.approx(cost)}
        assert stats.by_model == {"echo/demo": pytest.approx(cost)}
        assert (stats.end, stats.scope) == (today, "key")
        total = await nobody.get_usage_stats()
        assert (total.total_spend, total.by_model, total.by_day) == (pytest.approx(cost), None, None)
        everything = await all_of.check_budget_limit()
        assert (everything.scope, everything.limit, everything.remaining_budget) == ("all", None, None)
        usage = await all_of.get_usage_stats()
        assert (usage.scope, usage.total_spend >= 2 * cost * 0.99) == ("all", True)


async def written_down(user: ga.LiteLLMAdapter, nobody: ga.LiteLLMAdapter) -> None:
    """LiteLLM writes what was spent some seconds after the calls."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        spent = await user.check_budget_limit(), await nobody.check_budget_limit()
        if all(each.current_spend for each in spent) and (await user.get_usage_stats()).by_day:
            return
        await asyncio.sleep(0.5)
    raise AssertionError("what was spent is not written down")


def test_the_sync_adapter_does_the_same(asking: Gateway, upstream: Upstream, grace: str) -> None:
    with ga.LiteLLMAdapterSync(base_url=asking.url, api_key=asking.new_key(), timeout=PATIENCE_S) as client:
        assert client.validate_proxy_health()
        assert "up-chat" in [model.id for model in client.get_available_models()]
        assert client.get_cost_estimate(ask("sync"), "up-chat").input_tokens > 0
        assert client.check_budget_limit()
        assert client.get_usage_stats().total_spend == 0
        approval = client.request_approval(ask("sync"), **LONG, stream=True)
        assert client.get_approval(approval.id).state == "requested"
        asyncio.run(vote(asking, grace, approval.id))
        stream = client.complete_chat(ask("sync"), **LONG, stream=True, approval_id=approval.id)
        assert "".join(chunk.content for chunk in stream) == "Hello from upstream"
        assert stream.call_id
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_calls_whose_connections_break_anywhere_are_charged_once_at_most(
    asking: Gateway, upstream: Upstream, stream: bool
) -> None:
    key, cuts = asking.new_key(), iter(range(10_000))

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Every second connection ends: before a byte goes on, once the request has, or within the answer.
        cut = next(cuts) % 6
        there, to_gateway = await asyncio.open_connection("127.0.0.1", asking.port)
        with suppress(ConnectionError):
            if cut != 1:
                to_gateway.write(await reader.read(65536))
                if cut != 3:
                    backwards = asyncio.ensure_future(reader.read(65536))
                    size = 40 if cut == 5 else 65536
                    while part := await there.read(size):
                        writer.write(part)
                        await writer.drain()
                        if cut == 5 or backwards.done():
                            break
                    backwards.cancel()
        writer.close()
        to_gateway.close()

    async def call(client: ga.LiteLLMAdapter, number: int) -> str:
        answer = await client.complete_chat(ask(f"call <{number}>"), "up-chat", max_tokens=5, stream=stream)
        if isinstance(answer, ga.ChatStream):
            return "".join([chunk.content async for chunk in answer])
        return answer.content or ""

    proxy = await asyncio.start_server(forward, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    options = {"base_url": url, "api_key": key, "timeout": PATIENCE_S, "breaker_failure_threshold": 1_000}
    outcomes: list[Any] = []
    for number in range(24):
        async with ga.LiteLLMAdapter(**options) as client:
            outcomes += await asyncio.gather(call(client, number), return_exceptions=True)
    proxy.close()
    assert all(isinstance(each, str | ga.GatehouseError) for each in outcomes), outcomes
    assert outcomes.count("Hello from upstream") == 12
    for number in range(24):
        assert upstream.received.count(f"call <{number}>") <= 1


async def test_who_waits_hears_of_the_decision_also_after_the_gateway_was_restarted(
    asking: Gateway, upstream: Upstream, grace: str
) -> None:
    async with adapter(asking, asking.new_key()) as client:
        waiting = asyncio.ensure_future(client.complete_chat(ask("restart"), **LONG, approval="wait"))
        approval_id = await pending(asking)
        await asyncio.to_thread(asking.server.stop)
        await asyncio.sleep(2)  # so that somebody asks while it is away
        assert not waiting.done()
        await asyncio.to_thread(asking.start)
        await vote(asking, grace, approval_id)
        answer = await asyncio.wait_for(waiting, PATIENCE_S)
    assert answer.content == "Hello from upstream"
    assert [path for path, _ in upstream.requests] == ["/v1/chat/completions"]


# --- content


async def told(client: ga.LiteLLMAdapter, stream: bool) -> str:
    answer = await client.complete_chat(ask("Tell me"), "up-chat", max_tokens=9, stream=stream)
    return (
        "".join([chunk.content async for chunk in answer]) if isinstance(answer, ga.ChatStream) else answer["content"]
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_categories_that_an_agent_blocks_are_blocked_both_ways(
    asking: Gateway, upstream: Upstream, stream: bool
) -> None:
    safety_config = ga.SafetyConfig(blocked_content_types=["harmful", "illegal"])
    async with adapter(asking, asking.new_key(), safety_config=safety_config) as client:
        with pytest.raises(ga.ContentBlocked, match=r"messages\[0\]\.content: harmful"):
            await client.complete_chat(ask("How do I build a bomb?"), "up-chat", max_tokens=9, stream=stream)
        assert upstream.requests == []
        upstream.says = lambda _: "First you launder money, then you run."
        with pytest.raises(ga.ContentBlocked, match="illegal"):
            await told(client, stream)
    async with adapter(asking, asking.new_key()) as client:
        assert "launder money" in await told(client, stream)


async def test_an_unknown_category_is_refused_by_name(asking: Gateway, upstream: Upstream) -> None:
    safety = ga.SafetyConfig(blocked_content_types=["image_url"])
    async with adapter(asking, asking.new_key(), safety=safety) as client:
        with pytest.raises(ga.BadRequest, match=r"image_url.*no category"):
            await client.complete_chat(ask("Hi"), "up-chat", max_tokens=9)
    assert upstream.requests == []
