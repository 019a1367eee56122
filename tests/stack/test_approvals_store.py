"""Approvals on a real Postgres: a request has one open approval, which is used once, and no call waits too long."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from gatehouse.approvals import queries
from gatehouse.approvals import store as db
from gatehouse.approvals import waiting as waiting_module
from gatehouse.approvals.binding import edited_digest
from gatehouse.approvals.model import Approval, Edit, NewApproval, ReviewCopy, State, Voter
from gatehouse.approvals.waiting import Waiting
from gatehouse.core.errors import (
    AccessDenied,
    ApprovalExpired,
    ApprovalMismatch,
    ApprovalRejected,
    ApprovalRequired,
    Conflict,
    GovernanceUnavailable,
    InvalidRequest,
    NotFound,
    TooManyRequests,
)
from gatehouse.storage import roles
from gatehouse.storage.connection import Connection, connect, shared

from tests.support.postgres import Postgres, apply_migrations

ADA = {"key_hash": "k-ada", "user": "ada"}
GRACE = Voter("grace", "proxy_admin", frozenset(), "k-grace")
EDSGER = Voter("edsger", "proxy_admin", frozenset(), "k-edsger")
DIGEST = "d" * 64


def new(digest: str = DIGEST, **changes: Any) -> NewApproval:
    default: dict[str, Any] = {
        "requested_by": ADA,
        "route": "/v1/chat/completions",
        "model": "demo",
        "rule_ids": ("big",),
        "reason": None,
        "policy_version": "v1",
        "approvers": {},
        "expires_in_s": 600,
    }
    return NewApproval(digest=digest, **(default | changes))


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    """Start a Postgres of this module's own, because the tests stop it."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def url(own_postgres: Postgres) -> str:
    own_postgres.start()
    address = own_postgres.create_database()
    apply_migrations(address)
    return address


@pytest.fixture
async def connection(url: str) -> AsyncIterator[Connection]:
    async with await connect(url) as open_connection:
        yield open_connection


@asynccontextmanager
async def gateways(url: str, count: int = 1) -> AsyncIterator[list[Waiting]]:
    """Start so many gateways' waiting rooms, which hear of votes."""
    async with AsyncExitStack() as stack:
        all_of = [Waiting(url, await stack.enter_async_context(shared(url))) for _ in range(count)]
        for each in all_of:
            await each.start()
        await until(lambda: all(each._listener.up for each in all_of))
        yield all_of
        for each in all_of:
            await each.stop()


async def until(holds: Any, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def approved(connection: Connection, **changes: Any) -> Approval:
    asked = await db.open_request(connection, new(**changes))
    return await db.vote(connection, asked.id, GRACE, approve=True)


async def events(connection: Connection, approval: Approval) -> list[tuple[str, str, str | None]]:
    return [(each.event, each.state.value, each.user_id) for each in await queries.history(connection, approval.id)]


# One open approval for a request.


async def test_a_request_that_comes_again_finds_its_approval(connection: Connection, url: str) -> None:
    asked = new()
    first = await db.open_request(connection, asked)
    assert first.id == asked.id
    async with await connect(url) as another_gateway:
        assert (await db.open_request(another_gateway, new())).id == first.id
        await db.vote(another_gateway, first.id, GRACE, approve=True)
        again = await db.open_request(another_gateway, new(reason="after a restart"))
    assert (again.id, again.state, again.reason) == (first.id, State.APPROVED, None)
    assert await events(connection, first) == [("request", "requested", "ada"), ("approve", "approved", "grace")]


async def test_a_request_asked_of_many_gateways_at_once_opens_one_approval(url: str) -> None:
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(await connect(url)) for _ in range(20)]
        for digest in ("a" * 64, "b" * 64, "c" * 64):
            opened = await asyncio.gather(*(db.open_request(each, new(digest)) for each in connections))
            assert len({each.id for each in opened}) == 1
        assert len(await queries.list_(connections[0])) == 3


@pytest.mark.parametrize("ending", ["reject", "cancel", "expire", "consume"])
async def test_what_is_over_is_asked_for_anew(connection: Connection, ending: str) -> None:
    first = await db.open_request(connection, new(expires_in_s=0.05 if ending == "expire" else 600))
    if ending == "reject":
        await db.vote(connection, first.id, GRACE, approve=False)
    elif ending == "cancel":
        await db.cancel(connection, first.id, Voter("ada"))
    elif ending == "expire":
        await asyncio.sleep(0.1)
    else:
        await db.vote(connection, first.id, GRACE, approve=True)
        assert await db.consume(connection, first.id, DIGEST, ADA)
    second = await db.open_request(connection, new())
    assert second.id != first.id
    assert second.state is State.REQUESTED


