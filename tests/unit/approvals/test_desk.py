"""The desk decides who sees, votes, edits and cancels; it writes each change down once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
from gatehouse.approvals import desk, lifecycle
from gatehouse.approvals.audit_entries import AuditEntries, Change
from gatehouse.approvals.binding import bind
from gatehouse.approvals.desk import MAX_MODEL_CHARS, MAX_PAGE, Desk, KeyHolder, Seen
from gatehouse.approvals.event_stream import ApprovalEvent, Subscriber
from gatehouse.approvals.lifecycle import Event, NoVote
from gatehouse.approvals.model import Approval, Edit, ReviewCopy, State, Vote, Voter
from gatehouse.approvals.review_copy import seal
from gatehouse.core.errors import (
    AccessDenied,
    Conflict,
    Gone,
    GovernanceError,
    GovernanceUnavailable,
    InvalidRequest,
    NotFound,
)
from gatehouse.core.keys import InstallationKeys, Purpose
from gatehouse.storage.connection import Pool

from tests.support import approvals
from tests.support.approvals import NOW

KEYS = InstallationKeys("k" * 32)
URL = "postgresql://gatehouse:secret@db/g"
VALUES = {"<EMAIL_ADDRESS_1>": "anna@bank.example"}
BOUND = bind(
    caller={"user": "ada"},
    route="/v1/chat/completions",
    body={"model": "large", "messages": [{"role": "user", "content": "to <EMAIL_ADDRESS_1>"}]},
    policy_version="v1",
    values=VALUES,
    key=KEYS.key(Purpose.APPROVALS),
)
ID, EDITED_ID, UNKNOWN_ID = UUID(int=1), UUID(int=2), UUID(int=9)

ADA = Voter("ada", "internal_user", frozenset(), "k-ada")
GRACE = Voter("grace", "proxy_admin", frozenset(), "k-grace")
EDSGER = Voter("edsger", "proxy_admin", frozenset(), "k-edsger")
VERA = Voter("vera", "proxy_admin_viewer", frozenset(), "k-vera")
EVE = Voter("eve", "internal_user", frozenset({"sales"}), "k-eve")
NO_USER = Voter(None, "internal_user", frozenset(), "k-nobody")


def asked(**changes: Any) -> Approval:
    return approvals.asked(
        **{"digest": BOUND.digest, "summary": {"max_tokens": 100, "max_output_tokens": 100}, **changes}
    )


class Counter:
    """Runs a desk on approvals in memory that keep the store's rules; counts what reaches them."""

    def __init__(self, patch: pytest.MonkeyPatch, *approvals: Approval) -> None:
        self.kept = {each.id: each for each in approvals or (asked(),)}
        self.copy: ReviewCopy | None = seal(KEYS, BOUND, VALUES)
        self.changed: list[str] = []
        self.models: list[tuple[str | None, str]] = []
        self.allowed = {"small", "smaller"}
        self.lines: list[dict[str, Any]] = []
        self.breaks: str | None = None
        self.connections = 0
        for module, name in (
            (desk.queries, "get_many"),
            (desk.queries, "list_"),
            (desk.queries, "copy_of"),
            (desk.queries, "history"),
            (desk.store, "vote"),
            (desk.store, "cancel"),
            (desk.people, "now"),
            (desk.people, "teams_of"),
        ):
            patch.setattr(module, name, getattr(self, name))
        # It is its own pool.
        self.desk = Desk(URL, cast(Pool, self), KEYS, AuditEntries(self.lines.append), self.may_use)

    async def may_use(self, key_hash: str | None, model: str) -> bool:
        self.models.append((key_hash, model))
        return model in self.allowed

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[None]:
        if self.breaks == "connect":
            raise psycopg.OperationalError(f"no route to {URL}")
        self.connections += 1
        yield

    async def now(self, connection: object) -> datetime:
        return NOW

    async def teams_of(self, connection: object, user_id: str | None, team_id: str | None) -> frozenset[str]:
        return frozenset({"sales"} if user_id == "eve" or team_id == "t-sales" else ())

    async def get_many(self, connection: object, ids: Sequence[UUID], **_: Any) -> list[tuple[Approval, datetime]]:
        return [(self.kept[each], NOW) for each in sorted(ids) if each in self.kept]

    async def list_(
        self, connection: object, state: State | None = None, limit: int = 50, before: UUID | None = None
    ) -> list[Approval]:
        found = sorted(self.kept.values(), key=lambda each: each.id, reverse=True)
        return [each for each in found if state in (None, each.state) and (before is None or each.id < before)][:limit]

    async def copy_of(self, connection: object, approval_id: UUID) -> ReviewCopy | None:
        return self.copy

    async def history(self, connection: object, approval_id: UUID) -> list[Any]:
        return []

    async def vote(
        self,
        connection: object,
        approval_id: UUID,
        voter: Voter,
        *,
        approve: bool,
        comment: str | None,
        edit: Edit | None,
        changes: list[Change],
    ) -> Approval:
        approval = self._locked(approval_id)
        if (refused := lifecycle.may_vote(approval, voter, NOW)) is not None:
            raise refused.error
        made: list[Change] = []
        by = str(voter.user_id)
        if edit is not None:
            if not approve:
                raise InvalidRequest("edit: only what is approved can be edited.")
            new = lifecycle.replacement(approval, edit, EDITED_ID)
            made += [Change(self._keep(approval, Event.EDIT, replaced_by=new.id), (by,)), Change(new)]
            approval = new
        said = (*approval.votes, Vote(by, voter.role, approve, comment, NOW))
        voted = self._keep(approval, Event.APPROVE if approve else Event.REJECT, votes=said)
        if voted.state is not State.REQUESTED:
            made.append(Change(voted, tuple(each.user_id for each in said if each.approve is approve)))
        changes += made
        if self.breaks == "after the commit":
            raise psycopg.OperationalError("gone")
        return voted

    async def cancel(self, connection: object, approval_id: UUID, by: Voter, changes: list[Change]) -> Approval:
        approval = self._locked(approval_id)
        if not lifecycle.may_cancel(approval, by):
            raise AccessDenied("no")
        if lifecycle.transition(approval, Event.CANCEL, NOW) is approval.state:
            raise Conflict("late")
        over = self._keep(approval, Event.CANCEL)
        if approval.state is State.REQUESTED:
            changes.append(Change(over, (str(by.user_id),)))
        return over

    def _locked(self, approval_id: UUID) -> Approval:
        if self.breaks == "before the commit":
            raise psycopg.OperationalError("gone")
        self.changed.append(str(approval_id))
        return self.kept[approval_id]

    def _keep(self, approval: Approval, event: Event, **changes: Any) -> Approval:
        state = lifecycle.transition(approval, event, NOW)
        self.kept[approval.id] = after = replace(approval, state=state, **changes)
        return after

    @property
    def entries(self) -> list[tuple[str, str]]:
        """Return the audit log's entries as state and approval."""
        return [(line["data"].get("state", line["event_type"]), line["data"]["approval_id"]) for line in self.lines]

    async def refused(self, work: Any) -> GovernanceError:
        """Return the refusal of this work; check that it changed nothing and wrote nothing down."""
        before = dict(self.kept)
        with pytest.raises(GovernanceError) as refused:
            await work
        assert (self.kept, self.lines) == (before, [])
        return refused.value


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    return Counter(monkeypatch)


