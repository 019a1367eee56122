"""The outbox on a real Postgres sends each event to each address once, also when a gateway dies at any time."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from gatehouse.core.clock import new_call_id, now
from gatehouse.gateway.notification_senders import addresses
from gatehouse.notifications import dispatcher, outbox, senders
from gatehouse.notifications.dispatcher import Dispatcher
from gatehouse.notifications.messages import Notice
from gatehouse.notifications.metrics import notifications
from gatehouse.policy.model import NotificationPolicy
from gatehouse.storage import roles
from gatehouse.storage.connection import connect
from standardwebhooks import Webhook, WebhookVerificationError

from tests.support.postgres import Postgres, apply_migrations
from tests.support.process import PATIENCE_S, Server
from tests.support.receiver import Receiver

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SUMMARY = {"key_alias": "billing", "model": "gpt-4o", "estimated_usd": 7.5, "prompt": "never told"}


@pytest.fixture
def database(postgres: Postgres) -> str:
    url = postgres.create_database()
    apply_migrations(url)
    return url


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


@pytest.fixture
def other() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the intervals; the behaviour stays."""
    monkeypatch.setattr(dispatcher, "FIRST_RETRY_S", 0.05)
    monkeypatch.setattr(dispatcher, "POLL_S", 0.1)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def webhook(url: str) -> NotificationPolicy:
    return NotificationPolicy(type="webhook", url=url, secret_env="HOOK_SECRET")


def dispatching(database: str, *entries: NotificationPolicy, **environ: str) -> Dispatcher:
    return Dispatcher(database, addresses(entries, {"HOOK_SECRET": KEY, **environ}))


@asynccontextmanager
async def running(*dispatchers: Dispatcher) -> AsyncIterator[None]:
    for each in dispatchers:
        await each.start()
    try:
        yield
    finally:
        await asyncio.gather(*(each.stop(patience_s=1) for each in dispatchers))


def new_event(**summary: Any) -> Notice:
    approval = new_call_id()
    return Notice(f"{approval}-requested", "approval_requested", approval, now(), {**SUMMARY, **summary})


async def tell(database: str, names: tuple[str, ...], *events: Notice) -> None:
    async with await connect(database) as connection, connection.transaction():
        for event in events:
            await outbox.enqueue(connection, event, names)


def rows(database: str, columns: str = "state, attempts, last_error") -> list[tuple[Any, ...]]:
    with psycopg.connect(database) as connection:
        return connection.execute(
            f"select {columns} from gatehouse.outbox order by event_id, address".encode()
        ).fetchall()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110  # what is awaited happens elsewhere
            await asyncio.sleep(0.02)


def states(database: str) -> Counter[str]:
    return Counter(state for (state,) in rows(database, "state"))


def asks(database: str, beginning: str, **columns: str) -> bool:
    """Whether another session's last statement begins so, and is as the other columns say."""
    wanted = {"datname": database.rpartition("/")[2], **columns}
    with psycopg.connect(database) as connection:
        found = connection.execute(
            "select row_to_json(a) from pg_stat_activity a where pid <> pg_backend_pid()"
        ).fetchall()
    return any(row["query"].strip().startswith(beginning) and wanted.items() <= row.items() for (row,) in found)


async def test_what_is_rolled_back_is_nobodys_and_what_is_committed_is_told_once(
    database: str, receiver: Receiver
) -> None:
    sending = dispatching(database, webhook(f"{receiver.url}/a"), webhook(f"{receiver.url}/b"))
    kept, lost = new_event(), new_event()
    async with running(sending):
        async with await connect(database) as connection:
            with pytest.raises(ZeroDivisionError):  # noqa: PT012
                async with connection.transaction():
                    await outbox.enqueue(connection, lost, sending.names)
                    raise ZeroDivisionError
            async with connection.transaction():
                assert await outbox.enqueue(connection, kept, sending.names) == 2
                assert await outbox.enqueue(connection, kept, sending.names) == 0
                await asyncio.sleep(0.3)
                assert receiver.deliveries == []
        await until(lambda: states(database)["sent"] == 2)
        await tell(database, sending.names, kept)
        await asyncio.sleep(0.3)
    assert Counter(each.path for each in receiver.deliveries) == {"/a": 1, "/b": 1}
    assert {each.headers["webhook-id"] for each in receiver.deliveries} == {kept.id}
    assert "never told" not in json.dumps(rows(database, "event"))