async def test_an_approval_that_ends_while_its_request_comes_again_is_not_the_answer(
    connection: Connection, url: str
) -> None:
    first = await db.open_request(connection, new(expires_in_s=0.5))
    async with await connect(url) as holder:
        async with holder.transaction():
            await holder.execute("select from gatehouse.approvals where id = %s for update", (first.id,))
            again = asyncio.create_task(db.open_request(connection, new()))
            await asyncio.sleep(0.7)
            assert not again.done()
        second = await again
    assert (second.id != first.id, second.state) == (True, State.REQUESTED)


async def test_opening_using_and_ending_at_once_never_leaves_two_open(url: str) -> None:
    """Every gateway asks for, decides on and uses the same request many times."""
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(await connect(url)) for _ in range(8)]
        used: list[UUID] = []

        async def work(each: Connection, voter: Voter) -> None:
            for _ in range(15):
                approval = await db.open_request(each, new(expires_in_s=random.choice([0.003, 5])))
                with suppress(Conflict):
                    await db.vote(each, approval.id, voter, approve=random.random() < 0.8)
                if await db.consume(each, approval.id, DIGEST, ADA):
                    used.append(approval.id)
                await db.expire_due(each)

        await asyncio.gather(*(work(each, Voter(f"u{n}", "proxy_admin")) for n, each in enumerate(connections)))
        assert used
        assert len(used) == len(set(used))
        assert sorted(used) == sorted(
            each.id for each in await queries.list_(connections[0], State.CONSUMED, limit=1000)
        )


# Used once.


async def test_of_racing_retries_one_is_let_through(url: str) -> None:
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(await connect(url)) for _ in range(10)]
        approval = await approved(connections[0])
        answers = await asyncio.gather(
            *(db.consume(connections[n % 10], approval.id, DIGEST, ADA) for n in range(50)),
        )
        assert [each.state for each in answers if each] == [State.CONSUMED]
        assert (await events(connections[0], approval)).count(("consume", "consumed", "ada")) == 1


async def test_each_request_that_was_not_approved_is_told_why(connection: Connection) -> None:
    async def refused(approval_id: UUID, digest: str = DIGEST, caller: dict[str, str] = ADA) -> type[Exception]:
        assert await db.consume(connection, approval_id, digest, caller) is None
        return type(await db.why_not(connection, approval_id, digest, caller))

    asked = await db.open_request(connection, new())
    assert await refused(asked.id) is ApprovalRequired
    await db.vote(connection, asked.id, GRACE, approve=True)
    assert await refused(asked.id, digest="e" * 64) is ApprovalMismatch
    assert await refused(asked.id, caller={**ADA, "key_hash": "k-bob"}) is ApprovalMismatch
    assert await refused(asked.id, caller={"user": "ada"}) is ApprovalMismatch
    assert await refused(uuid4()) is ApprovalMismatch
    assert await db.consume(connection, asked.id, DIGEST, ADA)
    assert await refused(asked.id) is ApprovalExpired
    late = await approved(connection, expires_in_s=1)
    await asyncio.sleep(1.05)
    assert await refused(late.id) is ApprovalExpired
    asked = await db.open_request(connection, new())
    await db.vote(connection, asked.id, GRACE, approve=False, comment="Too dear.")
    assert await refused(asked.id) is ApprovalRejected
    cancelled = await approved(connection)
    await db.cancel(connection, cancelled.id, GRACE)
    assert await refused(cancelled.id) is ApprovalExpired


async def test_an_approval_used_in_a_transaction_that_fails_is_not_used(connection: Connection) -> None:
    approval = await approved(connection)
    async with connection.transaction(force_rollback=True):
        assert await db.consume(connection, approval.id, DIGEST, ADA)
    assert await db.consume(connection, approval.id, DIGEST, ADA)


async def test_an_approval_whose_call_was_not_sent_is_good_again_once(connection: Connection) -> None:
    approval = await approved(connection)
    assert not await db.give_back(connection, approval.id)
    assert await db.consume(connection, approval.id, DIGEST, ADA)
    assert await db.give_back(connection, approval.id)
    assert not await db.give_back(connection, approval.id)
    assert await db.consume(connection, approval.id, DIGEST, ADA)
    assert [event for event, *_ in await events(connection, approval)][-3:] == ["consume", "return", "consume"]
    # Asked for anew meanwhile: of two that are open for one request, people would see one.
    assert (await db.open_request(connection, new())).id != approval.id
    assert not await db.give_back(connection, approval.id)
    late = await approved(connection, digest="e" * 64, expires_in_s=1)
    assert await db.consume(connection, late.id, "e" * 64, ADA)
    await asyncio.sleep(1.05)
    assert not await db.give_back(connection, late.id)


# Votes.


