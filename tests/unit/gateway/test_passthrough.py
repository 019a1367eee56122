"""A caller gets what the provider said, with LiteLLM's name of the model, and a provider's error with all its facts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import litellm
import pytest
from gatehouse.core.call import Attempt, Caller, GovernedCall, current_attempt
from gatehouse.core.clock import monotonic, new_call_id, now
from gatehouse.gateway import passthrough, provider_answers
from gatehouse.gateway.destinations import Destination, deployed
from gatehouse.gateway.passthrough import Passthrough, Reply, kept_headers, note
from gatehouse.gateway.provider_answers import watched
from gatehouse.pipeline.scope import CallScope, Incoming, ProviderAnswer, current_scope
from litellm.integrations.custom_guardrail import CustomGuardrail
from litellm.integrations.custom_logger import CustomLogger

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
EMBEDDINGS = "/v1/embeddings"
SSE, JSON = "text/event-stream", "application/json"
HOST = "https://api.example"
KEY = "sk-of-the-operator"


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two deployments, at two providers."""
    both = {
        "one": Destination(f"{HOST}:443", frozenset({KEY}), complete=True, provider="openai"),
        "claude": Destination(f"{HOST}:443", frozenset({KEY}), complete=True, provider="anthropic"),
        "other": Destination("http://10.1.2.3:8000", frozenset({"sk-of-another"}), complete=True, provider="groq"),
    }
    monkeypatch.setattr(deployed, "all", lambda **_: both)
    monkeypatch.setattr(litellm, "callbacks", [])


def a_call(route: str = CHAT, *, asks_usage: bool = False) -> CallScope:
    incoming = Incoming(asks_usage=asks_usage)
    return CallScope(new_call_id(), route, now(), monotonic(), intent=True, incoming=incoming)


def answered(call: CallScope, body: bytes = b"", *, kind: str = SSE, **fields: Any) -> ProviderAnswer:
    """Let a provider answer the call."""
    given = {"status": 200, "own": True, "kind": kind, "origin": f"{HOST}:443", **fields}
    answer = ProviderAnswer(given.pop("attempt", Attempt("m", "one")), body=bytearray(body), **given)
    call.sending.answered(answer)
    return answer


