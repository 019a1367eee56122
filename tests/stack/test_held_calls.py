"""A call that people must approve reaches the model once they have, exactly as it was approved, and only once."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
import yaml
from gatehouse.approvals import store
from gatehouse.approvals.model import Approval, Edit, Voter
from gatehouse.storage.connection import connect

from tests.support.gateway import MASTER_KEY, METRICS_TOKEN, Gateway
from tests.support.lines import approval_lines
from tests.support.postgres import Postgres
from tests.support.process import wait_until
from tests.support.receiver import Receiver
from tests.support.redis_server import Redis
from tests.support.upstream import Upstream

MAIL = "ada.lovelace@example.com"
POLICY = """
version: 1
pii: {mode: mask}
notifications:
  - {type: webhook, url: WEBHOOK, secret_env: REVIEW_SECRET}
rules:
  - id: needs-a-human
    when: request.max_tokens > 50 && agent.id != "held"
    then: require_approval
    reason: Long answers are looked at first.
    approvers: {users: [grace, alan]}
  - id: waits-for-a-human
    when: agent.id == "held"
    then: require_approval
    approvers: {users: [grace, alan], count: 1, hold: 60s}
  - id: small-is-short
    when: request.model == "up-small" && request.max_tokens > 80
    then: deny
    reason: The small model answers shortly.
  - id: other-needs-others
    when: request.model == "up-other"
    then: require_approval
    approvers: {users: [somebody-else]}
