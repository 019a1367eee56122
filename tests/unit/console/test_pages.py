"""The console's pages hand forms to the desk, show its refusals, and keep auditors' pages for auditors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from gatehouse.approvals.desk import Opened, Seen
from gatehouse.approvals.model import Edit, Pending, State, Voter
from gatehouse.console import access, inbox, records
from gatehouse.console import queries as db
from gatehouse.console.access import Visitor
from gatehouse.console.session import Sealer, new_session
from gatehouse.core.errors import AccessDenied, Conflict, Gone, GovernanceError

from tests.support.approvals import NOW, asked

ASKED = asked(summary={"prompt": '{"messages": [{"role": "user", "content": "a <b>question</b>"}]}'})
PAGE = f"/governance/approvals/{ASKED.id}"
SEALER = Sealer("sk-master")


class FakeDesk:
    """Notes votes; refuses to open or to vote where a refusal is set."""

    def __init__(self) -> None:
        self.votes: list[dict[str, Any]] = []
        self.refusal: GovernanceError | None = None

    async def see_all(self, approval_ids: list[UUID], by: Voter) -> list[Seen]:
        return [Seen(ASKED, by, NOW) for each in approval_ids if each == ASKED.id]

    async def history(self, approval_id: UUID, by: Voter) -> tuple[Seen, list[Any]]:
        return Seen(ASKED, by, NOW), []

    async def page(self, by: Voter, state: State | None, limit: int, before: UUID | None) -> Any:
        return [Seen(ASKED, by, NOW)], ASKED.id

    async def open(self, approval_id: UUID, by: Voter, *, values: bool = False) -> Opened:
        if self.refusal is not None:
            raise self.refusal
        request = {"caller": {"user": "ada"}, "route": "/r", "body": {"model": "large"}, "policy_version": "v1"}
        return Opened(ASKED, request, {"<X_1>": "anna@bank.example"} if values else None)

    async def vote(self, approval_id: UUID, by: Voter, **said: Any) -> Seen:
        if self.refusal is not None:
            raise self.refusal
        self.votes.append({"by": by.user_id, **said})
        return Seen(ASKED, by, NOW)


class Door:
    """Lets one person in."""

    def __init__(self) -> None:
        self.role = "proxy_admin"
        self.session = new_session("k-grace", NOW.timestamp())

    async def visitor(self, request: object) -> Visitor:
        person = db.Person("grace", self.role, frozenset(), "k-grace")
        return Visitor(person, self.session, SEALER.csrf_token(self.session))

    def form(self, **fields: str) -> dict[str, str]:
        return {"csrf": SEALER.csrf_token(self.session), **fields}


@contextmanager
def looking(_: str) -> Iterator[None]:
    yield


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
async def client(desk: FakeDesk, door: Door, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    pending = [Pending(ASKED.id, {}, {"user": "ada"}, []), Pending(UUID(int=2), {}, {"user": "ada"}, [])]
    monkeypatch.setattr(db, "looking", looking)
    monkeypatch.setattr(db, "pending", lambda connection: pending)
    monkeypatch.setattr(db, "last_approvals", lambda connection, hashes: {})
    monkeypatch.setattr(access, "_sealer", lambda: SEALER)
    app = FastAPI()
    app.state.gatehouse = SimpleNamespace(
        desk=desk, sessions=door, settings=SimpleNamespace(database_url="postgresql://")
    )
    app.include_router(inbox.router)
    app.include_router(records.router)
    headers = {"origin": "http://gateway"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://gateway", headers=headers
    ) as client:
        yield client


async def test_the_inbox_shows_a_card_for_each_request_and_is_silent_while_nothing_changes(
    client: httpx.AsyncClient,
) -> None:
    whole = await client.get("/governance")
    assert whole.status_code == 200
    assert "ada asks large" in whole.text
    assert "a &lt;b&gt;question&lt;/b&gt;" in whole.text
    mark = whole.text.partition("mark=")[2].partition('"')[0].partition("&")[0]
    assert (await client.get("/governance/pending", params={"mark": mark})).status_code == 204
    assert (await client.get("/governance/pending", params={"mark": "another"})).status_code == 200


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        pytest.param(
            {"vote": "approve", "comment": " Fine. "}, {"approve": True, "comment": "Fine.", "edit": None}, id="yes"
        ),
        pytest.param({"vote": "reject", "model": "small"}, {"approve": False, "comment": None, "edit": None}, id="no"),
        pytest.param(
            {"vote": "approve", "model": " small ", "max_tokens": "5"},
            {"approve": True, "comment": None, "edit": Edit("small", 5)},
            id="less",
        ),
    ],
)
async def test_a_form_is_handed_to_the_desk_as_a_vote_of_the_person_who_is_signed_in(
    client: httpx.AsyncClient, desk: FakeDesk, door: Door, fields: dict[str, str], said: dict[str, Any]
) -> None:
    answer = await client.post(f"{PAGE}/vote", data=door.form(user="root", **fields))
    assert (answer.status_code, answer.headers["location"]) == (303, PAGE)
    assert desk.votes == [{"by": "grace", **said}]


@pytest.mark.parametrize("vote", ["", "maybe"], ids=["none", "another"])
async def test_a_form_without_a_vote_is_none(client: httpx.AsyncClient, desk: FakeDesk, door: Door, vote: str) -> None:
    assert (await client.post(f"{PAGE}/vote", data=door.form(vote=vote))).status_code == 400
    assert desk.votes == []


@pytest.mark.parametrize(
    "tokens", ["-1", "1e3", "5 000", "\u0665", "9" * 10], ids=["less", "e", "gap", "arabic", "long"]
)
async def test_tokens_are_a_whole_number(client: httpx.AsyncClient, desk: FakeDesk, door: Door, tokens: str) -> None:
    fields = door.form(vote="approve", max_tokens=tokens)
    assert (await client.post(f"{PAGE}/vote", data=fields)).status_code == 400
    assert desk.votes == []


async def test_a_form_without_the_sessions_token_does_nothing(client: httpx.AsyncClient, desk: FakeDesk) -> None:
    for path in ("vote", "values"):
        assert (await client.post(f"{PAGE}/{path}", data={"vote": "approve", "csrf": "x"})).status_code == 403
    assert desk.votes == []


async def test_a_refusal_of_the_desk_is_a_page_and_who_may_not_open_a_request_reads_its_summary(
    client: httpx.AsyncClient, desk: FakeDesk, door: Door
) -> None:
    desk.refusal = Conflict("You have voted on this already.")
    answer = await client.post(f"{PAGE}/vote", data=door.form(vote="approve"))
    assert answer.status_code == 409
    assert "You have voted on this already." in answer.text
    for refusal in (AccessDenied("Not yours to open."), Gone("Erased.")):
        desk.refusal = refusal
        answer = await client.get(PAGE)
        assert answer.status_code == 200
        assert refusal.message in answer.text
        assert "a &lt;b&gt;question&lt;/b&gt;" in answer.text
        assert (await client.get(f"{PAGE}/request.json")).status_code == refusal.status


async def test_values_are_on_the_page_only_after_asking(client: httpx.AsyncClient, door: Door) -> None:
    assert "anna@bank.example" not in (await client.get(PAGE)).text
    assert "anna@bank.example" in (await client.post(f"{PAGE}/values", data=door.form())).text


async def test_history_leads_to_the_page_where_the_desk_says_it_goes_on(client: httpx.AsyncClient) -> None:
    answer = await client.get("/governance/history", params={"state": "approved"})
    assert f"before={ASKED.id}&amp;state=approved" in answer.text


RECORDS = [route.path for route in records.router.routes if isinstance(route, APIRoute)]


@pytest.mark.parametrize("path", RECORDS)
async def test_every_page_of_records_is_closed_to_those_who_are_no_auditors(
    client: httpx.AsyncClient, door: Door, path: str
) -> None:
    door.role = "internal_user"
    answer = await client.get(path.format(call_id=ASKED.id))
    assert answer.status_code == 403
    assert "for administrators and auditors" in answer.text


def test_there_are_pages_of_records() -> None:
    assert len(RECORDS) >= 5