def sse(*said: Any) -> bytes:
    return b"".join(b"data: " + (one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n\n" for one in said)


def chunk(text: str | None = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": None if text else "stop"}
    return {"model": "gpt-4o-2024", "choices": [choice], "new_field": {"x": 1}, **fields}


LITELLMS = sse({"model": "gpt", "choices": [{"index": 0, "delta": {"content": "a"}}], "created": 9})
DONE = sse(b"[DONE]")


def read(stream: bytes) -> list[Any]:
    lines = [line.removeprefix(b"data: ") for line in stream.splitlines() if line.startswith(b"data: ")]
    return [line.decode() if line == b"[DONE]" else json.loads(line) for line in lines]


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_stream_is_the_providers_but_for_the_name_of_the_model(size: int) -> None:
    call = a_call()
    answer = answered(call)
    said = sse(chunk("a"), chunk("b"), chunk()) + DONE
    through = Passthrough(call)
    came = b""
    for at in range(0, len(said), size):
        answer.body += said[at : at + size]
        came += through.piece(LITELLMS, last=False)
    came += through.piece(DONE, last=False) + through.piece(b"", last=True)
    assert read(came) == [each | {"model": "gpt"} for each in (chunk("a"), chunk("b"), chunk())] + ["[DONE]"]


def test_events_whose_model_is_the_same_stay_byte_for_byte() -> None:
    call = a_call()
    said = b'event: x\r\ndata: {"model":  "gpt", "choices": [1.10]}\r\n\r\n' + DONE
    answered(call, said)
    assert Passthrough(call).piece(LITELLMS, last=True) == said


def test_nothing_is_passed_on_before_litellm_said_whose_answer_it_is() -> None:
    call = a_call()
    answered(call, sse(chunk("a")))
    through = Passthrough(call)
    assert through.piece(LITELLMS[:20], last=False) == b""
    assert read(through.piece(LITELLMS[20:], last=False)) == [chunk("a") | {"model": "gpt"}]


def test_usage_that_the_caller_did_not_ask_for_stays_with_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = chunk() | {"choices": [], "usage": {"total_tokens": 5}}
    said = sse(chunk("a", usage=None), usage) + DONE
    for asks, expected in ((False, [chunk("a"), "[DONE]"]), (True, [chunk("a", usage=None), usage, "[DONE]"])):
        call = a_call(asks_usage=asks)
        answered(call, said)
        came = read(Passthrough(call).piece(LITELLMS, last=True))
        assert came == [each if each == "[DONE]" else each | {"model": "gpt"} for each in expected]
    monkeypatch.setattr(passthrough, "always_sends_usage", lambda: True)
    call = a_call()
    answered(call, said)
    assert len(read(Passthrough(call).piece(LITELLMS, last=True))) == 3


def test_a_sign_of_life_passes_and_one_of_the_provider_is_not_doubled() -> None:
    call = a_call(MESSAGES)
    answer = answered(call)
    through = Passthrough(call)
    ping = b'event: ping\ndata: {"type": "ping"}\n\n'
    start = b'event: message_start\ndata: {"type": "message_start", "message": {"model": "claude"}}\n\n'
    assert through.piece(b": waiting\n\n", last=False) == b": waiting\n\n"
    assert through.piece(ping, last=False) == ping
    answer.body += ping + start
    assert through.piece(ping, last=False) == b""
    assert through.piece(start, last=False) == ping + start
    assert through.piece(ping, last=False) == ping


def test_litellms_end_is_added_where_the_provider_says_none() -> None:
    call = a_call()
    answered(call, sse(chunk()))
    assert read(Passthrough(call).piece(LITELLMS + DONE, last=True))[-1] == "[DONE]"


def test_a_response_keeps_the_id_that_litellm_knows_it_by() -> None:
    call = a_call(RESPONSES)
    made = {"type": "response.created", "sequence_number": 0, "response": {"id": "resp_1", "model": "up", "n": 1}}
    ours = {"type": "response.created", "model": "gpt", "response": {"id": "resp_litellm", "model": "up"}}
    answered(call, b"event: response.created\n" + sse(made))
    came = Passthrough(call).piece(sse(ours), last=True)
    assert came.startswith(b"event: response.created\n")
    assert read(came) == [made | {"response": {"id": "resp_litellm", "model": "gpt", "n": 1}}]


@pytest.mark.parametrize(
    ("route", "own", "litellms", "expected"),
    [
        (CHAT, {"model": "up", "a": 1}, {"model": "gpt", "b": 2}, {"model": "gpt", "a": 1}),
        (RESPONSES, {"id": "r", "model": "up"}, {"id": "x", "model": "gpt"}, {"id": "x", "model": "gpt"}),
        (MESSAGES, {"model": "up"}, {"model": "gpt"}, {"model": "gpt"}),
        (
            EMBEDDINGS,
            {"model": "up", "data": ["AAA="]},
            {"model": "e", "data": [[0.1]]},
            {"model": "e", "data": [[0.1]]},
        ),
        (CHAT, {"a": 1}, {"model": "gpt"}, {"a": 1}),
    ],
)
def test_a_whole_answer_is_the_providers_but_for_what_litellm_names(
    route: str, own: Any, litellms: Any, expected: Any
) -> None:
    call = a_call(route)
    answered(call, json.dumps(own).encode(), kind=JSON)
    assert json.loads(Passthrough(call).whole(json.dumps(litellms).encode())) == expected


@pytest.mark.parametrize("body", [b"", b"[]", b"{"])
def test_an_answer_that_cannot_be_read_stays_litellms(body: bytes) -> None:
    call = a_call()
    answered(call, body, kind=JSON)
    assert Passthrough(call).whole(b'{"model": "gpt"}') == b'{"model": "gpt"}'


@pytest.mark.parametrize("fields", [{"own": False}, {"kind": SSE}, {"status": 500}])
def test_another_apis_answer_stays_litellms(fields: dict[str, Any]) -> None:
    call = a_call()
    answered(call, b'{"model": "up"}', **({"kind": JSON} | fields))
    assert Passthrough(call).whole(b'{"model": "gpt"}') == b'{"model": "gpt"}'
    if fields != {"kind": SSE}:
        assert Passthrough(call).piece(LITELLMS, last=False) == LITELLMS


def test_what_comes_from_another_attempt_is_litellms() -> None:
    call = a_call()
    answered(call, sse(chunk("a")))
    through = Passthrough(call)
    through.piece(LITELLMS, last=False)
    answered(call, sse(chunk("b")))
    assert through.piece(LITELLMS, last=False) == LITELLMS


# Errors.

FACTS = {"message": "Slow down.", "type": "rate_limit_error", "param": "model", "code": "rate_limit_exceeded"}
LITELLMS_ERROR = Reply(500, (), JSON, b'{"error": {"message": "litellm.RateLimitError: ..", "code": "500"}}')
HEADERS = (("retry-after", "7"), ("x-request-id", "req_1"))


def failed(call: CallScope, body: bytes, status: int = 429, **fields: Any) -> Reply:
    answered(call, body, kind=fields.pop("kind", JSON), status=status, headers=HEADERS, **fields)
    return Passthrough(call).error(LITELLMS_ERROR)


def test_an_error_in_the_callers_api_passes_byte_for_byte() -> None:
    body = json.dumps({"error": FACTS | {"new": 1.10}}, indent=1).encode()
    assert failed(a_call(), body) == Reply(429, HEADERS, JSON, body)


def test_an_error_keeps_its_facts_in_the_shape_of_another_api() -> None:
    said = failed(a_call(), b'{"type": "error", "error": {"type": "overloaded_error", "message": "x"}}', 529, own=False)
    assert (said.status, said.headers) == (529, HEADERS)
    assert json.loads(said.body)["error"] == {"message": "x", "type": "overloaded_error", "param": None, "code": None}
    call = a_call(MESSAGES)
    said = failed(call, json.dumps({"error": FACTS}).encode(), own=False)
    assert json.loads(said.body) == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "Slow down."},
        "request_id": str(call.call_id),
    }


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (b'[{"error": {"code": 429, "message": "Quota.", "status": "EXHAUSTED"}}]', "Quota.", "429"),
        (b'{"message": "Quota.", "code": "q"}', "Quota.", "q"),
        (b'{"error": "Quota."}', "Quota.", None),
        (b"upstream connect error", "upstream connect error", None),
        (b"<html>502</html>", "The provider answered with status 429.", None),
        (b"", "The provider answered with status 429.", None),
        (b'{"error": {"message": 5, "code": true}}', "The provider answered with status 429.", None),
    ],
)
def test_an_error_in_any_shape_becomes_one_that_clients_read(body: bytes, message: str, code: str | None) -> None:
    said = json.loads(failed(a_call(), body, own=False).body)["error"]
    assert (said["message"], said["code"]) == (message, code)