"""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


@pytest.fixture(scope="module")
def asking(
    postgres: Postgres,
    redis_server: Redis,
    upstream_config: Path,
    receiver: Receiver,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text(POLICY.replace("WEBHOOK", f"{receiver.url}/review"))
    config = yaml.safe_load(upstream_config.read_text())
    config["litellm_settings"]["sse_keepalive_ping_interval_seconds"] = 1
    models = {"up-small": "openai/gpt-4o-mini", "up-other": "openai/gpt-4o", "up-dear": "openai/gpt-4o"}
    for name, model in models.items():
        like = next(each for each in config["model_list"] if each["model_name"] == "up-chat")
        times = 10 if name == "up-dear" else 1
        priced = {key: value * times for key, value in like["model_info"].items()}
        params = like["litellm_params"] | {"model": model}
        config["model_list"].append({"model_name": name, "litellm_params": params, "model_info": priced})
    path = policy.with_name("config.yaml")
    path.write_text(yaml.safe_dump(config))
    environ = {"REVIEW_SECRET": "whsec_" + base64.b64encode(b"k" * 32).decode()}
    server = Gateway(postgres.create_database(), redis_server.port, config=path, policy=policy, environ=environ).start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def reviewers(asking: Gateway) -> dict[str, str]:
    """Make keys of the people whom the rules name; grace is an administrator too."""
    with asking.client() as client:
        for user, role in (("grace", "proxy_admin"), ("alan", "internal_user")):
            client.post(
                "/user/new", json={"user_id": user, "user_role": role, "auto_create_key": False}
            ).raise_for_status()
    return {user: asking.new_key(user_id=user) for user in ("grace", "alan")}


def ask(gateway: Gateway, key: str, *, approval: str | None = None, agent: str = "", **fields: Any) -> httpx.Response:
    headers = {"x-gatehouse-agent": agent} | ({"x-gatehouse-approval": approval} if approval else {})
    body = {"model": "up-chat", "messages": [{"role": "user", "content": f"Write to {MAIL}"}], "max_tokens": 100}
    with gateway.client(key) as client:
        return client.post("/v1/chat/completions", json=body | fields, headers=headers)


def vote(
    gateway: Gateway, approval_id: str, user: str = "grace", *, approve: bool = True, edit: Edit | None = None
) -> Approval:
    async def cast() -> Approval:
        async with await connect(gateway.database_url) as connection:
            return await store.vote(connection, UUID(approval_id), Voter(user), approve=approve, edit=edit)

    return asyncio.run(cast())


def code(answer: httpx.Response) -> str | None:
    return answer.json().get("error", {}).get("code")


def wanted(answer: httpx.Response) -> str:
    assert (answer.status_code, code(answer)) == (403, "approval_required"), answer.text
    return str(answer.json()["error"]["gatehouse"]["approval"]["id"])


def pending(gateway: Gateway) -> list[str]:
    with psycopg.connect(gateway.database_url) as connection:
        rows = connection.execute("select id::text from gatehouse.approvals where state = 'requested'").fetchall()
    return [row[0] for row in rows]


def test_what_was_approved_goes_through_once(asking: Gateway, upstream: Upstream) -> None:
    key = asking.new_key(key_alias="once")
    first = ask(asking, key)
    approval = wanted(first)
    assert first.json()["error"]["message"] == "Long answers are looked at first."
    assert wanted(ask(asking, key)) == approval  # asking again opens no second one
    assert wanted(ask(asking, key, approval=approval)) == approval
    assert upstream.requests == []
    vote(asking, approval)
    answer = ask(asking, key, approval=approval)
    assert answer.status_code == 200, answer.text
    assert len(upstream.requests) == 1
    assert code(ask(asking, key, approval=approval)) == "approval_expired"
    assert len(upstream.requests) == 1

    asking.wait_settled()
    capsule = asking.capsule(answer.headers["x-gatehouse-call-id"])
    assert capsule["authority"]["type"] == "human_approved"
    assert capsule["authority"]["approver"] == "grace"
    assert capsule["authority"]["chain"][0]["approval_id"] == approval


def test_an_approval_is_for_exactly_one_request_of_one_caller(asking: Gateway, upstream: Upstream) -> None:
    key, other = asking.new_key(), asking.new_key()
    approval = wanted(ask(asking, key, temperature=0.5))
    vote(asking, approval)
    assert code(ask(asking, key, approval=approval, temperature=0.6)) == "approval_mismatch"
    assert code(ask(asking, key, approval=approval, temperature=0.5, tools=[])) == "approval_mismatch"
    assert code(ask(asking, other, approval=approval, temperature=0.5)) == "approval_mismatch"
    for nonsense in ("no-id", "00000000-0000-0000-0000-000000000000"):
        assert code(ask(asking, key, approval=nonsense, temperature=0.5)) == "approval_mismatch"
        assert code(ask(asking, key, approval=nonsense, agent="held", temperature=0.5)) == "approval_mismatch"
    # Nobody is held for somebody else's approval, nor ends it by leaving.
    assert code(ask(asking, other, approval=approval, agent="held", temperature=0.5)) == "approval_mismatch"
    assert upstream.requests == []
    assert ask(asking, key, approval=approval, temperature=0.5).status_code == 200


def test_an_approval_is_for_the_policy_that_was_in_force(asking: Gateway, upstream: Upstream) -> None:
    key = asking.new_key()
    approval = wanted(ask(asking, key, temperature=0.4))
    vote(asking, approval)
    assert asking.server.env is not None
    path = Path(asking.server.env["GATEHOUSE_POLICY"])
    before = path.read_text()

    def loads() -> list[str]:
        with asking.client(METRICS_TOKEN) as prometheus:
            page = prometheus.get("/metrics").text
        return re.findall(r'^gatehouse_policy_loads_total{result="good"} .*', page, re.MULTILINE)

    def put_in_force(text: str) -> None:
        known = loads()
        path.write_text(text)
        wait_until(lambda: loads() != known, "the policy is in force")

    put_in_force(before.replace("Long answers are", "A long answer is"))
    try:
        assert code(ask(asking, key, approval=approval, temperature=0.4)) == "approval_mismatch"
        anew = wanted(ask(asking, key, temperature=0.4))
        assert anew != approval
    finally:
        put_in_force(before)
    assert upstream.requests == []
    assert code(ask(asking, key, approval=anew, temperature=0.4)) == "approval_mismatch"
    assert ask(asking, key, approval=approval, temperature=0.4).status_code == 200


def test_what_was_rejected_or_came_too_late_never_goes_through(asking: Gateway, upstream: Upstream) -> None:
    key = asking.new_key()
    approval = wanted(ask(asking, key, temperature=0.1))
    vote(asking, approval, approve=False)
    assert code(ask(asking, key, approval=approval, temperature=0.1)) == "approval_rejected"
    late = wanted(ask(asking, key, temperature=0.2))
    vote(asking, late)
    with psycopg.connect(asking.database_url) as connection:
        connection.execute("update gatehouse.approvals set expires_at = now() where id = %s", (late,))
    assert code(ask(asking, key, approval=late, temperature=0.2)) == "approval_expired"
    assert upstream.requests == []


def test_of_many_who_come_back_at_once_one_goes_through(asking: Gateway, upstream: Upstream) -> None:
    key = asking.new_key()
    approval = wanted(ask(asking, key, temperature=0.3))
    vote(asking, approval)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(asking, key, approval=approval, temperature=0.3).status_code, range(8)))
    assert sorted(answers) == [200] + [403] * 7
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_held_call_goes_on_when_it_is_approved_and_ends_when_it_is_not(
    asking: Gateway, upstream: Upstream, stream: bool
) -> None:
    key = asking.new_key()
    with ThreadPoolExecutor(2) as pool:

        def held(temperature: float) -> tuple[Future[httpx.Response], str]:
            known = set(pending(asking))
            call = pool.submit(ask, asking, key, agent="held", temperature=temperature, stream=stream)
            wait_until(lambda: set(pending(asking)) > known, "the request for approval")
            (approval,) = set(pending(asking)) - known
            assert not call.done()
            return call, approval

        call, approval = held(0.7)
        assert upstream.requests == []
        vote(asking, approval)
        assert call.result(60).status_code == 200
        assert len(upstream.requests) == 1
        call, approval = held(0.8)
        time.sleep(2.5)  # a stream is kept alive meanwhile, so its answer has begun
        vote(asking, approval, "alan", approve=False)
        answer = call.result(60)
        assert ('"code": "approval_rejected"' in answer.text) or ('"code":"approval_rejected"' in answer.text)
        assert answer.status_code == (200 if stream else 403)
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_client_that_leaves_while_it_is_held_sends_nothing(asking: Gateway, upstream: Upstream, stream: bool) -> None:
    key = asking.new_key()
    known, before = set(pending(asking)), len(cancelled(asking))
    body = json.dumps(
        {"model": "up-chat", "messages": [{"role": "user", "content": f"{time.time()}"}], "stream": stream}
    ).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
        f"x-gatehouse-agent: held\r\nauthorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", asking.port), timeout=60) as connection:
        connection.sendall(head.encode() + body)
        wait_until(lambda: set(pending(asking)) > known, "the request for approval")
        if stream:
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")  # it is kept alive, so its answer has begun
    wait_until(lambda: set(pending(asking)) <= known, "the request for approval is taken back")
    wait_until(lambda: len(cancelled(asking)) == before + 1, "the call's record")
    assert all((each["status"], each["client_gone"]) == ("blocked", True) for each in cancelled(asking))
    asking.wait_settled()
    assert asking.capsule(cancelled(asking)[-1]["call_id"])["outcome"]["error"] == "cancelled"
    assert upstream.requests == []


def cancelled(gateway: Gateway) -> list[dict[str, Any]]:
    return [line["data"] for line in gateway.lines() if line["data"].get("error") == "cancelled"]


def test_a_reviewer_sees_no_personal_data_that_is_masked(asking: Gateway, upstream: Upstream) -> None:
    approval = wanted(ask(asking, asking.new_key(), temperature=0.9))
    with psycopg.connect(asking.database_url) as connection:
        row = connection.execute("select summary::text from gatehouse.approvals where id = %s", (approval,)).fetchone()
    assert row is not None
    assert re.search(r"Write to <EMAIL_ADDRESS_\w{8}>", row[0])
    assert MAIL not in row[0]


def test_reviewers_are_told_where_to_look_and_nothing_of_the_prompt(
    asking: Gateway, upstream: Upstream, receiver: Receiver
) -> None:
    approval = wanted(ask(asking, asking.new_key(key_alias="told"), temperature=1.3))
    wait_until(lambda: any(approval.encode() in each.body for each in receiver.deliveries), "the webhook")
    (delivery,) = [each for each in receiver.deliveries if approval.encode() in each.body]
    assert f"/governance/approvals/{approval}" in delivery.body.decode()
    assert "told" in delivery.body.decode()
    assert "Write to" not in delivery.body.decode()
    assert delivery.headers["webhook-signature"].startswith("v1,")
    vote(asking, approval)

    def told() -> list[str]:
        return [each.body.decode() for each in receiver.deliveries if approval.encode() in each.body]

    wait_until(lambda: len(told()) == 2, "what was decided")
    assert "approval_decided" in told()[1]
    assert "grace" in told()[1]


def test_what_an_approver_edited_is_what_arrives_and_once(asking: Gateway, upstream: Upstream) -> None:
    key = asking.new_key()
    approval = wanted(ask(asking, key, temperature=1.4))
    became = vote(asking, approval, edit=Edit("up-small", 60))
    with ThreadPoolExecutor(6) as pool:  # with the id that they were given, with that of what it became, and with none
        ids = [approval, str(became.id), None] * 2
        answers = list(pool.map(lambda each: ask(asking, key, approval=each, temperature=1.4), ids))
    (answer,) = [each for each in answers if each.status_code == 200]
    assert {each.status_code for each in answers if each is not answer} == {403}
    assert answer.headers["x-gatehouse-edited"] == "model,max_tokens"
    (arrived,) = [json.loads(body) for path, body in upstream.requests if path.endswith("completions")]
    assert (arrived["model"], arrived["max_tokens"], arrived["temperature"]) == ("gpt-4o-mini", 60, 1.4)
    assert re.search(r"Write to <EMAIL_ADDRESS_\w{8}>", json.dumps(arrived))
    assert code(ask(asking, key, approval=approval, temperature=1.4)) == "approval_expired"
    asking.wait_settled()
    chain = asking.capsule(answer.headers["x-gatehouse-call-id"])["authority"]["chain"]
    assert [(each["approval_id"], each["approver"]) for each in chain] == [(str(became.id), "grace")]


def test_a_held_call_goes_on_as_it_was_edited(asking: Gateway, upstream: Upstream) -> None:
    key, known = asking.new_key(), set(pending(asking))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(ask, asking, key, agent="held", temperature=1.5, max_completion_tokens=90)
        wait_until(lambda: set(pending(asking)) > known, "the request for approval")
        (approval,) = set(pending(asking)) - known
        vote(asking, approval, edit=Edit(max_tokens=40))
        assert call.result(60).status_code == 200
    assert call.result().headers["x-gatehouse-edited"] == "max_tokens"
    (arrived,) = [json.loads(body) for path, body in upstream.requests if path.endswith("completions")]
    assert (arrived["model"], arrived["max_tokens"], arrived["max_completion_tokens"]) == ("gpt-4o", 40, 40)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("up-small", "The small model answers shortly."),  # a rule denies it
        ("up-other", "approval of others"),  # a rule wants somebody else's approval for it
        ("up-dear", "cost more"),
        ("up-nobody-serves", "may not use"),
        ("up-embedding", "may not use"),  # not among the key's models
    ],
)
def test_what_the_policy_refuses_no_approver_can_make_of_a_request(
    asking: Gateway, upstream: Upstream, model: str, said: str
) -> None:
    key = asking.new_key(models=["up-chat", "up-small", "up-other", "up-dear"])
    approval = wanted(ask(asking, key))
    became = vote(asking, approval, edit=Edit(model))
    answer = ask(asking, key, approval=approval)
    assert (answer.status_code, code(answer)) == (403, "policy_denied")
    assert said in answer.json()["error"]["message"]
    assert upstream.requests == []
    with psycopg.connect(asking.database_url) as connection:
        row = connection.execute("select state from gatehouse.approvals where id = %s", (became.id,)).fetchone()
    assert row == ("approved",)


def test_an_edit_that_raises_or_that_the_key_may_not_use_is_refused(asking: Gateway, reviewers: dict[str, str]) -> None:
    key, reviewer = asking.new_key(models=["up-chat", "up-small"]), reviewers["grace"]
    approval = wanted(ask(asking, key))
    with asking.client(reviewer) as client:

        def voted(edit: Any, decision: str = "approve") -> httpx.Response:
            path = f"/governance/v1/approvals/{approval}/votes"
            return client.post(path, json={"decision": decision, "edit": edit})

        for edit in ({"max_tokens": 100}, {"max_tokens": 0}, {"max_tokens": "9"}, {"max_tokens": 9.5}, {}, {"n": 1}):
            assert voted(edit).status_code == 400, edit
        assert voted({"max_tokens": True}).status_code == voted({"model": ""}).status_code == 400
        assert voted({"max_tokens": 10}, "reject").status_code == 400
        for model in ("up-other", "up-nobody-serves"):
            assert (voted({"model": model}).status_code, code(voted({"model": model}))) == (403, "access_denied")
        answer = voted({"model": "up-small", "max_tokens": 60})
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["state"], shown["model"]) == ("approved", "up-small")
    assert shown["edit"] == shown["votes"][0]["edit"] == {"model": "up-small", "max_tokens": 60}
    with asking.client(key) as client:
        before = client.get(f"/governance/v1/approvals/{approval}").json()
    assert (before["state"], before["replaced_by"]) == ("replaced", shown["id"])
    assert ask(asking, key, approval=approval).status_code == 200


def test_the_audit_log_says_once_what_was_asked_and_once_what_was_decided(
    asking: Gateway, upstream: Upstream, reviewers: dict[str, str]
) -> None:
    key, reviewer = asking.new_key(key_alias="noted"), reviewers["alan"]

    def over_http(approval: str, path: str, who: str, **body: Any) -> str:
        with asking.client(who) as client:
            answer = client.post(f"/governance/v1/approvals/{approval}/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    ids = [wanted(ask(asking, key, seed=seed)) for seed in range(4)]
    for approval in ids:
        assert wanted(ask(asking, key, seed=ids.index(approval))) == approval  # asked again, and not noted again
    over_http(ids[0], "votes", reviewer, decision="approve", comment=f"Ask {MAIL}.")
    assert ask(asking, key, seed=0).status_code == 200
    over_http(ids[1], "votes", reviewer, decision="reject", comment=f"Ask {MAIL}.")
    became = over_http(ids[2], "votes", reviewer, decision="approve", edit={"max_tokens": 60})
    over_http(ids[3], "cancel", key)

    lines = approval_lines(asking.folder / "logs" / "litellm_audit.jsonl")
    noted = {
        each: [
            (line["event_type"].removeprefix("approval_"), line["data"]["state"], line["data"].get("decided_by"))
            for line in lines
            if line["data"]["approval_id"] == each
        ]
        for each in (*ids, became)
    }
    asked = ("requested", "requested", None)
    assert noted == {
        ids[0]: [asked, ("decided", "approved", ["alan"])],
        ids[1]: [asked, ("decided", "rejected", ["alan"])],
        ids[2]: [asked, ("decided", "replaced", ["alan"])],
        became: [asked, ("decided", "approved", ["alan"])],
        ids[3]: [asked, ("decided", "cancelled", [])],
    }
    (first,) = [each["data"] for each in lines if each["data"]["approval_id"] == ids[0] and "caller" in each["data"]]
    assert (first["caller"]["key_alias"], first["model"], first["policies"]) == ("noted", "up-chat", ["needs-a-human"])
    assert next(each["data"] for each in lines if each["data"]["approval_id"] == became)["edit"] == {"max_tokens": 60}
    assert MAIL not in json.dumps(lines)


def test_a_restarted_gateway_still_knows_what_was_approved(asking: Gateway, upstream: Upstream) -> None:
    key = asking.new_key()
    approval = wanted(ask(asking, key, temperature=1.1))
    vote(asking, approval)
    asking.server.kill()
    asking.start()
    assert ask(asking, key, temperature=1.1).status_code == 200  # found by its digest
    assert [path for path, _ in upstream.requests if path.endswith("completions")] == ["/v1/chat/completions"]


CANARY = "canary-at-the-end"


def open_request(gateway: Gateway, key: str, approval: str, **params: str) -> httpx.Response:
    with gateway.client(key) as client:
        return client.get(f"/governance/v1/approvals/{approval}/request", params=params)


def copies(gateway: Gateway, approval: str) -> tuple[Any, ...]:
    with psycopg.connect(gateway.database_url) as connection:
        row = connection.execute(
            "select copy_epoch, copy_key, copy_request, copy_values from gatehouse.approvals where id = %s", (approval,)
        ).fetchone()
    assert row
    return tuple(row)


def test_what_was_approved_admits_nothing_that_differs_in_one_place(asking: Gateway, upstream: Upstream) -> None:
    key = asking.new_key(key_alias="pays", metadata={"tags": ["bills"]})
    approved: dict[str, Any] = {
        "messages": [{"role": "user", "content": "Pay 10 to anna@bank.example"}],
        "tools": [{"type": "function", "function": {"name": "pay", "description": "Pays.", "parameters": {}}}],
        "response_format": {"type": "json_object"},
        "metadata": {"order": "7"},
        "temperature": 0.5,
    }

    def with_text(text: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": text}]}

    tool = approved["tools"][0]["function"]
    mutations: list[dict[str, Any]] = [
        with_text("Pay 10 to mallory@bank.example"),  # under the same placeholder
        with_text("Pay 10 to Anna@bank.example"),
        with_text("Pay 99 to anna@bank.example"),
        {"messages": [*approved["messages"], {"role": "user", "content": "Quickly."}]},
        {"tools": [{"type": "function", "function": {**tool, "description": "Pays more."}}]},
        {"tools": []},
        {"response_format": {"type": "text"}},
        {"metadata": {"order": "8"}},
        {"temperature": 0.6},
        {"max_tokens": 101},
        {"stream": True},
        {"n": 2},
        {"extra_body": {"new_field": 1}},
        {"prediction": {"type": "content", "content": "Paid."}},
    ]
    approval = wanted(ask(asking, key, **approved))
    vote(asking, approval)
    for mutation in mutations:
        answer = ask(asking, key, approval=approval, **{**approved, **mutation})
        assert code(answer) == "approval_mismatch", (mutation, answer.text)
    assert upstream.requests == []
    assert ask(asking, key, approval=approval, **approved).status_code == 200
    assert code(ask(asking, key, approval=approval, **approved)) == "approval_expired"
    assert len(upstream.requests) == 1


def test_reviewers_open_all_of_a_request_until_it_is_over(
    asking: Gateway, upstream: Upstream, reviewers: dict[str, str]
) -> None:
    key = asking.new_key(user_id="asks-a-lot")
    fields: dict[str, Any] = {
        "messages": [{"role": "user", "content": f"{'word ' * 20_000} {MAIL} {CANARY}-message"}],
        "tools": [{"type": "function", "function": {"name": "f", "description": f"{CANARY}-tool", "parameters": {}}}],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"title": f"{CANARY}-schema"}},
        },
        "prediction": {"type": "content", "content": f"{CANARY}-prediction"},
        "metadata": {"note": f"{CANARY}-metadata"},
    }
    approval = wanted(ask(asking, key, **fields))
    opened = open_request(asking, reviewers["alan"], approval)
    assert (opened.status_code, opened.headers["cache-control"]) == (200, "no-store"), opened.text
    for place in ("message", "tool", "schema", "prediction", "metadata"):
        assert f"{CANARY}-{place}" in opened.text
    assert MAIL not in opened.text
    assert opened.json()["values"] is None
    assert MAIL not in str([bytes(part) if not isinstance(part, str) else part for part in copies(asking, approval)])

    assert open_request(asking, key, approval).json()["request"] == opened.json()["request"]
    for denied, params in ((key, {"values": "true"}), (MASTER_KEY, {}), (MASTER_KEY, {"values": "true"})):
        answer = open_request(asking, denied, approval, **params)
        assert (answer.status_code, code(answer)) == (403, "access_denied"), answer.text
        assert MAIL not in answer.text
    assert open_request(asking, asking.new_key(user_id="somebody"), approval).status_code == 404
    values = open_request(asking, reviewers["grace"], approval, values="true").json()["values"]
    assert MAIL in values.values()

    def opened_by() -> list[str]:
        lines = approval_lines(asking.folder / "logs" / "litellm_audit.jsonl")
        return [
            line["data"]["opened_by"]
            for line in lines
            if line["event_type"] == "approval_values_opened" and line["data"]["approval_id"] == approval
        ]

    wait_until(lambda: opened_by() == ["grace"], "the audit log says who opened the values")

    vote(asking, approval)
    assert open_request(asking, reviewers["alan"], approval).status_code == 200
    assert ask(asking, key, approval=approval, **fields).status_code == 200
    answer = open_request(asking, reviewers["alan"], approval)
    assert (answer.status_code, code(answer)) == (410, "gone")
    assert copies(asking, approval) == (None, None, None, None)


def test_what_nobody_can_be_shown_is_refused_before_anybody_is_asked(asking: Gateway, upstream: Upstream) -> None:
    before = pending(asking)
    body = {"model": "up-chat", "input": "Go on.", "max_output_tokens": 100, "previous_response_id": "resp_1"}
    with asking.client(asking.new_key()) as client:
        answer = client.post("/v1/responses", json=body)
    assert (answer.status_code, code(answer)) == (403, "content_blocked"), answer.text
    assert answer.json()["error"]["param"] == "previous_response_id"
    assert pending(asking) == before
    assert upstream.requests == []


def test_60_requests_at_once_of_one_key_open_no_more_than_may_wait(asking: Gateway, upstream: Upstream) -> None:
    key = asking.new_key()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: ask(asking, key, seed=n), range(60)))
    opened = {wanted(answer) for answer in answers if answer.status_code == 403}
    refused = [answer for answer in answers if answer.status_code != 403]
    assert len(opened) == 20
    assert {(answer.status_code, code(answer)) for answer in refused} == {(429, "too_many_requests")}
    assert int(refused[0].headers["retry-after"]) == 30
    again = next(n for n, answer in enumerate(answers) if answer.status_code == 403)
    assert wanted(ask(asking, key, seed=again)) in opened  # the same once more is no other
    assert upstream.requests == []


def test_who_made_a_service_accounts_key_does_not_approve_what_it_asks_for(
    asking: Gateway, upstream: Upstream, reviewers: dict[str, str]
) -> None:
    with asking.client() as client:
        team = client.post("/team/new", json={"team_alias": "services"}).json()["team_id"]
    with asking.client(reviewers["grace"]) as client:
        made = client.post("/key/service-account/generate", json={"team_id": team, "key_alias": "robot"})
        assert made.status_code == 200, made.text
    approval = wanted(ask(asking, made.json()["key"]))
    path = f"/governance/v1/approvals/{approval}"
    with asking.client(reviewers["grace"]) as client:
        answer = client.post(f"{path}/votes", json={"decision": "approve"})
        assert (answer.status_code, code(answer)) == (403, "access_denied"), answer.text
        assert "You made the key" in client.get(path).json()["why_not"]
    with asking.client(reviewers["alan"]) as client:
        assert client.post(f"{path}/votes", json={"decision": "approve"}).json()["state"] == "approved"
    assert ask(asking, made.json()["key"], approval=approval).status_code == 200