@pytest.fixture
def counter_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda *approvals: Counter(monkeypatch, *approvals)


async def test_nobody_learns_of_an_approval_that_is_not_theirs(counter: Counter) -> None:
    for by in (EVE, Voter("eve", None), Voter("", "internal_user"), NO_USER):
        told = set()
        for approval_id in (ID, UNKNOWN_ID):
            for work in (
                counter.desk.see(approval_id, by),
                counter.desk.history(approval_id, by),
                counter.desk.open(approval_id, by),
                counter.desk.open(approval_id, by, values=True),
                counter.desk.cancel(approval_id, by),
                counter.desk.vote(approval_id, replace(by, user_id=by.user_id or "eve"), approve=True),
            ):
                refusal = await counter.refused(work)
                assert isinstance(refusal, NotFound)
                told.add(refusal.message)
        assert len(told) == 1
        assert await counter.desk.see_all([ID, UNKNOWN_ID], by) == []
        assert await counter.desk.page(by, None, 50, None) == ([], None)
    assert counter.changed == []


async def test_who_may_see_it_sees_it_as_themselves_at_the_databases_time(counter: Counter) -> None:
    for by, refusal in ((GRACE, None), (ADA, NoVote.OWN_REQUEST), (VERA, NoVote.NOT_AN_APPROVER)):
        seen = await counter.desk.see(ID, by)
        assert seen == Seen(asked(), by, NOW)
        assert seen.refusal is refusal


