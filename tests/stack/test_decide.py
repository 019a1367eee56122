"""Library mode over HTTP: the gateway decides as on its own calls, the caller calls, and the report is sealed once.

Two gateways on one database: what one decided, the other hears of.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
import schemathesis
import yaml
from gatehouse.approvals import store
from gatehouse.approvals.model import Voter
from gatehouse.core.clock import new_call_id, now
from gatehouse.ledger.store import calls, library_calls
from gatehouse.storage.connection import connect
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.support.gateway import MASTER_KEY, Gateway
from tests.support.postgres import Postgres, apply_migrations
from tests.support.process import PATIENCE_S, START_S, wait_until
from tests.support.redis_server import Redis
from tests.support.upstream import Upstream

DECIDE = "/governance/v1/decide"
AUDIT = "/governance/v1/audit"
ROUTE = "/v1/chat/completions"
MAIL = "ada.lovelace@example.com"
BRIEF_S = 4.0
POLICY = """
version: 1
limits: {max_tokens_per_request: 50000, max_cost_per_request_usd: 5}
screens: {blocked_content: {weapons: [forbidden fruit]}, secrets: block, prompt_injection: observe}
pii: {mode: mask, entities: {EMAIL_ADDRESS: mask, US_SSN: block}}
rules:
  - {id: interns-stay-out, when: caller.key_alias.startsWith("intern"), then: deny, reason: Interns ask a colleague.}
  - {id: small-for-batch, when: agent.id == "batch", then: allow, obligations: {downgrade_to: up-text, max_tokens: 20}}
  - {id: in-sight-only, when: 'request.library && agent.id == "secret"', then: deny, reason: Send this through us.}
  - {id: needs-a-human, when: request.max_tokens == 77, then: require_approval, approvers: {users: [grace]}}
  - {id: waits, when: request.max_tokens == 78, then: require_approval, approvers: {users: [grace], hold: 60s}}
