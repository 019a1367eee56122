"""The adapter waits for a person, also when the gateway says so late, loses its stream, or goes away meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import gatehouse_adapter as ga
import pytest
import pytest_asyncio
from gatehouse_adapter._internal import decisions

from tests.support.byte_gateway import ASK, KEY, ByteGateway, answers_with, demo, serving, streams

CHAT = "/v1/chat/completions"
ID = "01a1fd22-6512-7c11-8a4e-0d1d9c4f7a55"
OTHER = "01a1fd22-6512-7c11-8a4e-0d1d9c4f7a66"
STATUS = f"/governance/v1/approvals/{ID}"
EVENTS = "/governance/v1/approvals/events"


class Reviewed(ByteGateway):
    """Runs a gateway at which everything needs approval."""

    state = "requested"
    more: dict[str, Any]
    decided: asyncio.Event

    def shown(self, found: str = ID) -> dict[str, Any]:
        return {"id": found, "state": self.state, "expires_at": "2026-11-21T20:00:00+00:00", "votes": []} | self.more

    async def chat(self, body: Any, writer: asyncio.StreamWriter) -> None:
        named = self.requests[-1][1].get("x-gatehouse-approval")
        if named in (ID, OTHER) and self.state in ("approved", "replaced"):
            await demo(body, writer)
            return
        approval = {"id": ID, "expires_at": None, "status_url": STATUS}
        error = {"message": "Ask.", "code": "approval_required", "gatehouse": {"approval": approval}}
        await answers_with({"error": error}, 403)(body, writer)

    async def status(self, body: Any, writer: asyncio.StreamWriter) -> None:
        await answers_with(self.shown())(body, writer)

    async def events(self, body: Any, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head + b"16\r\nevent: ready\ndata: {}\n\r\n")
        await writer.drain()
        await self.decided.wait()
        event = f"event: decided\ndata: {json.dumps({'id': ID, 'state': self.state})}\n\n".encode()
        writer.write(b"%x\r\n%s\r\n" % (len(event) + 1, b"\n" + event))
        await writer.drain()
        await asyncio.sleep(60)

    def sent(self) -> list[str | None]:
        """Return the approvals that chat calls named, in order."""
        return [headers.get("x-gatehouse-approval") for path, headers, _ in self.requests if path == CHAT]


@pytest_asyncio.fixture
async def gateway() -> AsyncIterator[Reviewed]:
    async with serving() as plain:
        found = Reviewed(url=plain.url)
        found.more, found.decided = {}, asyncio.Event()
        plain.requests = found.requests
        plain.handlers |= {CHAT: found.chat, STATUS: found.status, EVENTS: found.events}
        found.handlers = plain.handlers
        yield found


def client(gateway: ByteGateway, **options: Any) -> ga.LiteLLMAdapter:
    return ga.LiteLLMAdapter(base_url=gateway.url, api_key=KEY, **{"timeout": 30.0, **options})


async def until_asked(gateway: ByteGateway, path: str, times: int = 1) -> None:
    async with asyncio.timeout(30):
        while sum(asked == path for asked, _, _ in gateway.requests) < times:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_decision_wakes_the_call_which_is_sent_once_with_its_id(
    gateway: Reviewed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "_LOOK_SECONDS", 600.0)  # so that only an event can wake it
    monkeypatch.setattr(decisions, "_LOOK_AT_MOST_SECONDS", 600.0)
    async with client(gateway) as adapter:
        call = asyncio.create_task(adapter.complete_chat(ASK, "demo", approval="wait", temperature=0))
        await until_asked(gateway, EVENTS)
        await until_asked(gateway, STATUS, 2)  # once before the stream of events began, and once after
        gateway.state = "approved"
        gateway.decided.set()
        assert (await asyncio.wait_for(call, 30)).content == "Hello."
    assert gateway.sent() == [None, ID]
    first, second = ((headers, body) for path, headers, body in gateway.requests if path == CHAT)
    assert first[0]["x-gatehouse-hold"] == second[0]["x-gatehouse-hold"] == "0"
    assert first[1] == second[1]


async def test_many_who_wait_share_one_stream_of_events(gateway: Reviewed) -> None:
    async with client(gateway) as adapter:
        calls = [asyncio.create_task(adapter.complete_chat(ASK, "demo", approval="wait")) for _ in range(20)]
        await until_asked(gateway, STATUS, 20)
        gateway.state = "approved"
        gateway.decided.set()
        assert {answer.content for answer in await asyncio.gather(*calls)} == {"Hello."}
    assert [path for path, _, _ in gateway.requests].count(EVENTS) == 1


@pytest.mark.parametrize("way", ["refused", "silent", "torn", "garbage"])
async def test_without_events_the_status_is_asked(gateway: Reviewed, way: str) -> None:
    error = answers_with({"error": {"message": "No.", "code": "access_denied"}}, 403)
    gateway.handlers[EVENTS] = {
        "refused": error,
        "silent": streams(60.0),
        "torn": streams(b"event: rea", end=False),
        "garbage": streams(b"data: garbage\n\n" * 3, 60.0),
    }[way]
    async with client(gateway) as adapter:
        call = asyncio.create_task(adapter.complete_chat(ASK, "demo", approval="wait"))
        await until_asked(gateway, STATUS)
        gateway.state = "approved"
        assert (await asyncio.wait_for(call, 30)).content == "Hello."
    assert gateway.sent() == [None, ID]


async def test_a_gateway_that_fails_while_somebody_waits_is_asked_again(gateway: Reviewed) -> None:
    broken = answers_with({"error": {"message": "Oops.", "code": "500"}}, 500)
    gateway.handlers |= {STATUS: broken, EVENTS: broken}
    async with client(gateway, max_retries=0, breaker_failure_threshold=2, breaker_recovery_seconds=0.1) as adapter:
        call = asyncio.create_task(adapter.complete_chat(ASK, "demo", approval="wait"))
        await until_asked(gateway, STATUS)
        gateway.handlers |= {STATUS: gateway.status, EVENTS: gateway.events}
        gateway.state = "approved"
        assert (await asyncio.wait_for(call, 60)).content == "Hello."


async def test_an_edited_request_is_waited_for_under_the_id_that_it_became(gateway: Reviewed) -> None:
    gateway.state, gateway.more = "replaced", {"replaced_by": OTHER}
    approved = {"id": OTHER, "state": "approved", "votes": [{"comment": "The smaller one."}]}
    gateway.handlers[f"/governance/v1/approvals/{OTHER}"] = answers_with(approved)
    async with client(gateway) as adapter:
        assert (await adapter.complete_chat(ASK, "demo", approval="wait")).content == "Hello."
        assert (await adapter.get_approval(OTHER)).comment == "The smaller one."
    assert gateway.sent() == [None, OTHER]


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("rejected", ga.ApprovalRejected),
        ("expired", ga.ApprovalExpired),
        ("cancelled", ga.ApprovalExpired),
        ("consumed", ga.ApprovalExpired),
        ("something new", ga.ApprovalExpired),
    ],
)
async def test_what_is_not_approved_is_not_sent(gateway: Reviewed, state: str, error: type[ga.ApprovalError]) -> None:
    gateway.state, gateway.more = state, {"rules": ["r1"]}
    async with client(gateway) as adapter:
        with pytest.raises(error) as caught:
            await adapter.complete_chat(ASK, "demo", approval="wait")
    assert caught.value.policies == ["r1"]
    assert caught.value.approval is not None
    assert caught.value.approval.id == ID
    assert gateway.sent() == [None]


async def test_waiting_ends_in_time_and_leaves_nothing_behind(gateway: Reviewed) -> None:
    async with client(gateway) as adapter:
        with pytest.raises(ga.ApprovalTimeout, match=r"0\.3 s") as caught:
            await adapter.complete_chat(ASK, "demo", approval="wait", approval_timeout=0.3)
        assert caught.value.approval is not None
        assert caught.value.approval.id == ID
        call = asyncio.create_task(adapter.complete_chat(ASK, "demo", approval="wait"))
        await until_asked(gateway, EVENTS, 2)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.sleep(0.1)
        assert "gatehouse-adapter-approvals" not in {task.get_name() for task in asyncio.all_tasks()}
    assert gateway.sent() == [None, None]


async def test_a_gateway_that_does_not_let_its_approval_be_seen_ends_the_wait(gateway: Reviewed) -> None:
    gateway.handlers[STATUS] = answers_with({"error": {"message": "There is none.", "code": "not_found"}}, 404)
    async with client(gateway) as adapter:
        with pytest.raises(ga.BadRequest):
            await adapter.complete_chat(ASK, "demo", approval="wait")


async def test_asking_says_so_and_a_gateway_that_carries_the_call_out_is_found_out(gateway: Reviewed) -> None:
    async with client(gateway) as adapter:
        approval = await adapter.request_approval(ASK, "demo", stream=True)
        assert (approval.id, approval.state) == (ID, "requested")
        assert gateway.sent() == ["request"]
        gateway.handlers[CHAT] = demo
        with pytest.raises(ga.InvalidResponse, match="made the call, although"):
            await adapter.request_approval(ASK, "demo")


async def test_what_a_reviewer_wrote_cannot_forge_a_line_of_a_log(gateway: Reviewed) -> None:
    gateway.state, gateway.more = (
        "rejected",
        {"votes": [{"comment": "No.\n2026-11-21 ERROR forged\x1b[2J" + "x" * 9_999}]},
    )
    async with client(gateway) as adapter:
        with pytest.raises(ga.ApprovalRejected) as caught:
            await adapter.complete_chat(ASK, "demo", approval="wait")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 3_000


@pytest.mark.parametrize("approval_id", ["", "../../key/info", "x" * 36, None])
async def test_an_id_that_is_none_is_never_sent(gateway: Reviewed, approval_id: Any) -> None:
    async with client(gateway) as adapter:
        with pytest.raises(ga.BadRequest, match="not an approval's id"):
            await adapter.get_approval(approval_id)
        with pytest.raises(ga.ConfigurationError, match="'raise' or to 'wait'"):
            await adapter.complete_chat(ASK, "demo", approval="maybe")  # type: ignore[call-overload]
    assert gateway.requests == []