async def test_a_voter_is_in_the_teams_that_the_tables_say(counter_of: Any) -> None:
    counter = counter_of(asked(approvers={"teams": ["sales"]}))
    voted = await counter.desk.vote(ID, KeyHolder("bob", "internal_user", "t-sales", "k-bob"), approve=True)
    assert voted.by == Voter("bob", "internal_user", frozenset({"sales"}), "k-bob")
    assert voted.approval.state is State.APPROVED


def everything(desk: Desk, by: Voter | KeyHolder) -> tuple[Coroutine[Any, Any, Any], ...]:
    """Return each thing that a person can do at the desk, not begun yet."""
    return (
        desk.see(ID, by),
        desk.see_all([ID], by),
        desk.page(by, None, 50, None),
        desk.history(ID, by),
        desk.open(ID, by, values=True),
        desk.vote(ID, by, approve=True),
        desk.cancel(ID, by),
    )


async def test_the_teams_and_the_work_take_one_connection(counter: Counter) -> None:
    by = KeyHolder("grace", "proxy_admin", None, "k-grace")
    for work in everything(counter.desk, by):
        counter.connections = 0
        await work
        assert counter.connections == 1


MAKER = Voter("mary", "proxy_admin", frozenset(), "k-mary")


@pytest.mark.parametrize(
    ("by", "changes", "why"),
    [
        pytest.param(ADA, {}, NoVote.OWN_REQUEST, id="whoever asked"),
        pytest.param(replace(GRACE, key_hash="k-ada"), {}, NoVote.OWN_REQUEST, id="the same key"),
        pytest.param(replace(ADA, role="proxy_admin"), {}, NoVote.OWN_REQUEST, id="whoever asked, an administrator"),
        pytest.param(
            MAKER,
            {"requested_by": {"key_hash": "k-service", "key_made_by": "mary"}},
            NoVote.OWN_KEY,
            id="whoever made the key",
        ),
        pytest.param(GRACE, {"approvers": {"users": ["edsger"]}}, NoVote.NOT_AN_APPROVER, id="not named"),
        pytest.param(VERA, {"approvers": {"users": ["vera"]}}, NoVote.READS_ONLY, id="an auditor who is named"),
        pytest.param(replace(GRACE, user_id=None), {}, NoVote.NOBODY, id="no user"),
        pytest.param(replace(GRACE, user_id=""), {}, NoVote.NOBODY, id="a user without a name"),
        pytest.param(
            GRACE,
            {"approvers": {"count": 2}, "votes": (Vote("grace", None, True, None, NOW),)},
            NoVote.VOTED,
            id="twice",
        ),
        pytest.param(GRACE, {"state": State.REPLACED, "replaced_by": EDITED_ID}, NoVote.REPLACED, id="replaced"),
        pytest.param(GRACE, {"state": State.REJECTED}, NoVote.NOT_OPEN, id="rejected"),
        pytest.param(GRACE, {"state": State.APPROVED}, NoVote.NOT_OPEN, id="approved"),
        pytest.param(GRACE, {"state": State.CONSUMED}, NoVote.NOT_OPEN, id="used"),
        pytest.param(GRACE, {"state": State.CANCELLED}, NoVote.NOT_OPEN, id="cancelled"),
        pytest.param(GRACE, {"expires_at": NOW}, NoVote.NOT_OPEN, id="expired, and not written down yet"),
    ],
)
@pytest.mark.parametrize("approve", [True, False], ids=["yes", "no"])
async def test_who_may_not_vote_is_told_why_before_anything_is_asked_or_changed(
    counter_of: Any, by: Voter, changes: dict[str, Any], why: NoVote, approve: bool
) -> None:
    counter = counter_of(asked(**changes))
    edit = Edit("small") if approve else None
    refusal = await counter.refused(counter.desk.vote(ID, by, approve=approve, edit=edit))
    assert (type(refusal), refusal.message) == (type(why.error), why.value)
    assert (counter.changed, counter.models) == ([], [])