@pytest.mark.parametrize("first_commits", [True, False])
async def test_two_gateways_that_tell_of_one_event_at_once_tell_it_once(database: str, first_commits: bool) -> None:
    event, names = new_event(), ("webhook a", "webhook b")
    async with await connect(database) as one, await connect(database) as two:
        async with one.transaction(force_rollback=not first_commits):
            assert await outbox.enqueue(one, event, names) == 2
            second = asyncio.create_task(outbox.enqueue(two, event, reversed(names)))
            await until(lambda: asks(database, "with new as (", wait_event_type="Lock"))
            assert not second.done(), "whether the first counts is not known yet"
        assert await second == (0 if first_commits else 2)
    assert len(rows(database)) == 2


async def test_a_commit_wakes_it_at_once(database: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "POLL_S", 3600.0)
    sending = dispatching(database, webhook(receiver.url))
    async with running(sending):
        await tell(database, sending.names, new_event())
        await until(lambda: len(receiver.accepted) == 1)
        listens = f"listen {outbox.CHANNEL}"
        await until(lambda: asks(database, listens, state="idle"))
        await tell(database, sending.names, new_event())
        await until(lambda: len(receiver.accepted) == 2)


async def test_a_receiver_that_fails_three_times_accepts_one(database: str, receiver: Receiver) -> None:
    receiver.answers = [500, 503, 429]
    sending = dispatching(database, webhook(receiver.url))
    async with running(sending):
        await tell(database, sending.names, new_event())
        await until(lambda: states(database)["sent"] == 1)
        await asyncio.sleep(0.5)
    assert [each.status for each in receiver.deliveries] == [500, 503, 429, 200]
    assert len({each.headers["webhook-id"] for each in receiver.deliveries}) == 1
    assert len({each.body for each in receiver.deliveries}) == 1
    assert rows(database) == [("sent", 4, None)]


async def test_a_signature_verifies_and_one_changed_byte_does_not(database: str, receiver: Receiver) -> None:
    receiver.answers = [500]
    sending = dispatching(database, webhook(receiver.url))
    async with running(sending):
        await tell(database, sending.names, new_event(key_alias="naïve ✓"))
        await until(lambda: states(database)["sent"] == 1)
    key = Webhook(KEY)
    for delivery in receiver.deliveries:
        assert key.verify(delivery.body, dict(delivery.headers))["data"]["key_alias"] == "naïve ✓"
        assert delivery.headers["content-type"] == "application/json"
        assert "." not in delivery.headers["webhook-id"]
    body, headers = receiver.deliveries[0].body, dict(receiver.deliveries[0].headers)
    changed = [(body.replace(b"gpt-4o", b"gpt-4p"), headers)]
    for name in ("webhook-id", "webhook-timestamp"):
        said = headers[name]
        changed.append((body, headers | {name: said[:-1] + ("1" if said[-1] == "0" else "0")}))
    for each, told in changed:
        assert (each, told) != (body, headers)
        with pytest.raises(WebhookVerificationError):
            key.verify(each, told)
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "QUJD" * 10).verify(body, headers)


async def test_two_gateways_share_two_hundred_events_and_send_each_once(
    database: str, receiver: Receiver, other: Receiver
) -> None:
    receiver.delay_s = 0.01
    entries = webhook(f"{receiver.url}/a"), webhook(f"{receiver.url}/b"), webhook(f"{other.url}/c")
    one, two = dispatching(database, *entries), dispatching(database, *entries)
    async with running(one, two):
        await asyncio.gather(*(tell(database, one.names, *(new_event() for _ in range(20))) for _ in range(10)))
        await until(lambda: states(database) == {"sent": 600})
    arrived = Counter((each.path, each.headers["webhook-id"]) for each in receiver.deliveries + other.deliveries)
    assert len(arrived) == 600
    assert set(arrived.values()) == {1}