def test_a_type_that_anthropics_clients_do_not_know_becomes_the_one_of_the_status() -> None:
    body = json.dumps({"error": FACTS | {"type": "insufficient_quota"}}).encode()
    assert json.loads(failed(a_call(MESSAGES), body, own=False).body)["error"]["type"] == "rate_limit_error"


def test_an_error_says_no_credential_and_no_host_of_another_provider() -> None:
    text = f"Key {KEY} is not known at {HOST}; ask http://10.1.2.3:8000 with sk-of-another."
    for own in (True, False):
        said = failed(a_call(), json.dumps({"error": {"message": text}}).encode(), own=own).body.decode()
        for secret in (KEY, "sk-of-another", "10.1.2.3"):
            assert secret not in said
        assert HOST in said


def test_without_an_error_of_a_provider_litellms_own_is_cleaned() -> None:
    call = a_call()
    body = b'{"error": {"message": "no\\nTraceback (most recent call last): x"}}'
    assert Passthrough(call).error(Reply(400, (), JSON, body)).body == b'{"error": {"message": "no"}}'


def test_the_requested_models_error_counts_before_those_of_its_fallbacks() -> None:
    call = a_call()
    first, second = Attempt("gpt", "one"), Attempt("claude", "other")
    call.sending.attempts += [first, second]
    said = []
    for attempt, status in ((first, 500), (first, 429), (second, 401)):
        call.sending.begins(attempt)
        answered(call, b"{}", kind=JSON, status=status, attempt=attempt)
        assert call.sending.error is not None
        said.append(call.sending.error.status)
    assert said == [500, 429, 429]
    call.sending.begins(second)
    answered(call, kind=JSON, attempt=second)
    assert call.sending.error is None