"""


def chat(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"model": "up-chat", "messages": [{"role": "user", "content": text}], "max_tokens": 30, **more}


@pytest.fixture(scope="module")
def both(
    postgres: Postgres, redis_server: Redis, upstream_config: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, Gateway]]:
    """Start two gateways on one database and one folder; calls of the second must be reported within seconds."""
    folder = tmp_path_factory.mktemp("library")
    policy = folder / "policy.yaml"
    policy.write_text(POLICY)
    database, brief = postgres.create_database(), {"GATEHOUSE_REPORT_WITHIN_SECONDS": str(BRIEF_S)}
    config = yaml.safe_load(upstream_config.read_text())
    config["general_settings"]["proxy_batch_write_at"] = 1
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    usual = {"config": folder / "config.yaml", "policy": policy, "folder": folder}
    first = Gateway(database, redis_server.port, **usual)  # type: ignore[arg-type]
    second = Gateway(database, redis_server.port, environ=brief, **usual)  # type: ignore[arg-type]
    try:
        first.server.start()
        wait_until(lambda: "Started server process" in first.output.read_text(), "the database is prepared", START_S)
        second.server.start()
        yield first.start(), second.start()
    finally:
        first.close()
        second.close()


@pytest.fixture
def gateway(both: tuple[Gateway, Gateway], upstream: Upstream) -> Gateway:
    return both[0]


def decide(gateway: Gateway, key: str, body: dict[str, Any], headers: Any = None, **more: Any) -> httpx.Response:
    with gateway.client(key) as client:
        return client.post(DECIDE, json={"route": ROUTE, "body": body, **more}, headers=headers)


def proxied(gateway: Gateway, key: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    with gateway.client(key) as client:
        return client.post(ROUTE, json=body, headers=headers)


def allowed(gateway: Gateway, key: str, body: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    answer = decide(gateway, key, body or chat(), **more)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def report(gateway: Gateway, key: str, call_id: str, **said: Any) -> httpx.Response:
    with gateway.client(key) as client:
        return client.post(AUDIT, json={"call_id": call_id, "status": "success", **said})


def line_of(gateway: Gateway, call_id: str) -> dict[str, Any]:
    wait_until(lambda: gateway.lines_of(call_id) != [], f"the line of call {call_id}")
    (line,) = gateway.lines_of(call_id)
    return dict(line["data"])


def error(answer: httpx.Response) -> dict[str, Any]:
    said = dict(answer.json()["error"])
    (said.get("gatehouse") or {}).pop("call_id", None)
    return said


# The decision.


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (chat(), {}),
        (chat(f"Write to {MAIL} and {MAIL.upper()}"), {}),
        (chat(f"Write to {MAIL}", stream=True, temperature=0.1, user="someone"), {}),
        ({"model": "up-chat", "messages": chat()["messages"]}, {"x-gatehouse-agent": "batch"}),
    ],
    ids=["plain", "masked", "stream", "made smaller"],
)
def test_what_may_be_sent_is_what_the_gateway_would_send(
    gateway: Gateway, upstream: Upstream, body: dict[str, Any], headers: dict[str, str]
) -> None:
    key = gateway.new_key()
    answer = decide(gateway, key, body, headers)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert upstream.requests == []
    assert answer.headers["x-gatehouse-call-id"] == said["call_id"]
    row = gateway.calls()[said["call_id"]]
    assert (row["settled_at"], row["request"]["library"]) == (None, True)
    if said["body"]["model"] == "up-chat":
        assert proxied(gateway, key, body, **headers).status_code == 200
        sent = json.loads(upstream.requests[-1][1])
        assert sent["messages"] == said["body"]["messages"]
        assert sent["max_tokens"] == said["body"]["max_tokens"]
    text = json.dumps(said["body"]["messages"])
    assert MAIL not in text
    for placeholder, original in said["replacements"].items():
        text = text.replace(placeholder, original)
    assert json.loads(text) == body["messages"]


def test_the_rules_make_it_smaller_and_are_named(gateway: Gateway) -> None:
    said = allowed(gateway, gateway.new_key(), agent={"id": "batch", "session": "s-1"})
    assert (said["body"]["model"], said["body"]["max_tokens"]) == ("up-text", 20)
    assert (said["verdict"], said["policies"]) == ("allow", ["small-for-batch"])


def test_a_key_s_own_names_for_models_mean_what_they_mean_in_a_call(gateway: Gateway) -> None:
    key = gateway.new_key(aliases={"mine": "up-chat"}, models=["up-chat"])
    assert allowed(gateway, key, chat(model="mine"))["body"]["model"] == "up-chat"


@pytest.mark.parametrize(
    ("alias", "body", "headers", "status", "code"),
    [
        ("intern", chat(), {}, 403, "policy_denied"),
        ("x", chat("a forbidden fruit"), {}, 403, "content_blocked"),
        ("x", chat("My SSN is 536-90-4399"), {}, 403, "pii_blocked"),
        ("x", chat(max_tokens=60_000), {}, 413, "limit_exceeded"),
        ("x", chat(), {"x-gatehouse-max-tokens": "5"}, 413, "limit_exceeded"),
        ("x", chat(unheard_of={"a": 1}, messages="no list"), {}, 400, "invalid_request"),
        ("x", chat(max_tokens="many"), {}, 400, "invalid_request"),
    ],
)
def test_what_the_gateway_refuses_is_refused_in_the_same_words_and_sealed(
    gateway: Gateway, alias: str, body: dict[str, Any], headers: dict[str, str], status: int, code: str
) -> None:
    key = gateway.new_key(key_alias=f"{alias}-{uuid4()}")
    answer = decide(gateway, key, body, headers)
    assert (answer.status_code, error(answer)["code"]) == (status, code), answer.text
    assert error(answer) == error(proxied(gateway, key, body, **headers))
    call_id = answer.headers["x-gatehouse-call-id"]
    line = line_of(gateway, call_id)
    assert (line["status"], line["error"], line["library"]) == ("blocked", code, True)
    assert gateway.capsule(call_id)["outcome"]["status"] == "blocked"
    assert report(gateway, key, call_id).status_code == 404  # it was not let through


def test_a_rule_can_keep_calls_where_they_are_seen(gateway: Gateway) -> None:
    key = gateway.new_key()
    answer = decide(gateway, key, chat(), agent={"id": "secret"})
    assert error(answer)["gatehouse"]["policies"] == ["in-sight-only"]
    assert proxied(gateway, key, chat(), **{"x-gatehouse-agent": "secret"}).status_code == 200


def spent_key(gateway: Gateway) -> str:
    return gateway.new_key(max_budget=0.0000001)


def team_key(gateway: Gateway, **fields: Any) -> str:
    with gateway.client() as client:
        answer = client.post("/team/new", json={"team_alias": f"t-{uuid4()}", **fields})
        answer.raise_for_status()
        return gateway.new_key(team_id=answer.json()["team_id"])


def expired_key(gateway: Gateway) -> str:
    key = gateway.new_key(duration="1s")
    time.sleep(1.1)
    return key


def blocked_key(gateway: Gateway) -> str:
    key = gateway.new_key()
    with gateway.client() as client:
        client.post("/key/block", json={"key": key}).raise_for_status()
    return key


REFUSED_BY_LITELLM = {
    "unknown": lambda gateway: "sk-not-a-key",
    "expired": expired_key,
    "blocked": blocked_key,
    "model": lambda gateway: gateway.new_key(models=["demo"]),
    "budget": spent_key,
    "team's model": lambda gateway: team_key(gateway, models=["demo"]),
    "team's budget": lambda gateway: team_key(gateway, max_budget=0.0000001),
    "route": lambda gateway: gateway.new_key(allowed_routes=["/v1/embeddings", DECIDE]),
}


@pytest.mark.parametrize("why", REFUSED_BY_LITELLM)
def test_whom_litellm_refuses_is_refused_here(gateway: Gateway, why: str) -> None:
    key = REFUSED_BY_LITELLM[why](gateway)
    answer, through = decide(gateway, key, chat()), proxied(gateway, key, chat())
    assert answer.status_code == through.status_code, answer.text
    assert answer.status_code in (401, 403, 422)
    assert error(answer)["type"] == ("permission_error" if why == "route" else error(through)["type"])
    if answer.status_code != 401:
        line = line_of(gateway, answer.headers["x-gatehouse-call-id"])
        assert (line["status"], line["http_status"]) == ("blocked", answer.status_code)


# Approval.


def vote(gateway: Gateway, approval_id: str) -> None:
    async def cast() -> None:
        async with await connect(gateway.database_url) as connection:
            await store.vote(connection, UUID(approval_id), Voter("grace"), approve=True)

    asyncio.run(cast())


def wanted(answer: httpx.Response) -> str:
    assert (answer.status_code, error(answer)["code"]) == (403, "approval_required"), answer.text
    return str(error(answer)["gatehouse"]["approval"]["id"])


def pending(gateway: Gateway, state: str = "requested") -> set[str]:
    with psycopg.connect(gateway.database_url) as connection:
        rows = connection.execute("select id::text from gatehouse.approvals where state = %s", (state,)).fetchall()
    return {row[0] for row in rows}


def test_an_approval_admits_one_call_in_library_mode_and_none_through_the_gateway(
    gateway: Gateway, upstream: Upstream
) -> None:
    key, body = gateway.new_key(), chat(max_tokens=77)
    approval = wanted(decide(gateway, key, body))
    vote(gateway, approval)
    through = proxied(gateway, key, body, **{"x-gatehouse-approval": approval})
    assert error(through)["code"] == "approval_mismatch"
    said = allowed(gateway, key, body, approval_id=approval)
    assert said["policies"] == ["needs-a-human"]
    assert error(decide(gateway, key, body, approval_id=approval))["code"] == "approval_expired"
    assert report(gateway, key, said["call_id"]).status_code == 200
    line_of(gateway, said["call_id"])
    assert gateway.capsule(said["call_id"])["authority"]["approver"] == "grace"


def test_the_caller_bounds_how_long_they_wait_for_people(gateway: Gateway) -> None:
    key, body = gateway.new_key(), chat(max_tokens=78)
    approval = wanted(decide(gateway, key, body, wait_seconds=0))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(decide, gateway, key, body, wait_seconds=50)
        time.sleep(1)
        assert not waiting.done()
        vote(gateway, approval)
        assert waiting.result().status_code == 200


def test_a_client_that_leaves_takes_its_request_for_approval_along(gateway: Gateway) -> None:
    before = pending(gateway)
    body = json.dumps({"body": chat("leaving", max_tokens=78)})
    head = (
        f"POST {DECIDE} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {MASTER_KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE_S) as connection:
        connection.sendall((head + body).encode())
        wait_until(lambda: pending(gateway) > before, "people are asked")
        (approval,) = pending(gateway) - before
    wait_until(lambda: approval in pending(gateway, "cancelled"), "nobody is asked any more")


# The report.


def test_a_call_is_sealed_as_reported(gateway: Gateway) -> None:
    tools = [{"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}]
    alias = f"the-agent-{uuid4()}"
    key = gateway.new_key(key_alias=alias)
    call_id = allowed(gateway, key, chat(tools=tools), agent={"id": "planner"})["call_id"]
    answer = report(
        gateway,
        key,
        call_id,
        model="gpt-4o-2024-08-06",
        usage={"prompt_tokens": 30, "completion_tokens": 12},
        cost_usd=0.000025,
        latency_ms=1234.5,
        answer=f"Ask {MAIL}",
        tool_calls=[{"name": "search"}, {"name": "made up"}],
    )
    assert (answer.status_code, answer.json()) == (200, {"call_id": call_id, "recorded": True, "blocked": None})
    line = line_of(gateway, call_id)
    assert (line["status"], line["answered_by"], line["library"]) == ("success", "gpt-4o-2024-08-06", True)
    assert line["usage"] == {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}
    assert (line["cost_usd"], line["response_time_ms"]) == (0.000025, 1234.5)
    capsule = gateway.capsule(call_id)
    assert capsule["trigger"]["source"] == alias
    assert capsule["context"]["agent_id"] == "planner"
    assert capsule["context"]["environment"]["library"] is True
    assert len(capsule["reasoning"]["prompt_hash"]) == 64
    assert [each["tool"] for each in capsule["execution"]["tool_calls"]] == ["search"]
    assert capsule["execution"]["resources_used"]["cost_usd"] == "0.000025"
    assert MAIL not in str([capsule, line, gateway.calls()[call_id]])


def test_a_failure_is_sealed_as_one(gateway: Gateway) -> None:
    key = gateway.new_key()
    call_id = allowed(gateway, key)["call_id"]
    assert report(gateway, key, call_id, status="failure", error="RateLimitError").status_code == 200
    line = line_of(gateway, call_id)
    assert (line["status"], line["error"]) == ("failure", "RateLimitError")


def test_an_answer_that_may_not_be_used_is_named_and_sealed_as_blocked(gateway: Gateway) -> None:
    key = gateway.new_key()
    call_id = allowed(gateway, key)["call_id"]
    for _ in range(2):
        said = report(gateway, key, call_id, answer="Eat the forbidden fruit.").json()
        assert said["recorded"] is True
        assert said["blocked"]["code"] == "content_blocked"
        assert said["blocked"]["policies"] == ["screens/blocked_content/weapons"]
    line = line_of(gateway, call_id)
    assert (line["status"], line["error"]) == ("blocked", "content_blocked")
    assert "fruit" not in str([line, gateway.capsule(call_id), gateway.calls()[call_id]])


def test_the_first_report_counts_whichever_gateway_hears_it(both: tuple[Gateway, Gateway]) -> None:
    first, second = both
    key = first.new_key()
    call_id = allowed(first, key)["call_id"]
    with ThreadPoolExecutor(8) as pool:
        said = [pool.submit(report, both[n % 2], key, call_id, model=f"model-{n}") for n in range(16)]
        assert {each.result().status_code for each in said} == {200}
    line = line_of(first, call_id)
    assert report(second, key, call_id, status="failure").status_code == 200
    assert line_of(first, call_id) == line
    assert gateway_capsules(first, [call_id]) == 1


def gateway_capsules(gateway: Gateway, call_ids: list[str]) -> int:
    with psycopg.connect(gateway.database_url) as connection:
        row = connection.execute("select count(*) from gatehouse.capsules where id = any(%s::uuid[])", (call_ids,))
        return int(row.fetchone()[0])  # type: ignore[index]


def test_nobody_reports_somebody_elses_call(gateway: Gateway) -> None:
    mine, theirs = gateway.new_key(), gateway.new_key()
    call_id = allowed(gateway, mine)["call_id"]
    through = proxied(gateway, mine, chat()).headers["x-gatehouse-call-id"]
    for key, which in ((theirs, call_id), (MASTER_KEY, call_id), (mine, str(uuid4())), (mine, through)):
        answer = report(gateway, key, which)
        assert (answer.status_code, error(answer)["code"]) == (404, "not_found"), answer.text
    assert report(gateway, "sk-nobody", call_id).status_code == 401
    assert report(gateway, mine, call_id).status_code == 200


def test_what_it_cost_counts_in_the_budget_but_no_more_than_its_estimate(gateway: Gateway) -> None:
    key = gateway.new_key(max_budget=0.0003)  # a call is estimated at some 0.00007
    made = 0
    while (answer := decide(gateway, key, chat())).status_code == 200 and made < 20:
        assert report(gateway, key, answer.json()["call_id"], cost_usd=1e6).status_code == 200
        made += 1
    assert (answer.status_code, error(answer)["type"]) == (422, "budget_exceeded")
    assert 3 <= made <= 5

    def spend() -> float:
        with gateway.client() as client:
            return float(client.get("/key/info", params={"key": key}).json()["info"]["spend"])

    wait_until(lambda: 0.0002 < spend() <= 0.0003, "LiteLLM has it in its database")
    # What is over its budget can still say how its last call ended.
    assert report(gateway, key, answer.headers["x-gatehouse-call-id"]).status_code == 404


# Nobody reports.


def test_a_call_that_nobody_reports_is_sealed_as_partial(both: tuple[Gateway, Gateway]) -> None:
    first, second = both
    key = first.new_key()
    call_id = allowed(second, key)["call_id"]
    line = line_of(first, call_id)
    assert (line["status"], line["error"]) == ("partial", "not_reported")
    assert gateway_capsules(first, [call_id]) == 1
    for gateway in both:
        answer = report(gateway, key, call_id)
        assert (answer.status_code, error(answer)["code"]) == (410, "gone")


def test_reports_that_race_with_the_end_of_their_time_count_or_do_not(both: tuple[Gateway, Gateway]) -> None:
    first, second = both
    key = first.new_key()
    ids = [allowed(second, key)["call_id"] for _ in range(16)]
    time.sleep(max(0.0, BRIEF_S - 0.4))
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda n: report(both[n % 2], key, ids[n]).status_code, range(len(ids))))
    assert set(taken) <= {200, 410}
    ended = {call_id: line_of(first, call_id)["status"] for call_id in ids}
    assert [ended[call_id] for call_id in ids] == ["success" if status == 200 else "partial" for status in taken]
    assert gateway_capsules(first, ids) == len(ids)


def test_a_dead_gateways_calls_stay_open_for_their_callers(postgres: Postgres) -> None:
    url, dead, heir, other = postgres.create_database(), uuid4(), uuid4(), uuid4()
    apply_migrations(url)

    def intent(**more: Any) -> dict[str, Any]:
        return {
            "call_id": str(new_call_id()),
            "started_at": now().isoformat(),
            "request": {},
            "decision": None,
            **more,
        }

    prompt = {"hash": None, "text": None, "mode": "hash"}
    through, open_ = intent(), intent(report_within_s=900, prompt=prompt)
    late, said = intent(report_within_s=-1, prompt=prompt), intent(report_within_s=900, prompt=prompt)

    async def run() -> None:
        async with await connect(url) as connection, await connect(url) as second:
            await calls.beat(connection, dead, uuid4(), 0)
            await calls.insert_intents(connection, dead, [through, open_, late, said])
            await calls.end_gateway(connection, dead)
            assert [str(each.call_id) for each in await calls.adopt_open_calls(connection, heir)] == [
                through["call_id"]
            ]
            assert await library_calls.report(connection, UUID(said["call_id"]), {"status": "success"})
            assert not await library_calls.report(connection, UUID(said["call_id"]), {"status": "failure"})
            assert not await library_calls.report(connection, UUID(late["call_id"]), {"status": "success"})
            taken = await asyncio.gather(
                library_calls.take_due(connection, heir), library_calls.take_due(second, other)
            )
            due = [each for batch in taken for each in batch]
            assert {str(each.call_id): each.reported for each in due} == {
                late["call_id"]: None,
                said["call_id"]: {"status": "success"},
            }
            assert len(due) == 2
            assert await library_calls.take_due(connection, heir) == []
            # Whoever took them died before they were sealed: their time comes again.
            await connection.execute(
                "update gatehouse.calls set seal_after = now() where call_id = any(%s::uuid[])",
                ([late["call_id"], said["call_id"]],),
            )
            assert len(await library_calls.take_due(second, other)) == 2
            still = await library_calls.find(connection, UUID(open_["call_id"]))
            assert still is not None
            assert still.open

    asyncio.run(run())


# What is sent.

CALL = str(uuid4())
HOSTILE_DECIDE: list[bytes] = [
    b"",
    b"[]",
    b"null",
    b"{",
    b"\xff\xfe",
    b'{"body": 1}',
    b'{"body": {}}',
    b'{"body": {"model": 7}}',
    b'{"body": {"model": ""}}',
    b'{"body": {"model": "up-chat", "max_tokens": NaN}}',
    b'{"body": {"model": "up-chat", "max_tokens": 1e999}}',
    b'{"body": {"model": "up-chat", "n": ' + b"9" * 5_000 + b"}}",
    b'{"body": {"model": "up-chat", "model": "demo"}}',
    b'{"body": {"model": "up-chat"}, "body": {"model": "demo"}}',
    b'{"body": {"model": "up-chat", "messages": [{"role": "user", "content": "\\ud800"}]}}',
    b'{"body": ' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}",
    b'{"route": "/v1/files", "body": {"model": "up-chat"}}',
    b'{"route": "/key/generate", "body": {"model": "up-chat"}}',
    b'{"route": 5, "body": {"model": "up-chat"}}',
    b'{"body": {"model": "up-chat"}, "wait_seconds": -1}',
    b'{"body": {"model": "up-chat"}, "wait_seconds": "soon"}',
    b'{"body": {"model": "up-chat"}, "agent": "planner"}',
    b'{"body": {"model": "up-chat"}, "agent": {"id": 5}}',
    b'{"body": {"model": "up-chat"}, "approval_id": {}}',
    b'{"body": {"model": "up-chat"}, "stages": "off"}',
    b'{"body": {"model": "up-chat"}, "library": false}',
]
HOSTILE_AUDIT: list[dict[str, Any] | bytes] = [
    b"[1]",
    b'{"call_id": "' + CALL.encode() + b'", "status": "success", "cost_usd": NaN}',
    b'{"call_id": "' + CALL.encode() + b'", "status": "success", "cost_usd": 1e999}',
    b'{"call_id": "' + CALL.encode() + b'", "status": "success", "status": "failure"}',
    b'{"call_id": "' + CALL.encode() + b'", "status": "success", "answer": "\\udc00"}',
    {},
    {"status": "success"},
    {"call_id": "no-id"},
    {"call_id": CALL, "status": "blocked"},
    {"call_id": CALL, "status": True},
    *(
        {"call_id": CALL, "status": "success", **said}
        for said in (
            {"usage": {"prompt_tokens": -1, "completion_tokens": 1}},
            {"usage": {"prompt_tokens": 10**30, "completion_tokens": 1}},
            {"usage": {"prompt_tokens": 1.5, "completion_tokens": 1}},
            {"usage": {"prompt_tokens": True, "completion_tokens": 1}},
            {"usage": [1, 2]},
            {"cost_usd": -0.1},
            {"cost_usd": "0.1"},
            {"latency_ms": -1},
            {"error": "a sentence with ada@example.com"},
            {"error": "x" * 65},
            {"model": "x" * 300},
            {"tool_calls": [{"name": "x"}] * 1_001},
            {"tool_calls": [{"name": "x", "arguments": "{}"}]},
            {"answer": 5},
            {"decision": "allow"},
        )
    ),
]


@pytest.mark.parametrize("body", HOSTILE_DECIDE, ids=range(len(HOSTILE_DECIDE)))
def test_what_is_no_request_for_a_decision_is_refused(gateway: Gateway, body: bytes) -> None:
    refused(gateway, DECIDE, body)


@pytest.mark.parametrize("body", HOSTILE_AUDIT, ids=range(len(HOSTILE_AUDIT)))
def test_what_is_no_report_is_refused(gateway: Gateway, body: dict[str, Any] | bytes) -> None:
    refused(gateway, AUDIT, body if isinstance(body, bytes) else json.dumps(body).encode())


def refused(gateway: Gateway, path: str, body: bytes) -> None:
    with gateway.client() as client:
        answer = client.post(path, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, error(answer)["code"]) == (400, "invalid_request"), answer.text
    assert len(answer.text) < 1_000
    assert "ada@example.com" not in answer.text


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_long_is_refused(gateway: Gateway, chunked: bool) -> None:
    body = b'{"answer": "' + b"x" * (5 << 20) + b'"}'
    with gateway.client() as client:
        answer = client.post(AUDIT, content=iter([body]) if chunked else body)
    assert (answer.status_code, error(answer)["code"]) == (400, "invalid_request")
    assert "4 MiB" in answer.text


def test_names_with_nul_in_them_are_kept_without(gateway: Gateway) -> None:
    key = gateway.new_key()
    call_id = allowed(gateway, key, chat("a\0b"), agent={"id": "a\0b"})["call_id"]
    assert report(gateway, key, call_id, model="m\0", answer="\0", tool_calls=[{"name": "\0"}]).status_code == 200
    assert line_of(gateway, call_id)["answered_by"].startswith("hmac:")


# The description.


def test_what_is_answered_is_what_is_described(gateway: Gateway) -> None:
    with gateway.client() as client:
        description: dict[str, Any] = client.get("/openapi.json").json()
    description["paths"] = {path: each for path, each in description["paths"].items() if path in (DECIDE, AUDIT)}
    assert {path: set(each) for path, each in description["paths"].items()} == {DECIDE: {"post"}, AUDIT: {"post"}}
    schema = schemathesis.openapi.from_dict(description)
    schema.config.update(base_url=gateway.url)
    for operation in [each.ok() for each in schema.get_all_operations()]:

        @settings(
            max_examples=8,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def holds(case: schemathesis.Case) -> None:
            case.call_and_validate(
                headers={"authorization": f"Bearer {MASTER_KEY}"},
                timeout=PATIENCE_S,
                excluded_checks=[positive_data_acceptance],  # refusing is what a decision is for
            )

        holds()


# At the end: one of the two is killed.


def test_what_a_killed_gateway_decided_is_reported_to_another(both: tuple[Gateway, Gateway]) -> None:
    first, second = both
    key = first.new_key()
    kept, lost = allowed(second, key)["call_id"], allowed(second, key)["call_id"]
    second.server.kill()
    assert report(first, key, kept, model="m").status_code == 200
    assert line_of(first, kept)["status"] == "success"
    line = line_of(first, lost)
    assert (line["status"], line["error"]) == ("partial", "not_reported")
    assert gateway_capsules(first, [kept, lost]) == 2