async def test_what_a_killed_gateway_was_sending_another_sends(
    database: str, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.delay_s = 60
    command = [sys.executable, "-m", "tests.support.notifier", database, receiver.url, "6"]
    dying = Server(command, tmp_path / "log", env={**os.environ, "HOOK_SECRET": KEY, "NO_PROXY": "127.0.0.1"})
    sending = dispatching(database, webhook(receiver.url))
    await tell(database, sending.names, new_event())
    dying.start()
    try:
        await until(lambda: len(receiver.deliveries) == 1)
    finally:
        dying.kill()
    receiver.delay_s = 0
    async with running(sending):
        await asyncio.sleep(0.5)
        assert len(receiver.deliveries) == 1, "the lease of the dead is kept to"
        await until(lambda: states(database)["sent"] == 1)
    first, second = receiver.deliveries
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert rows(database) == [("sent", 2, None)]


async def test_a_gateway_whose_lease_was_taken_over_does_not_undo_what_the_other_did(database: str) -> None:
    event = new_event()
    await tell(database, ("webhook a",), event)
    async with await connect(database) as connection:
        (late,) = await outbox.claim(connection, {"webhook a": 4}, new_call_id(), 0.0)
        (taker,) = await outbox.claim(connection, {"webhook a": 4}, new_call_id(), 60.0)
        assert await outbox.claim(connection, {"webhook a": 4}, new_call_id(), 60.0) == []
        assert await outbox.failed(connection, late, "HTTP 500", 0.0) is None
        await outbox.sent(connection, taker)
        assert await outbox.failed(connection, taker, "HTTP 500", 0.0) is None
    assert rows(database) == [("sent", 2, None)]


async def test_a_receiver_that_is_slow_holds_up_nobody_else(database: str, receiver: Receiver, other: Receiver) -> None:
    receiver.delay_s = 60
    sending = dispatching(database, webhook(f"{receiver.url}/slow"), webhook(f"{other.url}/quick"))
    async with running(sending):
        begun = time.monotonic()
        await tell(database, sending.names, *(new_event() for _ in range(30)))
        await until(lambda: len(other.accepted) == 30)
        assert time.monotonic() - begun < 14, "less than it takes to give an attempt up"
        assert len(receiver.deliveries) <= dispatcher.AT_ONCE


async def test_a_receiver_that_never_answers_or_never_ends_costs_one_attempt(
    database: str, receiver: Receiver, other: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(senders, "SEND_TIMEOUT_S", 0.5)
    receiver.delay_s, other.endless = 30, True
    sending = dispatching(database, webhook(f"{receiver.url}/a-silent"), webhook(f"{other.url}/b-endless"))
    async with running(sending):
        await tell(database, sending.names, new_event())
        await until(lambda: states(database)["sent"] == 1)
        await until(lambda: any(error for _, _, error in rows(database)))
        assert {error for _, _, error in rows(database)} == {None, "no answer in 0 s"}
        receiver.delay_s = 0
        await until(lambda: states(database)["sent"] == 2)


async def test_a_redirect_is_not_followed(database: str, receiver: Receiver, other: Receiver) -> None:
    receiver.answers, receiver.answer_headers = [307], {"location": other.url}
    sending = dispatching(database, webhook(receiver.url))
    async with running(sending):
        await tell(database, sending.names, new_event())
        await until(lambda: states(database)["sent"] == 1)
    assert other.deliveries == []
    assert [each.status for each in receiver.deliveries] == [307, 200]


async def test_retry_after_is_obeyed(database: str, receiver: Receiver) -> None:
    receiver.answers, receiver.answer_headers = [429], {"retry-after": "2"}
    sending = dispatching(database, webhook(receiver.url))
    async with running(sending):
        await tell(database, sending.names, new_event())
        await until(lambda: states(database)["sent"] == 1)
    first, second = receiver.deliveries
    assert second.at - first.at >= 2


async def test_after_a_day_it_is_given_up_with_a_line_and_a_metric(
    database: str, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [500] * 100
    sending = dispatching(database, webhook(receiver.url))
    before = notifications.labels(type="webhook", result="dead")._value.get()
    async with running(sending):
        event = new_event()
        await tell(database, sending.names, event)
        await until(lambda: rows(database)[0][1] >= 2)
        with psycopg.connect(database) as connection:
            connection.execute("update gatehouse.outbox set created_at = created_at - interval '24 hours'")
        await until(lambda: states(database)["dead"] == 1)
        tried = len(receiver.deliveries)
        await asyncio.sleep(0.5)
        assert len(receiver.deliveries) == tried
        await until(lambda: notifications.labels(type="webhook", result="dead")._value.get() == before + 1)
        assert rows(database)[0][2] == "HTTP 500"
        receiver.answers = []
        page = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text()
        with psycopg.connect(database) as connection:
            for statement in page.partition("```sql")[2].partition("```")[0].split(";"):
                connection.execute(statement.encode())
        await until(lambda: rows(database) == [("sent", 1, None)])
    said = [each.getMessage() for each in caplog.records if "given up" in each.getMessage()]
    assert len(said) == 1
    assert event.id in said[0]


async def test_what_waits_for_an_address_that_is_gone_is_given_up_after_its_day(
    database: str, receiver: Receiver
) -> None:
    await tell(database, ("webhook gone",), new_event(), new_event())
    with psycopg.connect(database) as connection:
        connection.execute(
            "update gatehouse.outbox set created_at = now() - interval '25 h', next_attempt_at = now() - interval '2 h'"
            " where event_id = (select min(event_id) from gatehouse.outbox)"
        )
    async with running(dispatching(database, webhook(receiver.url))):
        await until(lambda: states(database)["dead"] == 1)
    assert states(database) == {"dead": 1, "pending": 1}
    assert receiver.deliveries == []


async def test_stopping_lets_what_is_under_way_end_and_takes_nothing_more(database: str, receiver: Receiver) -> None:
    receiver.delay_s = 0.5
    sending = dispatching(database, webhook(receiver.url))
    await sending.start()
    await tell(database, sending.names, *(new_event() for _ in range(10)))
    await until(lambda: len(receiver.deliveries) == dispatcher.AT_ONCE)
    await sending.stop(patience_s=60)
    assert states(database) == {"sent": dispatcher.AT_ONCE, "pending": 10 - dispatcher.AT_ONCE}
    assert len(receiver.deliveries) == dispatcher.AT_ONCE


async def test_stopping_does_not_wait_for_a_receiver_that_hangs(database: str, receiver: Receiver) -> None:
    receiver.delay_s = 60
    sending = dispatching(database, webhook(receiver.url))
    await sending.start()
    await tell(database, sending.names, new_event())
    await until(lambda: len(receiver.deliveries) == 1)
    begun = time.monotonic()
    await sending.stop(patience_s=1)
    assert time.monotonic() - begun < 10
    assert rows(database) == [("pending", 1, "the gateway stopped")]


async def test_it_survives_the_database(tmp_path: Path, receiver: Receiver) -> None:
    server = Postgres()
    try:
        database = server.create_database()
        apply_migrations(database)
        sending = dispatching(database, webhook(receiver.url))
        async with running(sending):
            await tell(database, sending.names, new_event())
            await until(lambda: states(database)["sent"] == 1)
            receiver.delay_s = 2
            await tell(database, sending.names, new_event())
            await until(lambda: len(receiver.deliveries) == 2)
            server.kill()  # while it is told
            await asyncio.sleep(3)
            receiver.delay_s = 0
            await asyncio.to_thread(server.start)
            await until(lambda: states(database)["sent"] == 2)
            await tell(database, sending.names, new_event())
            await until(lambda: states(database)["sent"] == 3)
        assert len(receiver.deliveries) == 3, "what was sent is written down before anything is sent again"
    finally:
        server.close()


async def test_slacks_address_stands_in_no_row_no_error_and_no_log_line(
    database: str, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.answers = [404]
    secret = "/services/T0/B0/very-secret"
    sending = dispatching(
        database, NotificationPolicy(type="slack", url_env="SLACK_URL"), SLACK_URL=receiver.url + secret
    )
    async with running(sending):
        await tell(database, sending.names, new_event(agent="<!channel>"))
        await until(lambda: states(database)["sent"] == 1)
    assert [each.path for each in receiver.deliveries] == [secret, secret]
    body = json.loads(receiver.deliveries[1].body)
    assert "&lt;!channel&gt;" in body["text"]
    assert "very-secret" not in caplog.text
    assert "very-secret" not in str(rows(database, "address, event, last_error"))


async def test_the_gateways_role_may_fill_and_empty_the_outbox_and_take_nothing_out_of_it(
    database: str, receiver: Receiver
) -> None:
    role = f"outbox_{new_call_id().hex}"
    with psycopg.connect(database) as connection:
        connection.execute(f"create role {role} login".encode())
        roles.grant(connection, role)
    as_role = database.replace("postgres@", f"{role}@")
    sending = dispatching(as_role, webhook(receiver.url))
    async with running(sending):
        await tell(as_role, sending.names, new_event())
        await until(lambda: states(database)["sent"] == 1)
    for statement in ("delete from gatehouse.outbox", "truncate gatehouse.outbox"):
        with psycopg.connect(as_role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


async def test_nothing_runs_where_nobody_is_to_be_told(database: str) -> None:
    before = len(asyncio.all_tasks())
    async with running(Dispatcher(database, ())):
        await tell(database, (), new_event())
        assert len(asyncio.all_tasks()) == before
    assert rows(database) == []
