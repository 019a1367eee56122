"""The approvals API above the desk: it reads a vote, says whose it is, and answers what the desk says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from gatehouse.api import approvals
from gatehouse.approvals.desk import MAX_COMMENT_CHARS, MAX_MODEL_CHARS, KeyHolder, Seen
from gatehouse.approvals.event_stream import ApprovalEvent, Subscriber
from gatehouse.approvals.model import Edit, State, Voter
from gatehouse.core.errors import AccessDenied, Conflict, Gone, GovernanceError, GovernanceUnavailable, NotFound
from gatehouse.proxy.litellm_api import ProxyException, UserAPIKeyAuth, user_api_key_auth

from tests.support.approvals import NOW, asked

ASKED = asked()
PATH = f"/governance/v1/approvals/{ASKED.id}"


GRACE = Voter("grace", "proxy_admin")


class FakeDesk:
    """Notes what it is asked, and refuses where a refusal is set."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.refusal: GovernanceError | None = None

    async def see(self, approval_id: UUID, by: KeyHolder) -> Seen:
        return self._answer("see")

    async def vote(self, approval_id: UUID, by: KeyHolder, **said: Any) -> Seen:
        return self._answer(said)

    async def cancel(self, approval_id: UUID, by: KeyHolder) -> Seen:
        return self._answer("cancel")

    @asynccontextmanager
    async def follow(self, by: KeyHolder) -> AsyncIterator[tuple[list[ApprovalEvent], Subscriber]]:
        self.asked.append("follow")
        subscriber = Subscriber(GRACE)
        subscriber.queue.put_nowait(ApprovalEvent(ASKED, State.APPROVED, NOW))
        subscriber.queue.put_nowait(None)
        yield [ApprovalEvent(ASKED, State.REQUESTED, NOW)], subscriber
        self.asked.append("left")

    def _answer(self, said: Any) -> Seen:
        if self.refusal is not None:
            raise self.refusal
        self.asked.append(said)
        return Seen(ASKED, GRACE, NOW)


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def app(desk: FakeDesk) -> FastAPI:
    app = FastAPI()
    app.state.gatehouse = SimpleNamespace(desk=desk)
    app.include_router(approvals.router)
    key = UserAPIKeyAuth(api_key="k-grace", user_id="grace", user_role="proxy_admin")
    app.dependency_overrides[user_api_key_auth] = lambda: key
    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway") as client:
        yield client


@pytest.mark.parametrize("kind", [NotFound, AccessDenied, Conflict, Gone, GovernanceUnavailable])
async def test_what_the_desk_refuses_is_answered_in_the_shape_of_our_errors(
    client: httpx.AsyncClient, desk: FakeDesk, kind: type[GovernanceError]
) -> None:
    desk.refusal = kind("No. Ask another way.")
    for answer in (
        await client.get(PATH),
        await client.post(f"{PATH}/cancel"),
        await client.post(f"{PATH}/votes", json={"decision": "approve"}),
    ):
        assert (answer.status_code, answer.json()) == (desk.refusal.status, desk.refusal.body(None))


async def test_a_vote_is_handed_to_the_desk_as_it_is_said(client: httpx.AsyncClient, desk: FakeDesk) -> None:
    votes = [
        {"decision": "reject", "comment": "Too dear."},
        {"decision": "approve", "comment": "", "edit": None},
        {"decision": "approve", "edit": {"model": "small", "max_tokens": 5}},
    ]
    for vote in votes:
        assert (await client.post(f"{PATH}/votes", json=vote)).status_code == 200
    assert desk.asked == [
        {"approve": False, "comment": "Too dear.", "edit": None},
        {"approve": True, "comment": None, "edit": None},
        {"approve": True, "comment": None, "edit": Edit("small", 5)},
    ]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        pytest.param(b"", "body", id="nothing"),
        pytest.param(b"[]", "body", id="a list"),
        pytest.param(b"\xff", "body", id="no text"),
        pytest.param(b'{"decision": "maybe"}', "decision", id="another decision"),
        pytest.param(b'{"decision": "approve", "user_id": "root"}', "user_id", id="whose vote it is"),
        pytest.param(
            json.dumps({"decision": "approve", "comment": "x" * (MAX_COMMENT_CHARS + 1)}),
            "comment",
            id="a long comment",
        ),
        pytest.param(
            json.dumps({"decision": "approve", "edit": {"model": "x" * (MAX_MODEL_CHARS + 1)}}),
            "model",
            id="a long name",
        ),
        pytest.param(b'{"decision": "approve", "edit": {"model": ""}}', "model", id="no name"),
        pytest.param(b'{"decision": "approve", "edit": {"max_tokens": 0}}', "max_tokens", id="no tokens"),
        pytest.param(b'{"decision": "approve", "edit": {"max_tokens": "5"}}', "max_tokens", id="tokens as text"),
        pytest.param(b'{"decision": "approve", "edit": {"max_tokens": 1e99}}', "max_tokens", id="too many tokens"),
        pytest.param(b'{"decision": "approve", "edit": {"messages": []}}', "messages", id="an edit of something else"),
        pytest.param(b'{"decision": "approve"}' + b" " * 65_536, "body", id="a long body"),
    ],
)
async def test_what_is_no_vote_is_told_its_place_and_never_reaches_the_desk(
    client: httpx.AsyncClient, desk: FakeDesk, body: bytes | str, place: str
) -> None:
    answer = await client.post(f"{PATH}/votes", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(f"{place}: ")
    assert desk.asked == []


async def test_a_cancellation_says_nothing_else(client: httpx.AsyncClient, desk: FakeDesk) -> None:
    assert (await client.post(f"{PATH}/cancel", json={"id": "another"})).status_code == 400
    assert desk.asked == []
    assert (await client.post(f"{PATH}/cancel", content=b" {} ")).status_code == 200
    assert desk.asked == ["cancel"]


@pytest.mark.parametrize("key", ["sk-grace", hashlib.sha256(b"sk-grace").hexdigest()], ids=["plain", "hashed"])
async def test_a_voter_is_the_keys_user_and_the_key_is_known_by_its_hash(key: str) -> None:
    caller = SimpleNamespace(api_key=key, user_id="grace", user_role="internal_user", team_id="sales")
    assert await approvals._key_holder(caller) == KeyHolder(
        "grace", "internal_user", "sales", hashlib.sha256(b"sk-grace").hexdigest()
    )


async def test_litellms_refusal_of_an_auditors_vote_is_ours_and_its_refusal_of_a_key_is_its_own(
    app: FastAPI, client: httpx.AsyncClient
) -> None:
    code = "403"

    def refuse() -> None:
        raise ProxyException(message="no", type="auth_error", param=None, code=code)

    app.dependency_overrides[user_api_key_auth] = refuse
    answer = await client.post(f"{PATH}/votes", json={"decision": "approve"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "access_denied")
    code = "401"
    with pytest.raises(ProxyException):
        await client.post(f"{PATH}/votes", json={"decision": "approve"})


async def test_events_begin_with_what_waits_and_whoever_follows_is_let_go_at_the_end(
    client: httpx.AsyncClient, desk: FakeDesk
) -> None:
    answer = await client.get("/governance/v1/approvals/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    names = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    assert names == ["requested", "ready", "decided"]
    assert desk.asked == ["follow", "left"]