@pytest.mark.parametrize(
    ("voter", "error"),
    [
        (Voter("ada", "proxy_admin", frozenset(), "k-else"), AccessDenied),
        (Voter("other", "proxy_admin", frozenset(), "k-ada"), AccessDenied),
        (Voter("stranger", "internal_user"), AccessDenied),
        (Voter(None, "proxy_admin"), AccessDenied),
    ],
)
async def test_a_vote_of_somebody_who_may_not_changes_nothing(
    connection: Connection, voter: Voter, error: type[Exception]
) -> None:
    asked = await db.open_request(connection, new())
    for approve in (True, False):
        with pytest.raises(error):
            await db.vote(connection, asked.id, voter, approve=approve)
    assert await queries.get(connection, asked.id) == asked
    assert len(await events(connection, asked)) == 1


async def test_two_people_must_approve_and_one_twice_is_one(connection: Connection) -> None:
    asked = await db.open_request(connection, new(approvers={"users": ["grace", "edsger"], "count": 2}))
    half = await db.vote(connection, asked.id, GRACE, approve=True, comment="Fine.\0")
    assert (half.state, half.decided_at) == (State.REQUESTED, None)
    for approve in (True, False):
        with pytest.raises(Conflict):
            await db.vote(connection, asked.id, GRACE, approve=approve)
    assert await db.consume(connection, asked.id, DIGEST, ADA) is None
    whole = await db.vote(connection, asked.id, EDSGER, approve=True)
    assert whole.state is State.APPROVED
    assert [(vote.user_id, vote.role, vote.approve, vote.comment) for vote in whole.votes] == [
        ("grace", "proxy_admin", True, "Fine.\ufffd"),
        ("edsger", "proxy_admin", True, None),
    ]
    assert whole.requested_at <= whole.votes[0].at <= whole.votes[1].at <= whole.decided_at < whole.expires_at
    assert await db.consume(connection, asked.id, DIGEST, ADA)


async def test_one_of_two_who_rejects_rejects(connection: Connection) -> None:
    asked = await db.open_request(connection, new(approvers={"count": 2}))
    await db.vote(connection, asked.id, GRACE, approve=True)
    assert (await db.vote(connection, asked.id, EDSGER, approve=False)).state is State.REJECTED
    with pytest.raises(Conflict):
        await db.vote(connection, asked.id, Voter("tony", "proxy_admin"), approve=True)


async def test_votes_at_the_same_moment_are_all_counted_and_none_too_many(url: str) -> None:
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(await connect(url)) for _ in range(12)]
        for count in (1, 2, 5):
            asked = await db.open_request(connections[0], new(approvers={"count": count}))
            votes = await asyncio.gather(
                *(
                    db.vote(each, asked.id, Voter(f"u{n // 2}", "proxy_admin"), approve=True)
                    for n, each in enumerate(connections)
                ),
                return_exceptions=True,
            )
            assert sum(isinstance(each, Approval) for each in votes) == count
            assert sum(isinstance(each, Conflict) for each in votes) == 12 - count
            after = await queries.get(connections[0], asked.id)
            assert (after.state, len({vote.user_id for vote in after.votes})) == (State.APPROVED, count)
            assert await db.consume(connections[0], asked.id, DIGEST, ADA)


async def test_a_vote_that_waited_past_the_end_comes_too_late(connection: Connection, url: str) -> None:
    asked = await db.open_request(connection, new(expires_in_s=0.5))
    async with await connect(url) as holder, await connect(url) as voter:
        async with holder.transaction():
            await holder.execute("select from gatehouse.approvals where id = %s for update", (asked.id,))
            late = asyncio.create_task(db.vote(voter, asked.id, GRACE, approve=True))
            await asyncio.sleep(0.7)
            assert not late.done()
        with pytest.raises(Conflict):
            await late


async def test_there_is_nothing_to_decide_on_where_there_is_nothing(connection: Connection) -> None:
    with pytest.raises(NotFound):
        await db.vote(connection, uuid4(), GRACE, approve=True)
    with pytest.raises(NotFound):
        await db.cancel(connection, uuid4(), GRACE)
    assert await queries.get(connection, uuid4()) is None


# The table.


async def test_what_is_over_reads_as_expired_before_anybody_wrote_it_down(connection: Connection) -> None:
    one = await db.open_request(connection, new("a" * 64, expires_in_s=1))
    other = await approved(connection, digest="b" * 64, expires_in_s=1)
    staying = await db.open_request(connection, new("c" * 64))
    await asyncio.sleep(1.05)
    expired = [other.id, one.id]
    assert [each.id for each in await queries.list_(connection, State.EXPIRED)] == expired
    assert [each.id for each in await queries.list_(connection, State.REQUESTED)] == [staying.id]
    assert await db.expire_due(connection) == 2
    assert await db.expire_due(connection) == 0
    assert [each.id for each in await queries.list_(connection, State.EXPIRED)] == expired
    assert (await events(connection, one))[-1] == ("expire", "expired", None)