@pytest.mark.parametrize("user_id", [None, ""], ids=["none", "empty"])
async def test_a_key_without_a_user_is_told_so_whatever_it_votes_on(counter: Counter, user_id: str | None) -> None:
    counter.breaks = "connect"
    refusal = await counter.refused(counter.desk.vote(UNKNOWN_ID, replace(NO_USER, user_id=user_id), approve=True))
    assert refusal.message == NoVote.NOBODY.value


async def test_one_yes_decides_where_one_is_enough_and_is_written_down_once(counter: Counter) -> None:
    seen = await counter.desk.vote(ID, GRACE, approve=True, comment="Fine.")
    assert (seen.approval.state, seen.refusal) == (State.APPROVED, NoVote.NOT_OPEN)
    assert seen.approval.votes == (Vote("grace", "proxy_admin", True, "Fine.", NOW),)
    assert counter.entries == [("approved", str(ID))]
    assert counter.lines[0]["data"]["decided_by"] == ["grace"]
    assert "Fine." not in json.dumps(counter.lines)


async def test_two_people_must_say_yes_where_two_are_wanted_and_one_no_is_enough(counter_of: Any) -> None:
    counter = counter_of(asked(approvers={"count": 2}))
    first = await counter.desk.vote(ID, GRACE, approve=True)
    assert (first.approval.state, first.refusal, counter.lines) == (State.REQUESTED, NoVote.VOTED, [])
    again = await counter.refused(counter.desk.vote(ID, GRACE, approve=True))
    assert isinstance(again, Conflict)
    assert (await counter.desk.vote(ID, EDSGER, approve=True)).approval.state is State.APPROVED
    assert [line["data"]["decided_by"] for line in counter.lines] == [["grace", "edsger"]]
    other = counter_of(asked(approvers={"count": 2}))
    await other.desk.vote(ID, GRACE, approve=True)
    assert (await other.desk.vote(ID, EDSGER, approve=False)).approval.state is State.REJECTED
    assert [line["data"]["decided_by"] for line in other.lines] == [["edsger"]]


async def test_an_edit_starts_anew_with_its_editors_vote_and_every_step_is_written_down_once(counter_of: Any) -> None:
    counter = counter_of(asked(approvers={"count": 2}))
    await counter.desk.vote(ID, GRACE, approve=True)
    seen = await counter.desk.vote(ID, EDSGER, approve=True, edit=Edit("small", 50))
    edited = seen.approval
    assert (edited.id, edited.state, edited.voters) == (EDITED_ID, State.REQUESTED, {"edsger"})
    assert (edited.model, edited.edit, edited.edited_from) == ("small", Edit("small", 50), BOUND.digest)
    assert edited.digest != BOUND.digest
    assert (edited.expires_at, edited.approvers) == (asked().expires_at, {"count": 2})
    assert counter.entries == [("replaced", str(ID)), ("requested", str(EDITED_ID))]
    assert (await counter.desk.see(ID, GRACE)).refusal is NoVote.REPLACED
    done = await counter.desk.vote(EDITED_ID, GRACE, approve=True)
    assert (done.approval.state, done.approval.voters) == (State.APPROVED, {"grace", "edsger"})
    assert counter.entries[2:] == [("approved", str(EDITED_ID))]


