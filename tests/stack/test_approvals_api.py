"""Approvals over HTTP on the real gateway: a vote is the vote of the key's user, and each user sees only their own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
import schemathesis
from gatehouse.approvals import store as db
from gatehouse.approvals.binding import bind
from gatehouse.approvals.model import Approval, NewApproval, Voter
from gatehouse.approvals.review_copy import seal
from gatehouse.core.keys import InstallationKeys
from gatehouse.storage.connection import connect
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.support.gateway import INSTALLATION_SECRET, MASTER_KEY, Gateway
from tests.support.postgres import Postgres
from tests.support.process import PATIENCE_S, wait_until
from tests.support.redis_server import Redis

APPROVALS = "/governance/v1/approvals"


@dataclass(frozen=True)
class Person:
    """Holds a LiteLLM user with a key."""

    user_id: str
    key: str

    @property
    def key_hash(self) -> str:
        return hashlib.sha256(self.key.encode()).hexdigest()


@dataclass(frozen=True)
class People:
    """Holds the users: `ada` asks, the others may or may not decide."""

    ada: Person
    grace: Person
    edsger: Person
    auditor: Person
    member: Person
    stranger: Person
    team_id: str


def person(gateway: Gateway, role: str, **fields: Any) -> Person:
    with gateway.client() as client:
        answer = client.post("/user/new", json={"user_role": role, "auto_create_key": False, **fields})
        answer.raise_for_status()
        user_id = answer.json()["user_id"]
    return Person(user_id, gateway.new_key(user_id=user_id))


@pytest.fixture(scope="module")
def people(gateway: Gateway) -> People:
    with gateway.client() as client:
        team = client.post("/team/new", json={"team_alias": f"finance-{uuid4()}"})
        team.raise_for_status()
        team_id = team.json()["team_id"]
    member = person(gateway, "internal_user")
    with gateway.client() as client:
        client.post(
            "/team/member_add", json={"team_id": team_id, "member": {"role": "user", "user_id": member.user_id}}
        ).raise_for_status()
    return People(
        ada=person(gateway, "internal_user"),
        grace=person(gateway, "proxy_admin"),
        edsger=person(gateway, "proxy_admin"),
        auditor=person(gateway, "proxy_admin_viewer"),
        member=member,
        stranger=person(gateway, "internal_user"),
        team_id=team_id,
    )


def asked(gateway: Gateway, by: Person, **changes: Any) -> Approval:
    """Write a request for approval into the database; return it."""
    default: dict[str, Any] = {
        "digest": hashlib.sha256(uuid4().bytes).hexdigest(),
        "requested_by": {"key_hash": by.key_hash, "user": by.user_id},
        "route": "/v1/chat/completions",
        "model": "demo",
        "rule_ids": ("expensive",),
        "reason": "It is expensive.",
        "policy_version": "v1",
        "approvers": {},
        "expires_in_s": 600,
        "summary": {"messages": [{"role": "user", "content": "Hello <EMAIL_ADDRESS_7Q2MKD4P>"}]},
    }

    async def opened() -> Approval:
        async with await connect(gateway.database_url) as connection:
            return await db.open_request(connection, NewApproval(**(default | changes)))

    return asyncio.run(opened())


def post(gateway: Gateway, key: str | None, path: str, **options: Any) -> httpx.Response:
    with gateway.client(key) as client:
        return client.post(APPROVALS + path, **options)


def get(gateway: Gateway, key: str | None, path: str, **options: Any) -> httpx.Response:
    with gateway.client(key) as client:
        return client.get(APPROVALS + path, **options)


def vote(gateway: Gateway, by: Person, approval: Approval, decision: str = "approve", **more: Any) -> httpx.Response:
    return post(gateway, by.key, f"/{approval.id}/votes", json={"decision": decision, **more})


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code
    assert error["message"].endswith(".")


# Who votes.


def test_a_vote_is_the_vote_of_the_keys_user(gateway: Gateway, people: People) -> None:
    approval = asked(gateway, people.ada)
    answer = vote(gateway, people.grace, approval, comment="Fine: \u00fcber\0")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["state"], found["given"], found["needed"]) == ("approved", 1, 1)
    (counted,) = found["votes"]
    assert (counted["user_id"], counted["role"], counted["decision"], counted["comment"]) == (
        people.grace.user_id,
        "proxy_admin",
        "approve",
        "Fine: \u00fcber\ufffd",
    )
    assert get(gateway, people.ada.key, f"/{approval.id}").json()["state"] == "approved"


def test_a_name_in_the_body_is_refused(gateway: Gateway, people: People) -> None:
    approval = asked(gateway, people.ada)
    for name in ("user_id", "voter", "role", "edit"):
        refused(vote(gateway, people.grace, approval, **{name: people.edsger.user_id}), 400, "invalid_request")
    assert get(gateway, MASTER_KEY, f"/{approval.id}").json()["votes"] == []


def test_two_people_must_say_yes_where_the_rule_wants_two(gateway: Gateway, people: People) -> None:
    approval = asked(gateway, people.ada, approvers={"count": 2})
    assert vote(gateway, people.grace, approval).json()["state"] == "requested"
    refused(vote(gateway, people.grace, approval), 409, "conflict")
    another_key = Person(people.grace.user_id, gateway.new_key(user_id=people.grace.user_id))
    refused(vote(gateway, another_key, approval), 409, "conflict")
    assert vote(gateway, people.edsger, approval).json()["state"] == "approved"
    refused(vote(gateway, people.edsger, approval, "reject"), 409, "conflict")


def test_nobody_votes_on_their_own_request(gateway: Gateway, people: People) -> None:
    approval = asked(gateway, people.grace)
    another_key = Person(people.grace.user_id, gateway.new_key(user_id=people.grace.user_id))
    for voter in (people.grace, another_key):
        answer = vote(gateway, voter, approval)
        refused(answer, 403, "access_denied")
        assert get(gateway, voter.key, f"/{approval.id}").json()["may_vote"] is False


def test_a_key_without_a_user_cannot_vote(gateway: Gateway, people: People) -> None:
    nobody = Person("", gateway.new_key())
    for approval in (asked(gateway, nobody), asked(gateway, people.ada)):
        answer = vote(gateway, nobody, approval)
        refused(answer, 403, "access_denied")
        assert "key of your own user" in answer.json()["error"]["message"]


def test_users_roles_and_teams_of_the_rule_may_vote_and_others_may_not(gateway: Gateway, people: People) -> None:
    named: list[tuple[dict[str, list[str]], Person]] = [
        ({"teams": [people.team_id]}, people.member),
        ({"users": [people.stranger.user_id]}, people.stranger),
        ({"roles": ["proxy_admin"]}, people.grace),
    ]
    for approvers, who in named:
        approval = asked(gateway, people.ada, approvers=approvers)
        if who is not people.grace:
            refused(vote(gateway, people.grace, approval), 403, "access_denied")
        for other in {people.member, people.stranger} - {who}:
            refused(vote(gateway, other, approval), 404, "not_found")
        assert get(gateway, who.key, f"/{approval.id}").json()["may_vote"] is True
        answer = vote(gateway, who, approval, "reject", comment="No.")
        assert answer.json().get("state") == "rejected", answer.text


def test_an_auditor_reads_and_does_not_vote(gateway: Gateway, people: People) -> None:
    approval = asked(gateway, people.ada, approvers={"roles": ["proxy_admin_viewer"]})
    found = get(gateway, people.auditor.key, f"/{approval.id}").json()
    assert (found["may_vote"], found["why_not"]) == (False, "Your role reads and does not vote. Ask an administrator.")
    refused(vote(gateway, people.auditor, approval), 403, "access_denied")


def test_a_decided_request_is_a_conflict_and_so_is_one_whose_time_is_over(gateway: Gateway, people: People) -> None:
    approval, late = asked(gateway, people.ada), asked(gateway, people.ada, expires_in_s=0)
    assert vote(gateway, people.grace, approval, "reject").json()["state"] == "rejected"
    refused(vote(gateway, people.edsger, approval), 409, "conflict")
    refused(vote(gateway, people.grace, late), 409, "conflict")
    refused(post(gateway, people.ada.key, f"/{late.id}/cancel"), 409, "conflict")


# Who sees what.


def test_everybody_sees_what_is_theirs_and_nothing_else(gateway: Gateway, people: People) -> None:
    mine = asked(gateway, people.ada)
    for_team = asked(gateway, people.grace, approvers={"teams": [people.team_id]})
    sees = {
        people.grace: {mine.id, for_team.id},
        people.auditor: {mine.id, for_team.id},
        people.ada: {mine.id},
        people.member: {for_team.id},
        people.stranger: set(),
    }
    for who, seen in sees.items():
        listed = {each["id"] for each in get(gateway, who.key, "/?limit=200").json()["approvals"]}
        for approval in (mine, for_team):
            answer = get(gateway, who.key, f"/{approval.id}")
            assert (str(approval.id) in listed) == (approval.id in seen)
            if approval.id in seen:
                assert answer.json()["summary"] == dict(approval.summary)
            else:
                refused(answer, 404, "not_found")
                refused(post(gateway, who.key, f"/{approval.id}/cancel"), 404, "not_found")
    refused(get(gateway, people.ada.key, f"/{uuid4()}"), 404, "not_found")


def test_without_a_key_nothing_is_answered(gateway: Gateway, people: People) -> None:
    approval = asked(gateway, people.ada)
    for key in (None, "sk-not-a-key-of-anybody"):
        for path in ("/", "", f"/{approval.id}", "/events"):
            assert get(gateway, key, path).status_code == 401
        assert post(gateway, key, f"/{approval.id}/votes", json={"decision": "approve"}).status_code == 401
        assert post(gateway, key, f"/{approval.id}/cancel").status_code == 401


def test_pages_are_the_whole_list_once(gateway: Gateway, people: People) -> None:
    ada = person(gateway, "internal_user")
    mine = [str(asked(gateway, ada).id) for _ in range(5)]
    asked(gateway, people.ada)
    pages, cursor = [], None
    for _ in range(10):
        page = get(gateway, ada.key, "/", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        pages += page["approvals"]
        if (cursor := page["next"]) is None:
            break
    assert [each["id"] for each in pages] == mine[::-1]
    assert all(each["summary"] is None for each in pages)
    vote(gateway, people.grace, asked(gateway, ada))
    (approved,) = get(gateway, ada.key, "/?state=approved").json()["approvals"]
    assert approved["state"] == "approved"


# Taking back.


def test_whoever_asked_may_take_it_back_and_so_may_an_administrator(gateway: Gateway, people: People) -> None:
    for who in (people.ada, people.grace):
        approval = asked(gateway, people.ada)
        assert post(gateway, who.key, f"/{approval.id}/cancel").json()["state"] == "cancelled"
        refused(post(gateway, who.key, f"/{approval.id}/cancel"), 409, "conflict")
        refused(vote(gateway, people.edsger, approval), 409, "conflict")
    approval = asked(gateway, people.ada, approvers={"teams": [people.team_id]})
    refused(post(gateway, people.member.key, f"/{approval.id}/cancel"), 403, "access_denied")


# Bodies.


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"x"',
        b"{",
        b"null",
        b"{}",
        b"\xff\xfe",
        b"[" * 30_000,
        b'{"decision": "maybe"}',
        b'{"decision": ["approve"]}',
        b'{"decision": "approve", "comment": 1}',
        b'{"decision": "approve", "comment": "\\ud800"}',
        b'{"decision": "approve", "\\ud800": 1}',
        b'{"decision": "approve", "\\u0000": 1}',
        json.dumps({"decision": "approve", "comment": "x" * 2_001}).encode(),
        json.dumps({"decision": "approve", "x" * 60_000: 1}).encode(),
        json.dumps({"decision": "approve", "comment": "x" * 70_000}).encode(),
    ],
)
def test_a_body_that_is_no_vote_is_refused_and_nothing_is_counted(
    gateway: Gateway, people: People, body: bytes
) -> None:
    approval = asked(gateway, people.ada)
    for kind in ("application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = post(gateway, people.grace.key, f"/{approval.id}/votes", content=body, headers={"content-type": kind})
        refused(answer, 400, "invalid_request")
        assert len(answer.text) < 1_000
    assert get(gateway, people.grace.key, f"/{approval.id}").json()["votes"] == []


def test_a_comment_may_have_2000_characters(gateway: Gateway, people: People) -> None:
    approval = asked(gateway, people.ada)
    answer = vote(gateway, people.grace, approval, comment="\u00e4" * 2_000)
    assert answer.json()["votes"][0]["comment"] == "\u00e4" * 2_000


def test_parameters_that_are_none_are_refused(gateway: Gateway, people: People) -> None:
    for path in ("/17", "/?state=open", "/?limit=0", "/?limit=201", "/?cursor=x", "/%00", "/?state=%00", "/%ED%A0%80"):
        refused(get(gateway, people.grace.key, path), 400, "invalid_request")
    approval = asked(gateway, people.ada)
    for body in (b"[]", b"{", b'{"a": 1}'):
        refused(post(gateway, people.ada.key, f"/{approval.id}/cancel", content=body), 400, "invalid_request")


# Events.


@contextmanager
def following(gateway: Gateway, key: str) -> Iterator[Queue[tuple[str, dict[str, Any]]]]:
    """Follow the events that this key sees, from `ready` on; earlier events come first in the queue."""
    events: Queue[tuple[str, dict[str, Any]]] = Queue()
    ready = threading.Event()
    client = gateway.client(key)
    stop = threading.Event()

    def read() -> None:
        name = ""
        try:
            with client.stream("GET", f"{APPROVALS}/events") as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                for line in answer.iter_lines():
                    if line.startswith("event: "):
                        name = line[7:]
                    elif line.startswith("data: "):
                        if name == "ready":
                            ready.set()
                        else:
                            events.put((name, json.loads(line[6:])))
                    if stop.is_set():
                        return
        except httpx.HTTPError:
            pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert ready.wait(PATIENCE_S)
    try:
        yield events
    finally:
        stop.set()


def test_events_tell_what_was_asked_and_decided_to_those_who_may_see_it(gateway: Gateway, people: People) -> None:
    before = asked(gateway, people.ada)
    with following(gateway, people.grace.key) as admins, following(gateway, people.member.key) as members:
        foreign = asked(gateway, people.ada)
        vote(gateway, people.grace, foreign, "reject")
        for_team = asked(gateway, people.ada, approvers={"teams": [people.team_id]})
        vote(gateway, people.member, for_team)
        vote(gateway, people.edsger, before)
        told = []
        while not told or told[-1] != ("decided", str(before.id), "approved"):
            name, event = admins.get(timeout=PATIENCE_S)
            told.append((name, event["id"], event["state"]))
        assert [each for each in told if each[1] in {str(before.id), str(foreign.id), str(for_team.id)}] == [
            ("requested", str(before.id), "requested"),
            ("requested", str(foreign.id), "requested"),
            ("decided", str(foreign.id), "rejected"),
            ("requested", str(for_team.id), "requested"),
            ("decided", str(for_team.id), "approved"),
            ("decided", str(before.id), "approved"),
        ]
        seen: list[tuple[str, str]] = []
        while ("decided", str(for_team.id)) not in seen:
            name, event = members.get(timeout=PATIENCE_S)
            seen.append((name, event["id"]))
        assert seen[-2:] == [("requested", str(for_team.id)), ("decided", str(for_team.id))]
        assert not {str(before.id), str(foreign.id)} & {each for _, each in seen}
        assert members.empty()


def listeners(gateway: Gateway) -> int:
    with psycopg.connect(gateway.database_url) as connection:
        row = connection.execute(
            "select count(*) from pg_stat_activity where query = 'listen gatehouse_approvals' "
            "and datname = current_database()"
        ).fetchone()
    assert row
    return int(row[0])


def test_one_connection_listens_for_all_who_follow_and_ends_with_the_last(gateway: Gateway, people: People) -> None:
    wait_until(lambda: listeners(gateway) == 1, "only the gateway's own listener is left")
    with (
        gateway.client(people.grace.key) as one,
        gateway.client(people.ada.key) as other,
        one.stream("GET", f"{APPROVALS}/events"),
        other.stream("GET", f"{APPROVALS}/events"),
    ):
        assert listeners(gateway) == 2
    wait_until(lambda: listeners(gateway) == 1, "nobody is followed any more")


def test_a_stream_ends_when_its_listener_is_lost_and_begins_again(gateway: Gateway, people: People) -> None:
    with gateway.client(people.grace.key) as client, client.stream("GET", f"{APPROVALS}/events") as answer:
        lines = answer.iter_lines()
        while next(lines) != "event: ready":
            pass
        with psycopg.connect(gateway.database_url) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where query = 'listen gatehouse_approvals' "
                "and datname = current_database()"
            )
        began = time.monotonic()
        assert [line for line in lines if line.startswith("event")] == []
        assert time.monotonic() - began < PATIENCE_S
    with following(gateway, people.grace.key) as events:
        approval = asked(gateway, people.ada)
        while events.get(timeout=PATIENCE_S)[1]["id"] != str(approval.id):
            pass


# The description.


@pytest.fixture(scope="module")
def description(gateway: Gateway) -> dict[str, Any]:
    """Return the OpenAPI description of these routes."""
    with gateway.client() as client:
        whole: dict[str, Any] = client.get("/openapi.json").json()
    whole["paths"] = {path: each for path, each in whole["paths"].items() if path.startswith(APPROVALS)}
    return whole


def test_the_description_names_these_routes(description: dict[str, Any]) -> None:
    assert {path.removeprefix(APPROVALS): set(each) for path, each in description["paths"].items()} == {
        "/": {"get"},
        "/events": {"get"},
        "/{approval_id}": {"get"},
        "/{approval_id}/request": {"get"},
        "/{approval_id}/votes": {"post"},
        "/{approval_id}/cancel": {"post"},
    }


def test_what_is_answered_is_what_is_described(gateway: Gateway, people: People, description: dict[str, Any]) -> None:
    description["paths"].pop(f"{APPROVALS}/events", None)  # it does not end
    schema = schemathesis.openapi.from_dict(description)
    schema.config.update(base_url=gateway.url)
    bound = bind(caller={}, route="/r", body={"prompt": "to <X_1>"}, policy_version="v")
    copy = seal(InstallationKeys(INSTALLATION_SECRET), bound, {"<X_1>": "ada"})
    there = asked(gateway, people.ada, approvers={"count": 2}, digest=bound.digest, copy=copy)
    operations = [each.ok() for each in schema.get_all_operations()]
    assert len(operations) == 5
    for operation in operations:

        @settings(
            max_examples=25,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(), real=st.booleans())
        def holds(case: schemathesis.Case, real: bool) -> None:
            if real and "approval_id" in case.path_parameters:
                case.path_parameters["approval_id"] = str(there.id)
            # Whether an edit lowers what was asked no schema can say.
            edits = isinstance(case.body, dict) and case.body.get("edit") is not None
            case.call_and_validate(
                headers={"Authorization": f"Bearer {people.grace.key}"},
                timeout=PATIENCE_S,
                excluded_checks=[positive_data_acceptance] if edits else [],
            )

        holds()


def test_the_masters_vote_is_the_administrators(gateway: Gateway, people: People) -> None:
    approval = asked(gateway, people.ada)
    voter = Voter("default_user_id", "proxy_admin")
    answer = post(gateway, MASTER_KEY, f"/{approval.id}/votes", json={"decision": "approve"})
    assert [(each["user_id"], each["role"]) for each in answer.json()["votes"]] == [(voter.user_id, voter.role)]


# The command.


def test_watch_goes_on_after_a_restart_of_the_gateway(postgres: Postgres, redis_server: Redis) -> None:
    own = Gateway(postgres.create_database(), redis_server.port).start()
    environ = {**os.environ, "GATEHOUSE_URL": own.url, "GATEHOUSE_API_KEY": MASTER_KEY, "PYTHONUNBUFFERED": "1"}
    command = [str(Path(sys.executable).with_name("gatehouse")), "approvals"]
    watching = subprocess.Popen(
        [*command, "watch", "--json"],
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
        # As in a terminal: what a shell starts in the background ignores Ctrl-C, and so does all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    lines: Queue[dict[str, Any]] = Queue()
    assert watching.stdout is not None
    output = watching.stdout
    threading.Thread(target=lambda: [lines.put(json.loads(line)) for line in output], daemon=True).start()

    def told() -> tuple[str, str]:
        event = lines.get(timeout=PATIENCE_S)
        return event["id"], event["state"]

    try:
        ada = Person("ada", "sk-ada")
        first, second = asked(own, ada), asked(own, ada)
        assert {told(), told()} == {(str(first.id), "requested"), (str(second.id), "requested")}
        own.server.stop()
        asyncio.run(approve_directly(own, first))
        third = asked(own, ada)
        own.start()
        assert {told(), told()} == {(str(first.id), "approved"), (str(third.id), "requested")}
        done = subprocess.run(
            [*command, "reject", str(second.id), "-m", "No."], env=environ, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, f"{second.id} is rejected.\n"), done.stderr
        assert told() == (str(second.id), "rejected")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(PATIENCE_S) == 0
    finally:
        watching.kill()
        own.close()


async def approve_directly(gateway: Gateway, approval: Approval) -> None:
    async with await connect(gateway.database_url) as connection:
        await db.vote(connection, approval.id, Voter("grace", "proxy_admin"), approve=True)
