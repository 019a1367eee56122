"""Library mode calls work against a server that speaks the gateway's side, and a provider that records requests."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import gatehouse_adapter as ga
import litellm
import pytest
from gatehouse_adapter.litellm import (
    ApprovalRejected,
    ApprovalTimeout,
    GovernanceUnavailable,
    Governor,
    GovernorConfig,
    PolicyDeniedError,
)
from litellm.types.utils import Message
from pydantic import BaseModel

from tests.support.library_gateway import Answer, Asked, LibraryGateway, refusal
from tests.support.process import wait_until
from tests.support.upstream import Upstream

SECRET = "sk-virtual-key-of-the-tests"
HELLO = [{"role": "user", "content": "Hello"}]
HANGS_S = 60.0


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[LibraryGateway, Upstream]]:
    gateway, upstream = LibraryGateway(), Upstream()
    yield gateway, upstream
    gateway.close()
    upstream.close()


@pytest.fixture
def gateway(servers: tuple[LibraryGateway, Upstream]) -> LibraryGateway:
    servers[0].reset()
    return servers[0]


@pytest.fixture
def upstream(servers: tuple[LibraryGateway, Upstream]) -> Upstream:
    servers[1].reset()
    return servers[1]


def governor(gateway: LibraryGateway, **options: Any) -> Governor:
    return Governor(gateway.url, "planner", SECRET, **options)


def to(upstream: Upstream, messages: Any = HELLO, **options: Any) -> dict[str, Any]:
    return {
        "model": "openai/gpt-4o",
        "messages": messages,
        "api_base": upstream.url,
        "api_key": "sk-of-the-provider",
        "max_retries": 0,
        **options,
    }


def sent(upstream: Upstream) -> list[dict[str, Any]]:
    return [json.loads(body) for _, body in upstream.requests]


def reports(gateway: LibraryGateway, count: int = 1) -> list[Asked]:
    wait_until(lambda: len(gateway.told) >= count, "the calls are reported", 30)
    return gateway.told


# --- the decision, and the call with what it returned


def test_all_messages_are_put_to_the_gateway_and_keys_are_not(gateway: LibraryGateway, upstream: Upstream) -> None:
    class Answered(BaseModel):
        text: str

    said = Message(role="assistant", content="an earlier answer")
    messages = [{"role": "system", "content": "Be brief."}, *HELLO, said, {"role": "user", "content": "x" * 10_000}]
    mine = governor(gateway, default_user_token="ada", tenant_id="acme", extra_context={"session_id": "s-1", "a": 1})
    mine.completion(
        **to(upstream, messages, metadata={"trace": object()}, extra_headers={"x-of-the-provider": "secret"}),
        response_format=Answered,
        custom="of a provider",
    )
    (asked,) = gateway.asked
    assert asked["route"] == "/v1/chat/completions"
    assert asked["agent"] == {"id": "planner", "session": "s-1"}
    body = asked["body"]
    assert [message["content"] for message in body["messages"]] == ["Be brief.", "Hello", said.content, "x" * 10_000]
    assert body["response_format"]["json_schema"]["name"] == "Answered"
    assert (body["user"], body["custom"]) == ("ada", "of a provider")
    assert body["metadata"] == {"tenant_id": "acme", "a": 1}
    assert "sk-of-the-provider" not in json.dumps(asked)
    assert "secret" not in json.dumps(asked)
    assert gateway.headers[0]["authorization"] == f"Bearer {SECRET}"
    assert "user" not in sent(upstream)[0]


def test_a_call_names_its_end_user_and_no_provider_hears_of_it(gateway: LibraryGateway, upstream: Upstream) -> None:
    mine = governor(gateway, default_user_token="ada")
    mine.completion(**to(upstream), user_token="grace")
    mine.completion(**to(upstream), user="of the provider", user_token="grace")
    mine.completion(**to(upstream), user="alan")
    assert [asked["body"]["user"] for asked in gateway.asked] == ["grace", "grace", "alan"]
    assert [body.get("user") for body in sent(upstream)] == [None, None, "alan"]
    assert all("user_token" not in body for body in sent(upstream))


def test_a_config_holds_what_a_governor_takes(gateway: LibraryGateway, upstream: Upstream) -> None:
    config = GovernorConfig(gateway.url, "planner", SECRET, default_user_token="ada")
    assert SECRET not in repr(config)
    assert len(fields(config)) == 13
    Governor(config).completion(**to(upstream))
    assert gateway.asked[0]["body"]["user"] == "ada"
    with pytest.raises(ga.ConfigurationError, match="GovernorConfig"):
        Governor(config, fail_open=True)


def test_whoever_catches_refusals_catches_those_of_people_too() -> None:
    for error in (ApprovalRejected, ApprovalTimeout):
        assert issubclass(error, PolicyDeniedError)
    assert issubclass(ApprovalRejected, ga.ApprovalRejected)
    assert issubclass(ApprovalTimeout, ga.ApprovalTimeout)


async def test_what_is_sent_is_what_the_gateway_let_through_and_the_answer_is_restored(
    gateway: LibraryGateway, upstream: Upstream
) -> None:
    def masked(asked: Asked) -> Answer:
        body = {
            **asked["body"],
            "model": "openai/gpt-4o-mini",
            "max_tokens": 7,
            "messages": [{"role": "user", "content": "Mail <EMAIL_7Q2MKD4P>"}],
            "api_base": "http://127.0.0.1:9/v1",
        }
        decision = {"call_id": "c-1", "verdict": "allow", "policies": [], "body": body}
        return Answer(body={**decision, "replacements": {"<EMAIL_7Q2MKD4P>": "ada@example.org"}})

    gateway.decides = masked
    upstream.says = lambda asked: "Mailed <EMAIL_7Q2MKD4P>. <EMAIL_9ZK3B1VT>"
    mine = governor(gateway)
    asking = to(upstream, [{"role": "user", "content": "Mail ada@example.org"}])
    stream = await mine.acompletion(**asking, stream=True)
    said = [
        mine.completion(**asking).choices[0].message.content,
        (await mine.acompletion(**asking)).choices[0].message.content,
        "".join(chunk.choices[0].delta.content or "" for chunk in mine.completion(**asking, stream=True)),
        "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]),
    ]
    assert said == ["Mailed ada@example.org. <EMAIL_9ZK3B1VT>"] * 4
    assert "ada" not in upstream.received
    assert {(body["model"], body["max_tokens"]) for body in sent(upstream)} == {("gpt-4o-mini", 7)}
    told = reports(gateway, 4)
    assert "ada" not in json.dumps(told)
    assert {(each["status"], each["answer"]) for each in told} == {
        ("success", "Mailed <EMAIL_7Q2MKD4P>. <EMAIL_9ZK3B1VT>")
    }


def test_a_call_inside_a_running_loop_works_and_all_share_one_thread(
    gateway: LibraryGateway, upstream: Upstream
) -> None:
    async def main() -> None:
        governor(gateway).completion(**to(upstream))

    def threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "gatehouse-background"}

    asyncio.run(main())
    first = threads()
    assert first
    for _ in range(3):
        asyncio.run(main())
    assert threads() == first


@pytest.mark.parametrize(
    ("code", "status"),
    [("policy_denied", 403), ("content_blocked", 403), ("limit_exceeded", 413), ("throttled", 429), ("invalid", 400)],
)
@pytest.mark.parametrize("fail_open", [False, True])
def test_a_4xx_refuses_whatever_fail_open_says_and_never_trips_the_breaker(
    gateway: LibraryGateway, upstream: Upstream, code: str, status: int, fail_open: bool
) -> None:
    gateway.decides = lambda asked: refusal(code, status)
    mine = governor(gateway, fail_open=fail_open, breaker_failure_threshold=1)
    for _ in range(3):
        with pytest.raises(PolicyDeniedError) as caught:
            mine.completion(**to(upstream, num_retries=3, fallbacks=["openai/gpt-4o-mini"]))
        assert (caught.value.code, caught.value.reason) == (code, f"Because of {code}.")
        assert caught.value.policies == ["rule-1"]
    assert len(gateway.asked) == 3
    assert upstream.requests == []
    assert not isinstance(caught.value, litellm.exceptions.APIError | litellm.exceptions.APIConnectionError)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(500, {}),
        Answer(503, {"error": {"code": "governance_unavailable", "message": "later"}}),
        Answer(200, "<html>log in to the Wi-Fi</html>"),
        Answer(200, {"verdict": "allow"}),
        Answer(torn=True),
        Answer(delay_s=HANGS_S),
    ],
    ids=["500", "503", "html", "no decision", "torn", "hangs"],
)
async def test_without_a_decision_the_call_is_made_only_with_fail_open(
    gateway: LibraryGateway, upstream: Upstream, answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.decides = lambda asked: Answer(answer.status, answer.body, answer.delay_s, answer.torn)
    closed, opened = (governor(gateway, fail_open=choice, call_timeout_seconds=0.5) for choice in (False, True))
    with pytest.raises(GovernanceUnavailable) as caught:
        closed.completion(**to(upstream))
    with pytest.raises(ga.GovernanceUnavailable):
        await closed.acompletion(**to(upstream))
    assert caught.value.reason
    assert upstream.requests == []
    with caplog.at_level(logging.WARNING):
        begin = time.monotonic()
        opened.completion(**to(upstream))
        await opened.acompletion(**to(upstream))
    assert time.monotonic() - begin < HANGS_S / 2
    assert len(upstream.requests) == 2
    ours = [record.message for record in caplog.records if record.name.startswith("gatehouse")]
    assert [message.startswith("fail_open:") for message in ours] == [True, True]
    assert "Hello" not in caplog.text
    assert SECRET not in caplog.text


def test_a_200_that_is_no_allowance_never_lets_a_call_through(gateway: LibraryGateway, upstream: Upstream) -> None:
    gateway.decides = lambda asked: Answer(body={"call_id": "c", "verdict": "deny", "policies": ["p"]})
    with pytest.raises(PolicyDeniedError):
        governor(gateway, fail_open=True).completion(**to(upstream))
    assert upstream.requests == []


def test_the_breaker_opens_spares_the_gateway_and_closes_again(gateway: LibraryGateway, upstream: Upstream) -> None:
    mine = governor(gateway, breaker_failure_threshold=2, breaker_recovery_seconds=2.0)
    gateway.decides = lambda asked: Answer(500, {})
    for _ in range(4):
        with pytest.raises(GovernanceUnavailable):
            mine.completion(**to(upstream))
    assert len(gateway.asked) == 2
    gateway.decides = lambda asked: Answer()
    time.sleep(2.1)
    mine.completion(**to(upstream))
    mine.completion(**to(upstream))
    assert len(upstream.requests) == 2


# --- approvals


def needs_approval(gateway: LibraryGateway, decided: threading.Event, outcome: Answer, *, holds: bool) -> None:
    """Let the gateway ask a person first; once `decided` is set, it answers `outcome`."""

    def decides(asked: Asked) -> Answer:
        if decided.is_set():
            return Answer(outcome.status, outcome.body)
        if holds and asked.get("approval_id"):
            decided.wait(min(asked["wait_seconds"], 0.5))  # a moment of the server's thread
            return decides({}) if decided.is_set() else refusal("approval_required", approval="a-1")
        return refusal("approval_required", approval="a-1")

    gateway.decides = decides
    gateway.states["a-1"] = "requested"


@pytest.mark.parametrize("holds", [False, True], ids=["asks again", "is held"])
async def test_a_call_waits_for_its_approval_and_then_goes_through(
    gateway: LibraryGateway, upstream: Upstream, holds: bool
) -> None:
    decided = threading.Event()
    needs_approval(gateway, decided, Answer(), holds=holds)
    mine = governor(gateway, approval_poll_interval_seconds=0.1)
    call = asyncio.create_task(mine.acompletion(**to(upstream)))
    await asyncio.to_thread(wait_until, lambda: gateway.looked > 1, "the call asks for its approval", 30)
    assert upstream.requests == []
    decided.set()
    gateway.states["a-1"] = "approved"
    assert (await call).choices[0].message.content == "Hello from upstream"
    assert [asked.get("approval_id") for asked in gateway.asked] == [None, "a-1", "a-1"]
    assert gateway.asked[1]["wait_seconds"] > 290


def test_a_reviewers_no_and_an_approval_that_is_over_are_errors_of_their_own(
    gateway: LibraryGateway, upstream: Upstream
) -> None:
    mine = governor(gateway, approval_poll_interval_seconds=0.05)
    for outcome, error in (("approval_rejected", ApprovalRejected), ("approval_expired", ApprovalTimeout)):
        gateway.reset()
        decided = threading.Event()
        needs_approval(gateway, decided, refusal(outcome), holds=False)
        gateway.states["a-1"] = "rejected"
        threading.Timer(0.3, decided.set).start()
        with pytest.raises(error) as caught:
            mine.completion(**to(upstream))
        assert caught.value.policies == ["rule-1"]
    assert upstream.requests == []


def test_nobody_deciding_is_an_approval_timeout_and_not_waiting_a_refusal(
    gateway: LibraryGateway, upstream: Upstream
) -> None:
    gateway.decides = lambda asked: refusal("approval_required", approval="a-1")
    gateway.states["a-1"] = "requested"
    with pytest.raises(ApprovalTimeout) as caught:
        governor(gateway, approval_max_wait_seconds=0.5, approval_poll_interval_seconds=0.1).completion(**to(upstream))
    assert caught.value.approval is not None
    with pytest.raises(PolicyDeniedError) as refused:
        governor(gateway, enable_hitl_polling=False).completion(**to(upstream))
    assert refused.value.code == "approval_required"
    assert upstream.requests == []


def test_a_gateway_that_goes_away_while_a_person_decides_lets_nothing_through(
    gateway: LibraryGateway, upstream: Upstream
) -> None:
    answers = iter([refusal("approval_required", approval="a-1")])
    gateway.decides = lambda asked: next(answers, Answer(500, {}))
    gateway.states["a-1"] = "approved"
    mine = governor(gateway, fail_open=True, approval_max_wait_seconds=1.0, approval_poll_interval_seconds=0.1)
    with pytest.raises(ApprovalTimeout):
        mine.completion(**to(upstream))
    assert upstream.requests == []


# --- reports


async def test_a_failure_is_reported_by_name_and_raised_as_litellms_own(
    gateway: LibraryGateway, upstream: Upstream
) -> None:
    upstream.status = 400
    mine = governor(gateway)
    with pytest.raises(litellm.BadRequestError):
        mine.completion(**to(upstream))
    with pytest.raises(litellm.BadRequestError):
        await mine.acompletion(**to(upstream))
    assert [(told["status"], told["error"]) for told in reports(gateway, 2)] == [("failure", "BadRequestError")] * 2


async def test_a_stream_that_is_left_early_is_reported_once_as_partial(
    gateway: LibraryGateway, upstream: Upstream
) -> None:
    upstream.chunk_delay_s = 0.05
    mine = governor(gateway)
    for _ in mine.completion(**to(upstream), stream=True):
        break
    reports(gateway, 1)
    stream = await mine.acompletion(**to(upstream), stream=True)
    async for _ in stream:
        break
    await stream.aclose()
    await stream.aclose()
    reports(gateway, 2)
    with mine.completion(**to(upstream), stream=True) as left:
        next(left)
    reports(gateway, 3)
    call = asyncio.create_task(mine.acompletion(**to(upstream)))
    upstream.delay_s = 3.0
    await asyncio.to_thread(wait_until, lambda: len(upstream.requests) == 4, "the model is called", 30)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert [told["status"] for told in reports(gateway, 4)] == ["partial"] * 4
    assert len({told["call_id"] for told in gateway.told}) == 4


def test_a_report_has_tokens_cost_and_the_tools_that_the_model_asked_for(
    gateway: LibraryGateway, upstream: Upstream
) -> None:
    upstream.tool = ("search", '{"q": "private"}')
    governor(gateway).completion(**to(upstream))
    (told,) = reports(gateway)
    assert told["usage"] == {"prompt_tokens": 3, "completion_tokens": 2}
    assert told["cost_usd"] > 0
    assert told["tool_calls"] == [{"name": "search"}]
    assert "private" not in json.dumps(told)


def test_a_report_that_fails_is_sent_again_without_holding_the_answer_up(
    gateway: LibraryGateway, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter([Answer(delay_s=HANGS_S), Answer(500, {}), Answer(429, {})])
    gateway.audits = lambda told: next(answers, Answer())
    mine = governor(gateway, call_timeout_seconds=0.5)
    with caplog.at_level(logging.INFO):
        begin = time.monotonic()
        assert mine.completion(**to(upstream)).choices[0].message.content == "Hello from upstream"
        assert time.monotonic() - begin < HANGS_S / 2
        assert len(reports(gateway)) == 1
        assert mine.flush(30)
    ours = [record.message for record in caplog.records if record.name.startswith("gatehouse")]
    assert len(ours) == 1
    assert "Hello" not in ours[0]


async def test_an_answer_that_the_gateway_withholds_does_not_reach_its_caller(
    gateway: LibraryGateway, upstream: Upstream
) -> None:
    blocked = {"code": "content_blocked", "message": "It names a weapon.", "policies": ["blocked_content"]}
    gateway.audits = lambda told: Answer(body={"call_id": told["call_id"], "recorded": True, "blocked": blocked})
    mine = governor(gateway)
    with pytest.raises(PolicyDeniedError, match="weapon"):
        mine.completion(**to(upstream))
    with pytest.raises(PolicyDeniedError, match="weapon"):
        await mine.acompletion(**to(upstream))
    with pytest.raises(PolicyDeniedError, match="weapon"):
        list(mine.completion(**to(upstream), stream=True))
    stream = await mine.acompletion(**to(upstream), stream=True)
    with pytest.raises(PolicyDeniedError, match="weapon"):
        [chunk async for chunk in stream]


# --- LiteLLM's own ways


def test_a_fallback_is_decided_on_for_itself(gateway: LibraryGateway, upstream: Upstream) -> None:
    asked_for = ["openai/gpt-4o", "openai/gpt-4o-mini", "openai/gpt-4.1"]
    seen: list[str] = []
    upstream.on_request = lambda: seen.append("x") or setattr(upstream, "status", 500 if len(seen) < 3 else 200)
    answer = governor(gateway).completion(
        **to(upstream, fallbacks=[asked_for[1], {"model": asked_for[2], "temperature": 0}])
    )
    assert answer.choices[0].message.content == "Hello from upstream"
    assert [asked["body"]["model"] for asked in gateway.asked] == asked_for
    assert [told["status"] for told in reports(gateway, 3)].count("failure") == 2


async def test_fallbacks_are_made_also_while_the_gateway_is_away(gateway: LibraryGateway, upstream: Upstream) -> None:
    gateway.decides = lambda asked: Answer(500, {})
    mine = governor(gateway, fail_open=True)
    calling = to(upstream, fallbacks=["openai/gpt-4o-mini"])
    for done in (lambda: asyncio.to_thread(mine.completion, **calling), lambda: mine.acompletion(**calling)):
        upstream.reset()
        upstream.on_request = lambda: setattr(upstream, "status", 500 if len(upstream.requests) == 1 else 200)
        assert (await done()).choices[0].message.content == "Hello from upstream"
        assert [body["model"] for body in sent(upstream)] == ["gpt-4o", "gpt-4o-mini"]


@pytest.mark.parametrize("option", ["prompt_id", "model_list", "context_window_fallback_dict"])
def test_what_would_change_a_call_after_its_decision_is_refused(
    gateway: LibraryGateway, upstream: Upstream, option: str
) -> None:
    with pytest.raises(ga.BadRequest, match=option):
        governor(gateway).completion(**to(upstream), **{option: {"openai/gpt-4o": "x"}})
    with pytest.raises(ga.BadRequest, match="JSON"):
        governor(gateway).completion(**to(upstream, [{"role": "user", "content": object()}]))
    assert gateway.asked == []


async def test_as_a_callback_it_reports_calls_made_without_it_once(
    gateway: LibraryGateway, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mine = governor(gateway)
    monkeypatch.setattr(litellm, "callbacks", [mine])
    await litellm.acompletion(**to(upstream))
    await asyncio.to_thread(litellm.completion, **to(upstream))
    async for _ in await litellm.acompletion(**to(upstream), stream=True):
        pass
    await asyncio.to_thread(reports, gateway, 3)
    await mine.acompletion(**to(upstream))
    await asyncio.to_thread(mine.completion, **to(upstream))
    upstream.status = 400
    with pytest.raises(litellm.BadRequestError):
        await litellm.acompletion(**to(upstream))
    await asyncio.to_thread(reports, gateway, 6)
    await asyncio.sleep(1)
    assert sorted(told["status"] for told in gateway.told) == ["failure", *["success"] * 5]
    assert {asked["body"]["model"] for asked in gateway.asked} == {"openai/gpt-4o"}

    gateway.decides = lambda asked: refusal("approval_required", approval="a-9")
    upstream.status = 200
    await litellm.acompletion(**to(upstream))
    await asyncio.to_thread(wait_until, lambda: gateway.cancelled == ["a-9"], "the question is taken back", 30)
    assert "a call was made that the gateway refuses" in caplog.text


def test_options_that_cannot_work_are_said_at_once() -> None:
    for options in (
        {"endpoint": "ftp://x"},
        {"endpoint": "http://user:pw@x"},
        {"client_id": ""},
        {"client_secret": "two words"},
        {"call_timeout_seconds": 0},
        {"breaker_failure_threshold": 0},
    ):
        with pytest.raises(ga.ConfigurationError) as caught:
            Governor(**{"endpoint": "http://127.0.0.1:4000/v1", "client_id": "planner", **options})
        assert "pw" not in str(caught.value)
        assert "two words" not in str(caught.value)