async def test_an_edit_may_only_lower_what_is_asked_and_only_with_a_yes(counter: Counter) -> None:
    for approve, edit in (
        (True, Edit()),
        (True, Edit("large")),
        (True, Edit(max_tokens=100)),
        (True, Edit(max_tokens=0)),
        (True, Edit(max_tokens=-(2**70))),
        (True, Edit(max_tokens=2**70)),
        (False, Edit("small")),
    ):
        counter.allowed.add("large")
        refusal = await counter.refused(counter.desk.vote(ID, GRACE, approve=approve, edit=edit))
        assert isinstance(refusal, InvalidRequest)


async def test_the_model_of_an_edit_is_one_that_the_key_that_asked_may_use(counter: Counter) -> None:
    refusal = await counter.refused(counter.desk.vote(ID, GRACE, approve=True, edit=Edit("secret")))
    assert (type(refusal), counter.models, counter.changed) == (AccessDenied, [("k-ada", "secret")], [])
    await counter.desk.vote(ID, GRACE, approve=True, edit=Edit(max_tokens=50))
    assert counter.models == [("k-ada", "secret")]  # no other model, so there is nothing to ask


@pytest.mark.parametrize("model", ["", "\0", "\ud800", "small\n", "small ", "x" * MAX_MODEL_CHARS], ids=repr)
async def test_a_hostile_name_of_a_model_is_no_model(counter: Counter, model: str) -> None:
    refusal = await counter.refused(counter.desk.vote(ID, GRACE, approve=True, edit=Edit(model)))
    assert isinstance(refusal, AccessDenied)
    assert (counter.models, counter.changed) == ([("k-ada", model)], [])


async def test_a_model_whose_name_is_too_long_is_not_even_looked_up(counter: Counter) -> None:
    long = Edit("x" * (MAX_MODEL_CHARS + 1))
    refusal = await counter.refused(counter.desk.vote(ID, GRACE, approve=True, edit=long))
    assert (type(refusal), counter.models) == (InvalidRequest, [])
    assert "xx" not in refusal.message


@pytest.mark.parametrize("by", [ADA, GRACE, replace(NO_USER, key_hash="k-ada")], ids=["asked", "admin", "the same key"])
async def test_whoever_asked_and_administrators_may_cancel(counter_of: Any, by: Voter) -> None:
    counter = counter_of(asked(approvers={"users": ["edsger"]}))
    assert (await counter.desk.cancel(ID, by)).approval.state is State.CANCELLED
    assert counter.entries == [("cancelled", str(ID))]
    with pytest.raises(Conflict):
        await counter.desk.cancel(ID, by)
    assert len(counter.lines) == 1


async def test_an_approver_who_did_not_ask_may_not_cancel_and_neither_may_an_auditor(counter_of: Any) -> None:
    counter = counter_of(asked(approvers={"users": ["eve"]}))
    for by in (EVE, VERA):
        assert isinstance(await counter.refused(counter.desk.cancel(ID, by)), AccessDenied)


@pytest.mark.parametrize("state", sorted(set(State) - {State.REQUESTED, State.APPROVED}))
async def test_what_is_over_is_neither_cancelled_nor_opened(counter_of: Any, state: State) -> None:
    counter = counter_of(asked(state=state))
    assert isinstance(await counter.refused(counter.desk.cancel(ID, ADA)), Conflict)
    for values in (False, True):
        assert isinstance(await counter.refused(counter.desk.open(ID, GRACE, values=values)), Gone)