def test_a_stream_that_fails_at_once_is_passed_on_as_a_stream() -> None:
    call = a_call()
    event = sse({"error": FACTS | {"message": f"{KEY} is slow"}})
    answered(call, event, failed=json.loads(event.removeprefix(b"data: ")), headers=HEADERS)
    said = Passthrough(call).error(LITELLMS_ERROR)
    assert (said.status, said.kind, said.headers) == (200, SSE, HEADERS)
    assert said.body == event.replace(KEY.encode(), b"[credential]")


@pytest.mark.parametrize(("kind", "status"), [("overloaded_error", 529), ("rate_limit_error", 429), ("new", 502)])
def test_a_stream_of_another_api_that_fails_at_once_has_the_status_of_its_type(kind: str, status: int) -> None:
    call = a_call()
    answered(call, own=False, failed={"type": "error", "error": {"type": kind, "message": "x"}})
    assert Passthrough(call).error(LITELLMS_ERROR).status == status


def test_an_error_within_a_stream_is_the_providers() -> None:
    call = a_call()
    event = {"error": FACTS}
    answered(call, sse(chunk("a"), event), failed=event)
    through = Passthrough(call)
    came = through.piece(LITELLMS, last=False) + through.piece(sse({"error": {"message": "litellm"}}), last=False)
    assert read(came + through.piece(DONE, last=True)) == [chunk("a") | {"model": "gpt"}, event]


def test_an_error_within_a_stream_of_another_api_keeps_its_words() -> None:
    call = a_call(MESSAGES)
    answered(call, own=False, failed={"error": FACTS})
    litellms = b'event: error\ndata: {"type": "error", "error": {"message": "litellm"}}\n\n'
    came = Passthrough(call).piece(litellms, last=False)
    assert came.startswith(b"event: error\n")
    assert read(came)[0]["error"] == {"type": "rate_limit_error", "message": "Slow down."}


def test_a_fault_of_litellm_within_a_stream_is_told_once_and_cleaned() -> None:
    call = a_call()
    answer = answered(call, sse(chunk("a")))
    through = Passthrough(call)
    through.piece(LITELLMS, last=False)
    answer.body += sse(chunk("b"))
    fault = sse({"error": {"message": "broken\nTraceback (most recent call last): x"}})
    assert read(through.piece(fault, last=False)) == [chunk("b") | {"model": "gpt"}, {"error": {"message": "broken"}}]


# What is noted of an answer.


def noted(call: CallScope, url: str = f"{HOST}{CHAT}", deployment: str = "one") -> ProviderAnswer:
    request = httpx.Request("POST", url)
    response = httpx.Response(200, headers={"content-type": "text/event-stream; charset=utf-8"})
    return note(call, Attempt("m", deployment), request, response)


@pytest.mark.parametrize(
    ("route", "path", "deployment", "own"),
    [
        (CHAT, "/v1/chat/completions", "one", True),
        (CHAT, "/v1/responses", "one", False),
        (CHAT, "/v1/chat/completions", "other", False),
        (CHAT, "/v1/chat/completions", "nobody", False),
        (CHAT, "/v1/messages", "claude", False),
        ("/v1/completions", "/v1/chat/completions", "one", False),
        ("/v1/completions", "/v1/completions", "one", True),
        (MESSAGES, "/v1/messages", "claude", True),
        (RESPONSES, "/openai/v1/responses", "one", True),
        (EMBEDDINGS, "/v1/embeddings", "one", True),
        ("/v1/moderations", "/v1/moderations", "one", False),
    ],
)
def test_an_answer_is_passed_on_where_its_provider_speaks_the_callers_api(
    route: str, path: str, deployment: str, own: bool
) -> None:
    call = a_call(route)
    answer = noted(call, f"{HOST}{path}", deployment)
    assert answer.own is own
    assert (answer.kind, answer.origin) == (SSE, f"{HOST}:443")
    assert call.sending.answer is answer


class ChangesAnswers(CustomLogger):  # type: ignore[misc]
    async def async_post_call_success_hook(self, *args: Any, **kwargs: Any) -> Any:
        return None


class OnlyLogs(CustomLogger):  # type: ignore[misc]
    async def async_log_success_event(self, *args: Any, **kwargs: Any) -> None:
        return None