async def test_the_list_is_read_in_pages(connection: Connection) -> None:
    ids = [(await db.open_request(connection, new(f"{n:064}"))).id for n in range(7)]
    seen: list[UUID] = []
    while page := await queries.list_(connection, State.REQUESTED, limit=3, before=seen[-1] if seen else None):
        seen += [each.id for each in page]
    assert seen == sorted(ids, reverse=True)


async def test_a_reviewer_sees_the_summary_and_a_waiter_does_not_carry_it(connection: Connection, url: str) -> None:
    asked = await db.open_request(connection, new(summary={"prompt": "Pay [PERSON_1] 10.", "cost_usd": 0.25}))
    assert (
        (await queries.list_(connection))[0].summary
        == asked.summary
        == {"prompt": "Pay [PERSON_1] 10.", "cost_usd": 0.25}
    )
    async with gateways(url) as (gateway,):
        assert (await gateway.decided(asked.id, 0.3)).summary == {}


async def test_cancelling_is_for_whoever_asked_and_administrators(connection: Connection) -> None:
    asked = await db.open_request(connection, new())
    with pytest.raises(AccessDenied):
        await db.cancel(connection, asked.id, Voter("bob", "internal_user", frozenset(), "k-bob"))
    assert (await db.cancel(connection, asked.id, Voter("ada"))).state is State.CANCELLED
    with pytest.raises(Conflict):
        await db.cancel(connection, asked.id, GRACE)


async def test_a_client_that_leaves_takes_back_only_its_own_undecided_request(connection: Connection) -> None:
    asked = await db.open_request(connection, new())
    for approval_id, digest, caller in (
        (uuid4(), DIGEST, ADA),
        (asked.id, "e" * 64, ADA),
        (asked.id, DIGEST, {**ADA, "key_hash": "k-bob"}),
    ):
        assert not await db.abandon(connection, approval_id, digest, caller)
    assert await db.abandon(connection, asked.id, DIGEST, ADA)
    assert (await events(connection, asked))[-1] == ("cancel", "cancelled", "ada")
    given = await approved(connection)
    assert not await db.abandon(connection, given.id, DIGEST, ADA)
    assert await db.consume(connection, given.id, DIGEST, ADA)


async def test_hostile_text_is_kept_or_cut_and_never_fails(connection: Connection) -> None:
    odd = "x\0\ud800" * 100_000
    asked = await db.open_request(
        connection,
        new(requested_by={"key_hash": "k", "user": odd}, route=odd, model=odd, reason=odd, summary={odd: odd}),
    )
    after = await db.vote(connection, asked.id, GRACE, approve=False, comment=odd)
    assert len(str(after.summary)) < 40_000
    assert len(after.votes[0].comment) == 2_000