async def test_the_whole_request_is_opened_without_a_line_and_its_values_with_one(counter: Counter) -> None:
    for by in (ADA, GRACE):
        opened = await counter.desk.open(ID, by)
        assert (opened.approval, opened.request["body"]["model"], opened.values) == (asked(), "large", None)
    assert counter.lines == []
    assert isinstance(await counter.refused(counter.desk.open(ID, ADA, values=True)), AccessDenied)
    assert (await counter.desk.open(ID, GRACE, values=True)).values == VALUES
    assert counter.entries == [("approval_values_opened", str(ID))]
    assert "anna" not in json.dumps(counter.lines)


async def test_an_opening_that_fails_is_not_written_down(counter: Counter) -> None:
    counter.copy = None
    assert isinstance(await counter.refused(counter.desk.open(ID, GRACE, values=True)), Gone)
    counter.copy = replace(seal(KEYS, BOUND, VALUES), values=b"changed")
    assert isinstance(await counter.refused(counter.desk.open(ID, GRACE, values=True)), Gone)


async def test_what_is_committed_is_written_down_also_where_the_database_goes_away_right_then(
    counter: Counter,
) -> None:
    counter.breaks = "before the commit"
    assert isinstance(await counter.refused(counter.desk.vote(ID, GRACE, approve=True)), GovernanceUnavailable)
    counter.breaks = "after the commit"
    with pytest.raises(GovernanceUnavailable):
        await counter.desk.vote(ID, GRACE, approve=True)
    assert counter.entries == [("approved", str(ID))]


async def test_without_the_database_everything_is_unavailable_and_its_address_is_not_told(counter: Counter) -> None:
    counter.breaks = "connect"
    for work in (
        counter.desk.see(ID, KeyHolder("ada", None, None, None)),
        *everything(counter.desk, GRACE),
    ):
        refusal = await counter.refused(work)
        assert isinstance(refusal, GovernanceUnavailable)
        assert "secret" not in refusal.message
        assert refusal.__suppress_context__


def many(count: int, theirs: int) -> list[Approval]:
    """Return so many approvals; Eve may see each `theirs`th of them."""
    for_eve, for_others = {"users": ["eve"]}, {"users": ["edsger"]}
    return [asked(id=UUID(int=n), approvers=for_others if n % theirs else for_eve) for n in range(1, count + 1)]


async def test_pages_hold_what_a_person_may_see_newest_first_and_none_is_left_out(counter_of: Any) -> None:
    counter = counter_of(*many(MAX_PAGE + 20, theirs=10))
    found: list[int] = []
    cursor = None
    while True:
        page, cursor = await counter.desk.page(EVE, None, 5, cursor)
        found += [each.approval.id.int for each in page]
        assert len(page) <= 5
        if cursor is None:
            break
    assert found == sorted(range(10, MAX_PAGE + 21, 10), reverse=True)


async def test_cards_come_in_the_order_that_was_asked_for(counter_of: Any) -> None:
    counter = counter_of(*many(4, theirs=2))
    ids = [UUID(int=n) for n in (4, 3, 9, 2)]
    assert [each.approval.id.int for each in await counter.desk.see_all(ids, EVE)] == [4, 2]


def test_who_follows_is_told_once_of_what_they_may_see_and_not_that_it_was_used() -> None:
    subscriber = Subscriber(EVE)
    theirs, others = asked(approvers={"users": ["eve"]}), asked(id=EDITED_ID)
    assert subscriber.is_told(ApprovalEvent(theirs, State.REQUESTED, NOW))
    assert not subscriber.is_told(ApprovalEvent(theirs, State.REQUESTED, NOW))
    assert subscriber.is_told(ApprovalEvent(theirs, State.APPROVED, NOW))
    assert not subscriber.is_told(ApprovalEvent(theirs, State.CONSUMED, NOW))
    assert not subscriber.is_told(ApprovalEvent(others, State.REQUESTED, NOW))