@pytest.mark.parametrize(
    ("callback", "own"),
    [(ChangesAnswers(), False), (CustomGuardrail(guardrail_name="g"), False), (OnlyLogs(), True), ("prometheus", True)],
)
def test_where_a_callback_may_change_answers_they_are_litellms(
    callback: object, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litellm, "callbacks", [callback])
    assert noted(a_call()).own is own


def test_the_headers_that_clients_read_are_kept_and_no_others() -> None:
    given = [
        ("retry-after", "7"),
        ("retry-after-ms", "7000"),
        ("x-should-retry", "true"),
        ("x-ratelimit-remaining-requests", "3"),
        ("x-request-id", "req_1"),
        ("openai-organization", "acme"),
        ("set-cookie", "a=b"),
        ("x-ratelimit-odd", "a\nb"),
        ("x-ratelimit-long", "a" * 300),
    ]
    assert kept_headers(given, CHAT) == tuple(given[:5])
    assert kept_headers([("x-request-id", "req_1")], MESSAGES) == (("request-id", "req_1"),)
    assert kept_headers([("request-id", "req_1")], CHAT) == (("x-request-id", "req_1"),)
    many = [(f"x-ratelimit-{n}", "1") for n in range(100)]
    assert len(kept_headers(many, CHAT)) == 32


# From the transport on.


class Body(httpx.AsyncByteStream):
    """Sends pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


async def received(call: CallScope, monkeypatch: pytest.MonkeyPatch, *pieces: bytes, **answer: Any) -> httpx.Response:
    """Return a provider's answer as LiteLLM receives it, read to its end."""
    monkeypatch.setattr(provider_answers, "check_destination", lambda *_: None)
    call.call = GovernedCall(call.call_id, now(), call.route, "acompletion", "m", stream=True, caller=Caller())
    attempt = Attempt("m", "one")
    call.sending.attempts.append(attempt)
    given = {"status_code": 200, "headers": {"content-type": SSE}, **answer}

    async def handle(_: Any, request: httpx.Request) -> httpx.Response:
        return httpx.Response(**given, stream=Body(*pieces), request=request)

    tokens = current_scope.set(call), current_attempt.set(attempt)
    try:
        request = httpx.Request("POST", f"{HOST}{call.route}", json={"stream": True})
        response = await watched(handle, 10_000_000)(None, request)
        await response.aread()
        return response
    finally:
        current_scope.reset(tokens[0])
        current_attempt.reset(tokens[1])


async def test_an_error_is_kept_up_to_a_bound_and_litellm_gets_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    call = a_call()
    pieces = [b"x" * 40_000] * 3
    headers = {"content-type": "text/plain", "retry-after": "7", "x-should-retry": "true"}
    response = await received(call, monkeypatch, *pieces, status_code=429, headers=headers)
    assert len(response.content) == 120_000
    assert response.headers["x-should-retry"] == "true"
    kept = call.sending.error
    assert kept is not None
    assert (len(kept.body), kept.status) == (65_536, 429)
    assert kept.headers == (("retry-after", "7"), ("x-should-retry", "true"))


@pytest.mark.parametrize("cut", [5, 400])
async def test_a_stream_is_kept_with_the_event_of_its_failure(cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    call = a_call()
    said = sse(chunk("a"), {"error": FACTS})
    await received(call, monkeypatch, said[:cut], said[cut:])
    kept = call.sending.error
    assert kept is not None
    assert (bytes(kept.body), kept.failed) == (said, {"error": FACTS})


async def test_of_an_answer_in_another_api_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    call = a_call()
    monkeypatch.setattr(litellm, "callbacks", [ChangesAnswers()])
    await received(call, monkeypatch, sse(chunk("a"), chunk()), DONE)
    assert call.sending.answer is not None
    assert call.sending.answer.body == b""
    assert call.sending.error is None


async def test_a_provider_without_an_answer_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    call = a_call()
    answered(call, b"{}", kind=JSON, status=500)
    monkeypatch.setattr(httpx, "Response", lambda **_: (_ for _ in ()).throw(httpx.ConnectError("no")))
    with pytest.raises(httpx.ConnectError):
        await received(call, monkeypatch)
    assert call.sending.unreachable
    assert call.sending.error is None
