"""Library mode works against the real gateway: it decides, LiteLLM calls the model here, and the gateway seals."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from gatehouse_adapter.litellm import ApprovalRejected, Governor, PolicyDeniedError

from tests.support.gateway import Gateway
from tests.support.process import wait_until
from tests.support.upstream import Upstream

MAIL = "ada.lovelace@example.com"


def governor(gateway: Gateway, agent: str = "planner", **key: Any) -> Governor:
    return Governor(gateway.url, agent, gateway.new_key(**key), call_timeout_seconds=30, tenant_id="acme")


def to(upstream: Upstream, text: str = "Hello", **options: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    return {"model": "gpt-4o", "messages": messages, "api_base": upstream.url, "api_key": "sk-provider", **options}


def capsules(gateway: Gateway, alias: str, count: int) -> list[dict[str, Any]]:
    """Return the capsules of library mode's calls with a key of this name, once there are so many."""
    found: list[str] = []

    def are_there() -> bool:
        rows = gateway.calls().items()
        mine = [(call_id, row) for call_id, row in rows if row["request"]["caller"].get("key_alias") == alias]
        assert all(row["request"]["library"] for _, row in mine)
        found[:] = [call_id for call_id, row in mine if row["settled_at"]]
        return len(found) >= count

    wait_until(are_there, f"{count} calls of {alias} are sealed", 60)
    assert len(found) == count
    return [gateway.capsule(call_id) for call_id in found]


async def test_what_is_masked_comes_back_whole_streamed_sync_and_async(governed: Gateway, upstream: Upstream) -> None:
    upstream.says = lambda asked: f"Wrote to {asked[(at := asked.index('<EMAIL')) : asked.index('>', at) + 1]}."
    mine = governor(governed, key_alias="library, masked")
    asking = to(upstream, f"Write to {MAIL}")
    stream = await mine.acompletion(**asking, stream=True)
    said = [
        mine.completion(**asking).choices[0].message.content,
        (await mine.acompletion(**asking)).choices[0].message.content,
        "".join(chunk.choices[0].delta.content or "" for chunk in mine.completion(**asking, stream=True)),
        "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]),
    ]
    assert said == [f"Wrote to {MAIL}."] * 4
    assert MAIL not in upstream.received
    assert mine.flush(60)
    for capsule in capsules(governed, "library, masked", 4):
        assert capsule["outcome"]["status"] == "success"
        assert MAIL not in json.dumps(capsule)
        assert capsule["execution"]["resources_used"]["tokens_out"] == 2


def test_a_denial_is_the_gateways_own_and_nothing_is_sent(governed: Gateway, upstream: Upstream) -> None:
    mine = governor(governed, key_alias="intern of library mode")
    with pytest.raises(PolicyDeniedError, match="Interns ask a colleague") as caught:
        mine.completion(**to(upstream))
    assert caught.value.policies == ["interns-stay-out"]
    with pytest.raises(PolicyDeniedError) as unknown:
        Governor(governed.url, "planner", "sk-nobody-knows").completion(**to(upstream))
    assert unknown.value.status == 401
    assert upstream.requests == []


def test_an_answer_that_a_screen_blocks_is_withheld(governed: Gateway, upstream: Upstream) -> None:
    upstream.says = lambda asked: "Have some forbidden fruit."
    with pytest.raises(PolicyDeniedError) as caught:
        governor(governed).completion(**to(upstream))
    assert caught.value.code == "content_blocked"


@pytest.mark.parametrize("word", ["approve", "reject"])
async def test_a_held_call_goes_on_when_a_person_has_decided(governed: Gateway, upstream: Upstream, word: str) -> None:
    with governed.client() as client:
        client.post("/user/new", json={"user_id": "margaret", "user_role": "internal_user", "auto_create_key": False})
    reviewer = governed.new_key(user_id="margaret")

    def vote() -> None:
        with governed.client(reviewer) as client:
            waiting: list[str] = []

            def asked() -> bool:
                found = client.get("/governance/v1/approvals/", params={"state": "requested"}).json()["approvals"]
                waiting[:] = [each["id"] for each in found]
                return waiting != []

            wait_until(asked, "somebody asks", 60)
            client.post(f"/governance/v1/approvals/{waiting[0]}/votes", json={"decision": word}).raise_for_status()

    voting = threading.Thread(target=vote)
    voting.start()
    call = asyncio.create_task(governor(governed, "careful").acompletion(**to(upstream, f"May I {word}?")))
    if word == "approve":
        assert (await call).choices[0].message.content == "Hello from upstream"
        assert len(upstream.requests) == 1
    else:
        with pytest.raises(ApprovalRejected) as caught:
            await call
        assert caught.value.policies == ["careful-agents-ask"]
        assert upstream.requests == []
    await asyncio.to_thread(voting.join)


async def test_failures_and_streams_left_early_are_sealed_as_such(governed: Gateway, upstream: Upstream) -> None:
    mine = governor(governed, key_alias="library, endings")
    stream = await mine.acompletion(**to(upstream), stream=True)
    await anext(stream)
    await stream.aclose()
    upstream.status = 500
    with pytest.raises(Exception, match="upstream says no"):
        await mine.acompletion(**to(upstream), max_retries=0)
    assert mine.flush(60)
    endings = capsules(governed, "library, endings", 2)
    assert sorted(capsule["outcome"]["status"] for capsule in endings) == ["failure", "partial"]
    upstream.reset()