def test_the_gateways_role_adds_votes_and_history_and_changes_none(own_postgres: Postgres, url: str) -> None:
    role = own_postgres.url_of(url.rpartition("/")[2]).replace("postgres@", "gate@")
    with psycopg.connect(url) as owner:
        roles.ensure_role(owner, role)
        roles.grant(owner, "gate")

    async def use() -> Approval:
        async with await connect(role) as connection:
            asked = await approved(connection)
            await db.consume(connection, asked.id, DIGEST, ADA)
            await db.expire_due(connection)
            return asked

    asked = asyncio.run(use())
    with psycopg.connect(role, autocommit=True) as connection:
        for statement in (
            "update gatehouse.approval_votes set approve = false",
            "delete from gatehouse.approval_votes",
            "update gatehouse.approval_history set event = 'x'",
            "delete from gatehouse.approval_history",
            "truncate gatehouse.approval_history",
            "delete from gatehouse.approvals",
            "drop view gatehouse.approvals_seen",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
    with psycopg.connect(url, autocommit=True) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("delete from gatehouse.approval_votes where approval_id = %s", (asked.id,))


# Waiting.


async def test_a_vote_through_any_gateway_releases_each_call_once(url: str) -> None:
    """Three gateways hold 500 calls, which are decided on in random order."""
    released: dict[UUID, list[Approval]] = {}
    woken: dict[UUID, float] = {}
    committed: dict[UUID, float] = {}

    async def hold(gateway: Waiting, approval_id: UUID) -> None:
        answer = await gateway.decided(approval_id, 120)
        woken[approval_id] = time.monotonic()
        released.setdefault(approval_id, []).append(answer)

    async with AsyncExitStack() as stack:
        all_of = await stack.enter_async_context(gateways(url, 3))
        voters = [await stack.enter_async_context(await connect(url)) for _ in range(4)]
        asked = [await db.open_request(voters[0], new(f"{n:064}")) for n in range(500)]
        held = [asyncio.create_task(hold(all_of[n % 3], each.id)) for n, each in enumerate(asked)]
        await until(lambda: all(each.seen for gateway in all_of for each in gateway._held.values()))
        wanted = {each.id: random.random() < 0.5 for each in asked}
        order = random.sample(asked, len(asked))

        async def decide(n: int) -> None:
            for each in order[n :: len(voters)]:
                await db.vote(voters[n], each.id, GRACE, approve=wanted[each.id])
                committed[each.id] = time.monotonic()
                await asyncio.sleep(0.005)

        await asyncio.gather(*(decide(n) for n in range(len(voters))))
        await asyncio.wait_for(asyncio.gather(*held), 30)
        assert all(not gateway._held for gateway in all_of)
    assert {approval_id: [each.state is State.APPROVED for each in got] for approval_id, got in released.items()} == {
        approval_id: [approve] for approval_id, approve in wanted.items()
    }
    waits = sorted(1000 * max(0.0, woken[each] - committed[each]) for each in wanted)
    print(f"\nfrom a vote's commit to its call's wake: p50 {waits[250]:.1f} ms, p99 {waits[495]:.1f} ms")


async def test_the_second_of_two_votes_wakes_and_the_first_does_not(connection: Connection, url: str) -> None:
    asked = await db.open_request(connection, new(approvers={"count": 2}))
    async with gateways(url) as (gateway,):
        held = asyncio.create_task(gateway.decided(asked.id, 30))
        await db.vote(connection, asked.id, GRACE, approve=True)
        await asyncio.sleep(0.3)
        assert not held.done()
        await db.vote(connection, asked.id, EDSGER, approve=True)
        assert (await asyncio.wait_for(held, 5)).state is State.APPROVED


async def test_what_was_decided_before_is_answered_at_once(connection: Connection, url: str) -> None:
    approval = await approved(connection)
    async with gateways(url) as (gateway,):
        assert (await asyncio.wait_for(gateway.decided(approval.id, 30), 5)).state is State.APPROVED
        with pytest.raises(NotFound):
            await asyncio.wait_for(gateway.decided(uuid4(), 30), 5)


async def test_the_end_of_an_approvals_time_wakes(connection: Connection, url: str, never_just_looks: None) -> None:
    asked = await db.open_request(connection, new(expires_in_s=0.5))
    async with gateways(url) as (gateway,):
        began = time.monotonic()
        assert (await gateway.decided(asked.id, 30)).state is State.EXPIRED
        assert time.monotonic() - began < 15, "long before the caller's own patience ends"


async def test_who_waited_long_enough_gets_it_as_it_stands(connection: Connection, url: str) -> None:
    asked = await db.open_request(connection, new())
    async with gateways(url) as (gateway,):
        assert await gateway.decided(asked.id, 0.5) == asked
        assert not gateway._held


async def test_a_waiter_that_leaves_leaves_nothing_and_takes_nobody_along(connection: Connection, url: str) -> None:
    asked = await db.open_request(connection, new())
    async with gateways(url) as (gateway,):
        leaving, staying = (asyncio.create_task(gateway.decided(asked.id, 30)) for _ in range(2))
        await until(lambda: asked.id in gateway._held and gateway._held[asked.id].seen)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert len(gateway._held[asked.id].waiters) == 1
        await db.vote(connection, asked.id, GRACE, approve=True)
        assert (await asyncio.wait_for(staying, 5)).state is State.APPROVED
        assert not gateway._held
        pending = await db.open_request(connection, new("e" * 64))
        last = asyncio.create_task(gateway.decided(pending.id, 30))
        await until(lambda: pending.id in gateway._held and gateway._held[pending.id].seen)
        timer = gateway._held[pending.id].expiry
        last.cancel()
        await asyncio.wait([last])
        assert not gateway._held
        assert timer.cancelled()


@pytest.fixture
def never_just_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch off the periodic look, so that only notifications count."""
    monkeypatch.setattr(waiting_module, "LOOK_EVERY_S", 60)
    monkeypatch.setattr(waiting_module, "LOOK_ANYWAY_S", 60)


LISTENERS = "select count(pg_terminate_backend(pid)) from pg_stat_activity where query like 'listen %%'"


async def test_a_listener_that_is_killed_misses_no_vote(url: str, never_just_looks: None) -> None:
    async with await connect(url) as connection, gateways(url) as (gateway,):
        asked = [await db.open_request(connection, new(f"{n:064}")) for n in range(40)]
        held = [asyncio.create_task(gateway.decided(each.id, 60)) for each in asked]
        for n, each in enumerate(asked):
            if n % 10 == 5:
                await until(lambda: gateway._listener.up)
                await connection.execute(LISTENERS.encode())
            await db.vote(connection, each.id, GRACE, approve=True)
            await asyncio.sleep(0.02)
        assert {each.state for each in await asyncio.wait_for(asyncio.gather(*held), 10)} == {State.APPROVED}
        await until(lambda: gateway._listener.up)
        last = await db.open_request(connection, new())
        waiter = asyncio.create_task(gateway.decided(last.id, 60))
        await until(lambda: last.id in gateway._held and gateway._held[last.id].seen)
        await db.vote(connection, last.id, GRACE, approve=True)
        await asyncio.wait_for(waiter, 1)


async def test_a_look_that_fails_is_taken_again(connection: Connection, url: str, never_just_looks: None) -> None:
    asked = await db.open_request(connection, new())
    async with gateways(url) as (gateway,):
        held = asyncio.create_task(gateway.decided(asked.id, 60))
        await until(lambda: asked.id in gateway._held and gateway._held[asked.id].seen)
        await connection.execute(
            """select pg_terminate_backend(pid) from pg_stat_activity
                where datname = current_database() and pid <> pg_backend_pid() and query not like 'listen %'"""
        )
        await db.vote(connection, asked.id, GRACE, approve=True)
        assert (await asyncio.wait_for(held, 5)).state is State.APPROVED
        assert gateway._listener.up


async def test_while_nobody_can_listen_votes_are_looked_for(
    connection: Connection, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = await db.open_request(connection, new())
    async with gateways(url) as (gateway,):
        held = asyncio.create_task(gateway.decided(asked.id, 60))
        await until(lambda: asked.id in gateway._held and gateway._held[asked.id].seen)
        monkeypatch.setattr(waiting_module.store, "CHANNEL", "no channel")  # a syntax error for LISTEN
        await connection.execute(LISTENERS.encode())
        await until(lambda: not gateway._listener.up)
        monkeypatch.setattr(gateway, "_hear", None)
        await asyncio.sleep(0.5)
        await connection.execute("update gatehouse.approvals set state = 'approved' where id = %s", (asked.id,))
        assert (await asyncio.wait_for(held, waiting_module.LOOK_EVERY_S + 2)).state is State.APPROVED


async def test_a_database_that_comes_back_is_looked_at_again(own_postgres: Postgres, url: str) -> None:
    async with gateways(url) as (gateway,):
        async with await connect(url) as connection:
            asked = await db.open_request(connection, new())
        held = asyncio.create_task(gateway.decided(asked.id, 60))
        await until(lambda: asked.id in gateway._held and gateway._held[asked.id].seen)
        await asyncio.to_thread(own_postgres.stop)
        await until(lambda: not gateway._listener.up)
        assert (await gateway.decided(asked.id, 0.2)).state is State.REQUESTED  # as it stood last
        with pytest.raises(GovernanceUnavailable):
            await gateway.decided(uuid4(), 0.2)
        await asyncio.to_thread(own_postgres.start)
        async with await connect(url) as connection:
            await db.vote(connection, asked.id, GRACE, approve=True)
        assert (await asyncio.wait_for(held, 20)).state is State.APPROVED


async def test_a_gateway_that_stops_tells_whoever_waits(connection: Connection, url: str) -> None:
    asked = await db.open_request(connection, new())
    async with gateways(url) as (gateway,):
        held = asyncio.create_task(gateway.decided(asked.id, 60))
        await until(lambda: gateway._held.get(asked.id))
    with pytest.raises(GovernanceUnavailable):
        await held


# An approver's edit: another approval takes the place of the one that was asked for.

ALAN = Voter("alan", "proxy_admin", frozenset(), "k-alan")
SUMMARY = {"max_tokens": 100, "max_output_tokens": 100}


async def test_an_edit_replaces_the_approval_and_keeps_its_history(connection: Connection) -> None:
    asked = await db.open_request(connection, new(summary=SUMMARY))
    became = await db.vote(connection, asked.id, GRACE, approve=True, comment="Less.", edit=Edit("small", 10))
    before = await queries.get(connection, asked.id)
    assert before is not None
    assert (before.state, before.replaced_by, before.votes) == (State.REPLACED, became.id, ())
    assert became.digest == edited_digest(DIGEST, Edit("small", 10)) != DIGEST
    assert (became.state, became.model, became.edit, became.asked) == (
        State.APPROVED,
        "small",
        Edit("small", 10),
        DIGEST,
    )
    assert [(vote.user_id, vote.edit) for vote in became.votes] == [("grace", {"model": "small", "max_tokens": 10})]
    assert (became.requested_at, became.expires_at) == (asked.requested_at, asked.expires_at)
    assert await events(connection, before) == [("request", "requested", "ada"), ("edit", "replaced", "grace")]
    assert await events(connection, became) == [("edit", "requested", "grace"), ("approve", "approved", "grace")]


async def test_what_was_edited_admits_one_request_and_not_as_it_was_asked(connection: Connection) -> None:
    asked = await db.open_request(connection, new(summary=SUMMARY))
    became = await db.vote(connection, asked.id, GRACE, approve=True, edit=Edit(max_tokens=10))
    for approval_id in (asked.id, became.id):
        assert await db.consume(connection, approval_id, DIGEST, ADA) is None
    assert await db.consume(connection, asked.id, became.digest, ADA) is None
    # A caller who comes back finds what became of it, with its id and without.
    again = await db.open_request(connection, new())
    assert again == became
    found = await queries.latest(connection, asked.id)
    assert found is not None
    assert found[0] == became
    assert await db.consume(connection, became.id, became.digest, ADA)
    assert await db.consume(connection, became.id, became.digest, ADA) is None
    assert isinstance(await db.why_not(connection, asked.id, DIGEST, ADA), ApprovalExpired)


async def test_whoever_approved_before_an_edit_votes_again(connection: Connection) -> None:
    asked = await db.open_request(connection, new(summary=SUMMARY, approvers={"count": 2}))
    await db.vote(connection, asked.id, GRACE, approve=True)
    became = await db.vote(connection, asked.id, EDSGER, approve=True, edit=Edit("small"))
    assert (became.state, became.given, became.needed) == (State.REQUESTED, 1, 2)
    assert isinstance(await db.why_not(connection, asked.id, DIGEST, ADA), ApprovalRequired)
    with pytest.raises(Conflict):
        await db.vote(connection, asked.id, ALAN, approve=True)
    with pytest.raises(Conflict):
        await db.vote(connection, became.id, EDSGER, approve=True)
    done = await db.vote(connection, became.id, GRACE, approve=True)
    assert done.state is State.APPROVED
    assert [vote.edit for vote in done.votes] == [{"model": "small"}] * 2


async def test_what_was_edited_can_be_edited_further_and_rejected(connection: Connection) -> None:
    asked = await db.open_request(connection, new(summary=SUMMARY, approvers={"count": 2}))
    once = await db.vote(connection, asked.id, GRACE, approve=True, edit=Edit("small"))
    twice = await db.vote(connection, once.id, EDSGER, approve=True, edit=Edit(max_tokens=10))
    assert (twice.edit, twice.digest) == (Edit("small", 10), edited_digest(DIGEST, Edit("small", 10)))
    assert (twice.given, twice.asked) == (1, DIGEST)
    with pytest.raises(InvalidRequest):
        await db.vote(connection, twice.id, ALAN, approve=True, edit=Edit(max_tokens=20))
    await db.vote(connection, twice.id, ALAN, approve=False)
    assert isinstance(await db.why_not(connection, asked.id, DIGEST, ADA), ApprovalRejected)
    assert (await db.open_request(connection, new())).id not in (asked.id, once.id, twice.id)


async def test_an_edit_that_is_refused_changes_nothing(connection: Connection) -> None:
    asked = await db.open_request(connection, new(summary=SUMMARY))
    for approve, edit in ((True, Edit(max_tokens=100)), (True, Edit()), (False, Edit("small"))):
        with pytest.raises(InvalidRequest):
            await db.vote(connection, asked.id, GRACE, approve=approve, edit=edit)
    with pytest.raises(AccessDenied):
        await db.vote(connection, asked.id, Voter("ada"), approve=True, edit=Edit("small"))
    assert await queries.get(connection, asked.id) == asked


async def test_of_many_who_edit_at_once_one_does(url: str) -> None:
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(await connect(url)) for _ in range(10)]
        asked = await db.open_request(connections[0], new(summary=SUMMARY))
        results = await asyncio.gather(
            *(
                db.vote(
                    each,
                    asked.id,
                    Voter(f"u{n}", "proxy_admin"),
                    approve=True,
                    edit=Edit(max_tokens=n + 1) if n % 2 else None,
                )
                for n, each in enumerate(connections)
            ),
            return_exceptions=True,
        )
        (counted,) = [each for each in results if isinstance(each, Approval)]
        assert all(isinstance(each, Conflict) for each in results if each is not counted)
        used = await asyncio.gather(*(db.consume(each, counted.id, counted.digest, ADA) for each in connections))
        assert len([each for each in used if each]) == 1


async def test_who_waits_hears_of_an_edit(url: str, connection: Connection) -> None:
    asked = await db.open_request(connection, new(summary=SUMMARY))
    async with gateways(url) as (here,):
        waits = asyncio.create_task(here.decided(asked.id, 30))
        await asyncio.sleep(0.1)
        became = await db.vote(connection, asked.id, GRACE, approve=True, edit=Edit("small"))
        assert (await waits).replaced_by == became.id


async def test_who_leaves_takes_back_what_was_edited(connection: Connection) -> None:
    asked = await db.open_request(connection, new(summary=SUMMARY, approvers={"count": 2}))
    became = await db.vote(connection, asked.id, GRACE, approve=True, edit=Edit("small"))
    assert await db.abandon(connection, became.id, DIGEST, ADA)
    over = await queries.get(connection, became.id)
    assert over is not None
    assert over.state is State.CANCELLED


# The reviewer's copy.

COPY = ReviewCopy("e" * 8, b"wrapped key", b"the whole request", b"the values")


async def copies(connection: Connection) -> list[tuple[Any, ...]]:
    cursor = await connection.execute(
        "select copy_epoch, copy_key, copy_request, copy_values from gatehouse.approvals order by id"
    )
    return await cursor.fetchall()


@pytest.mark.parametrize("ending", ["reject", "cancel", "abandon", "expire", "consume", "late"])
async def test_the_copy_of_a_request_is_erased_by_what_ends_its_approval(connection: Connection, ending: str) -> None:
    asked = await db.open_request(
        connection, new(copy=COPY, expires_in_s=0.05 if ending in ("expire", "late") else 600)
    )
    assert await queries.copy_of(connection, asked.id) == COPY
    match ending:
        case "reject":
            await db.vote(connection, asked.id, GRACE, approve=False)
        case "cancel":
            await db.cancel(connection, asked.id, Voter("ada"))
        case "abandon":
            assert await db.abandon(connection, asked.id, DIGEST, ADA)
        case "consume":
            await db.vote(connection, asked.id, GRACE, approve=True)
            assert await queries.copy_of(connection, asked.id) == COPY
            assert await db.consume(connection, asked.id, DIGEST, ADA)
        case "expire":
            await asyncio.sleep(0.1)
            assert await db.expire_due(connection) == 1
        case "late":  # the same is asked for anew, with a copy of its own
            await asyncio.sleep(0.1)
            await db.open_request(connection, new(copy=COPY))
    assert (await copies(connection))[0] == (None, None, None, None)
    assert await queries.copy_of(connection, asked.id) is None
    if ending == "consume":  # its call was not sent: it is good again, and nobody is to decide on it any more
        assert await db.give_back(connection, asked.id)
        assert await queries.copy_of(connection, asked.id) is None


async def test_the_copy_of_what_was_edited_goes_on_to_what_it_became(connection: Connection) -> None:
    asked = await db.open_request(connection, new(copy=COPY, summary=SUMMARY, approvers={"count": 2}))
    edited = await db.vote(connection, asked.id, GRACE, approve=True, edit=Edit(max_tokens=10))
    assert await copies(connection) == [(None, None, None, None), ("e" * 8, COPY.key, COPY.request, COPY.values)]
    assert edited.asked == asked.digest
    await db.vote(connection, edited.id, EDSGER, approve=False)
    assert await copies(connection) == [(None, None, None, None)] * 2


async def test_nobody_can_write_a_copy_to_an_approval_that_is_over(connection: Connection) -> None:
    asked = await db.open_request(connection, new())
    await db.vote(connection, asked.id, GRACE, approve=False)
    await connection.execute("update gatehouse.approvals set copy_key = 'k', copy_epoch = 'e'")
    assert await copies(connection) == [(None, None, None, None)]


# How many of one key are open.


async def test_of_60_requests_at_once_through_many_gateways_as_many_open_as_may(url: str) -> None:
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(await connect(url)) for _ in range(20)]

        async def ask(connection: Connection, digests: list[str]) -> list[Approval | TooManyRequests]:
            found: list[Approval | TooManyRequests] = []
            for digest in digests:
                try:
                    found.append(await db.open_request(connection, new(digest, most_open=5)))
                except TooManyRequests as refused:
                    found.append(refused)
            return found

        digests = [f"{n:064}" for n in range(60)]
        answers = await asyncio.gather(*(ask(each, digests[n::20]) for n, each in enumerate(connections)))
        opened = [each for answer in answers for each in answer if isinstance(each, Approval)]
        assert len(opened) == 5
        assert len(await queries.list_(connections[0])) == 5
        # The same again counts once, also asked of all gateways at once; another key has its own.
        again = await asyncio.gather(*(ask(each, [opened[0].digest]) for each in connections))
        assert {each.id for answer in again for each in answer if isinstance(each, Approval)} == {opened[0].id}
        other = await db.open_request(connections[0], new("f" * 64, requested_by={"key_hash": "k-bob"}, most_open=5))
        assert other.state is State.REQUESTED


@pytest.mark.parametrize("ending", ["reject", "cancel", "expire", "consume"])
async def test_what_ends_makes_room(connection: Connection, ending: str) -> None:
    first = await db.open_request(connection, new(most_open=1, expires_in_s=0.2 if ending == "expire" else 600))
    if ending == "reject":
        await db.vote(connection, first.id, GRACE, approve=False)
    elif ending == "cancel":
        await db.cancel(connection, first.id, Voter("ada"))
    elif ending == "expire":
        await asyncio.sleep(0.3)
    else:
        await db.vote(connection, first.id, GRACE, approve=True)
        with pytest.raises(TooManyRequests, match="may have 1"):  # it can still be sent
            await db.open_request(connection, new("e" * 64, most_open=1))
        assert await db.consume(connection, first.id, DIGEST, ADA)
    assert (await db.open_request(connection, new("e" * 64, most_open=1))).state is State.REQUESTED
