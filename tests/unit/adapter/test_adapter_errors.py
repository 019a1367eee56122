"""Each failure becomes one error of the family, with code, status and call id, and never with the key."""

from __future__ import annotations

import json
import pickle
import time
from email.utils import formatdate
from typing import Any

import gatehouse_adapter as ga
import httpx
import pytest
from gatehouse_adapter._internal import clock, failures, settings

KEY = "sk-gatehouse-secret-of-the-tests"
URL = "http://gateway.test:4000"
ASK = [{"role": "user", "content": "hello"}]


def adapter(handler: Any, **options: Any) -> ga.LiteLLMAdapter:
    return ga.LiteLLMAdapter(
        base_url=URL, api_key=KEY, transport=httpx.MockTransport(handler), **{"max_retries": 0, **options}
    )


async def failure(response: httpx.Response, *, stream: bool = False) -> ga.GatehouseError:
    async with adapter(lambda request: response) as client:
        try:
            answer = await client.complete_chat(ASK, "demo", stream=stream)
            if isinstance(answer, ga.ChatStream):
                async for _ in answer:
                    pass
        except ga.GatehouseError as error:
            return error
    raise AssertionError("no error was raised")


def body(message: str = "No.", **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "None", "param": None, **fields}}


OURS = [
    (403, "policy_denied", ga.PolicyDenied),
    (403, "approval_required", ga.ApprovalRequired),
    (403, "approval_rejected", ga.ApprovalRejected),
    (403, "approval_expired", ga.ApprovalExpired),
    (403, "approval_mismatch", ga.ApprovalMismatch),
    (403, "content_blocked", ga.ContentBlocked),
    (403, "pii_blocked", ga.PIIBlocked),
    (413, "limit_exceeded", ga.LimitExceeded),
    (403, "ungoverned_route", ga.UngovernedRoute),
    (503, "governance_unavailable", ga.GovernanceUnavailable),
]


@pytest.mark.parametrize(("status", "code", "cls"), OURS)
async def test_every_governance_code_has_its_own_error(status: int, code: str, cls: type[ga.GatehouseError]) -> None:
    error = await failure(httpx.Response(status, json=body(code=code), headers={"x-gatehouse-call-id": "call-1"}))
    assert type(error) is cls
    assert (error.code, error.status, error.call_id, error.message) == (code, status, "call-1", "No.")
    assert str(error) == f"No. [{code}, status {status}, call call-1]"


@pytest.mark.parametrize(("status", "code", "cls"), OURS)
async def test_an_error_inside_a_stream_is_the_same_error(status: int, code: str, cls: type[ga.GatehouseError]) -> None:
    event = f"data: {json.dumps(body(code=code))}\n\n"
    error = await failure(httpx.Response(200, text=event, headers={"content-type": "text/event-stream"}), stream=True)
    assert type(error) is cls
    assert (error.code, error.status) == (code, status)


@pytest.mark.parametrize(
    ("status", "content", "cls", "code"),
    [
        (400, body(code="400"), ga.BadRequest, "bad_request"),
        (400, body("Invalid model name passed in model=x", code="400"), ga.ModelNotFound, "model_not_found"),
        (404, body(code="model_not_found"), ga.ModelNotFound, "model_not_found"),
        (401, body(type="auth_error", code="401"), ga.AuthenticationFailed, "authentication_failed"),
        (403, body(type="key_model_access_denied", code="403"), ga.AccessDenied, "access_denied"),
        (408, body(code="408"), ga.TimedOut, "timed_out"),
        (413, body(code="413"), ga.BadRequest, "bad_request"),
        (422, body(type="budget_exceeded", code="422"), ga.BudgetExceeded, "budget_exceeded"),
        (400, body(code="budget_exceeded"), ga.BudgetExceeded, "budget_exceeded"),
        (429, body(type="budget_exceeded", code="429"), ga.BudgetExceeded, "budget_exceeded"),
        (422, {"detail": [{"loc": ["body", "n"], "msg": "not a number"}]}, ga.BadRequest, "bad_request"),
        (429, body(code="429"), ga.RateLimited, "rate_limited"),
        (500, body(code="None"), ga.UpstreamError, "upstream_error"),
        (503, body(code="503"), ga.UpstreamError, "upstream_error"),
        (400, {"detail": {"error": {"message": "x", "code": "pii_blocked"}}}, ga.PIIBlocked, "pii_blocked"),
        (400, {"error": "just a text"}, ga.BadRequest, "bad_request"),
        (502, [1, 2], ga.UpstreamError, "upstream_error"),
        (200, body(code="429"), ga.RateLimited, "rate_limited"),
        (200, body(code="budget_exceeded"), ga.BudgetExceeded, "budget_exceeded"),
        (200, body(), ga.UpstreamError, "upstream_error"),
    ],
)
async def test_litellms_errors_are_told_apart(
    status: int, content: Any, cls: type[ga.GatehouseError], code: str
) -> None:
    error = await failure(httpx.Response(status, json=content))
    assert type(error) is cls
    assert error.code == code
    assert error.message


async def test_the_fastapi_reason_is_kept() -> None:
    error = await failure(httpx.Response(422, json={"detail": [{"loc": ["n"], "msg": "not a number"}]}))
    assert "not a number" in error.message


async def test_a_refusal_names_rules_and_approval() -> None:
    extra = {
        "call_id": "call-7",
        "policies": ["expensive-needs-a-human", 5],
        "approval": {"id": "apr_1", "expires_at": "2026-01-01T00:00:00Z", "status_url": "/governance/v1/approvals/1"},
    }
    error = await failure(httpx.Response(403, json=body(code="approval_required", gatehouse=extra)))
    assert error.policies == ["expensive-needs-a-human"]
    assert error.call_id == "call-7"
    assert error.approval is not None
    assert error.approval.id == error.approval["id"] == "apr_1"
    assert error.approval.expires_at == "2026-01-01T00:00:00Z"
    assert error.approval.status_url == "/governance/v1/approvals/1"


@pytest.mark.parametrize(
    "extra",
    [None, "x", [], {"policies": "x", "approval": "x", "call_id": 5}, {"approval": {"id": 5}}, {"approval": {}}],
)
async def test_a_misshapen_gatehouse_part_does_not_hide_the_error(extra: Any) -> None:
    error = await failure(httpx.Response(403, json=body(code="policy_denied", gatehouse=extra)))
    assert isinstance(error, ga.PolicyDenied)
    assert (error.policies, error.approval, error.call_id) == ([], None, None)


@pytest.mark.parametrize(
    ("status", "content", "cls"),
    [
        (502, b"<html><title>Bad Gateway</title></html>", ga.UpstreamError),
        (401, b"<html>who are you</html>", ga.AuthenticationFailed),
        (500, b"", ga.UpstreamError),
        (500, b"{}", ga.UpstreamError),
        (503, b"[" * 100_000, ga.UpstreamError),
        (500, b"\xff\xfe\x00", ga.UpstreamError),
        (200, b"<html>welcome</html>", ga.InvalidResponse),
        (200, b"", ga.InvalidResponse),
        (200, b"null", ga.InvalidResponse),
        (200, b"[" * 100_000, ga.InvalidResponse),
        (204, b"", ga.InvalidResponse),
    ],
)
async def test_an_answer_that_is_not_json_is_a_clear_error(
    status: int, content: bytes, cls: type[ga.GatehouseError]
) -> None:
    for stream in (False, True):
        error = await failure(
            httpx.Response(status, content=content, headers={"content-type": "text/html"}), stream=stream
        )
        assert type(error) is cls
        assert error.status == status
        assert URL in error.message
    if b"Bad Gateway" in content:
        assert "text/html" in error.message
        assert "Bad Gateway" in error.message


async def test_a_redirect_is_not_followed_with_the_key() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(307, json={"x": 1}, headers={"location": "http://elsewhere.test/"})

    async with adapter(handler) as client:
        with pytest.raises(ga.InvalidResponse, match="redirect"):
            await client.complete_chat(ASK, "demo")
    assert len(seen) == 1


async def test_the_key_appears_in_no_error_and_no_repr() -> None:
    def echo(request: httpx.Request) -> httpx.Response:
        key = request.headers["authorization"]
        extra = {"call_id": key, "policies": [key], "approval": {"id": key}}
        return httpx.Response(403, json=body(f"denied to {key}", code=key, gatehouse=extra))

    async with adapter(echo) as client:
        assert KEY not in repr(client) + repr(client.__dict__)
        with pytest.raises(ga.GatehouseError) as caught:
            await client.complete_chat(ASK, "demo")
    error = caught.value
    assert "[api key]" in error.message
    assert KEY not in f"{error} {error!r} {error.code} {error.call_id} {error.policies} {error.approval!r}"

    html = await failure(httpx.Response(500, text=f"<html>{KEY}</html>", headers={"x-gatehouse-call-id": KEY}))
    assert KEY not in f"{html} {html.call_id}"


async def test_a_message_cannot_forge_log_lines_or_fill_the_log() -> None:
    error = await failure(httpx.Response(400, json=body("first\r\nERROR second\x1b[31m\u2028" + "x" * 100_000)))
    assert error.message.isprintable()
    assert len(error.message) < 3000


def test_an_error_survives_a_process_boundary() -> None:
    approval = ga.Approval(id="a", expires_at=None, status_url=None)
    error = ga.ApprovalRequired("Wait.", status=403, call_id="c", policies=("p",), approval=approval)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is ga.ApprovalRequired
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)


def test_one_except_clause_catches_the_whole_family() -> None:
    for name in ga.errors.__all__:
        assert issubclass(getattr(ga, name), ga.GatehouseError)
        assert name in (ga.errors.__doc__ or ""), f"{name} is missing in the tree"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        (formatdate(1_000_030, usegmt=True), 30.0),
        (formatdate(900_000, usegmt=True), 0.0),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_date(header: str | None, seconds: float | None) -> None:
    assert failures.seconds_to_wait(header, 1_000_000.0) == seconds


async def test_rate_limited_tells_when_to_come_back() -> None:
    error = await failure(httpx.Response(429, json=body(), headers={"retry-after": "12"}))
    assert isinstance(error, ga.RateLimited)
    assert error.retry_after == 12.0


# Retries


class Attempts:
    """Answers with the given outcomes in turn, and counts them."""

    def __init__(self, *outcomes: httpx.Response | Exception) -> None:
        self.outcomes = list(outcomes)
        self.count = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        outcome = self.outcomes[min(self.count, len(self.outcomes) - 1)]
        self.count += 1
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def good() -> httpx.Response:
    return httpx.Response(200, json={"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]})


def busy(**headers: str) -> httpx.Response:
    return httpx.Response(503, json=body(code="governance_unavailable"), headers=headers)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(clock, "sleep", sleep)
    return waited


async def test_a_503_with_retry_after_is_repeated_no_sooner_than_asked(waits: list[float]) -> None:
    attempts = Attempts(busy(**{"retry-after": "2"}), busy(**{"retry-after": "3"}), good())
    async with adapter(attempts, max_retries=2) as client:
        assert (await client.complete_chat(ASK, "demo")).content == "hi"
    assert attempts.count == 3
    assert 2.0 < waits[0] < 3.0
    assert 3.0 < waits[1] < 4.5


async def test_a_refused_connection_is_repeated_with_growing_jittered_waits(waits: list[float]) -> None:
    attempts = Attempts(httpx.ConnectError("refused"))
    async with adapter(attempts, max_retries=4) as client:
        with pytest.raises(ga.ConnectionFailed, match="No connection"):
            await client.complete_chat(ASK, "demo")
    assert attempts.count == 5
    for wait, backoff in zip(waits, [0.5, 1, 2, 4], strict=True):
        assert backoff / 2 <= wait < backoff


@pytest.mark.parametrize(
    ("outcome", "cls"),
    [
        (httpx.Response(503, json=body()), ga.UpstreamError),
        (httpx.Response(500, json=body(), headers={"retry-after": "1"}), ga.UpstreamError),
        (httpx.Response(429, json=body(), headers={"retry-after": "1"}), ga.RateLimited),
        (httpx.Response(403, json=body(code="policy_denied"), headers={"retry-after": "1"}), ga.PolicyDenied),
        (httpx.ReadError("reset"), ga.ConnectionFailed),
        (httpx.WriteError("reset"), ga.ConnectionFailed),
        (httpx.RemoteProtocolError("Server disconnected without sending a response."), ga.ConnectionFailed),
        (httpx.ReadTimeout(""), ga.TimedOut),
        (httpx.PoolTimeout(""), ga.TimedOut),
        (httpx.Response(200, text="half a bo"), ga.InvalidResponse),
    ],
)
async def test_a_call_that_may_have_been_carried_out_is_never_repeated(
    outcome: httpx.Response | Exception, cls: type[ga.GatehouseError], waits: list[float]
) -> None:
    attempts = Attempts(outcome, good())
    async with adapter(attempts, max_retries=5) as client:
        with pytest.raises(cls) as caught:
            await client.complete_chat(ASK, "demo")
    assert type(caught.value) is cls
    assert attempts.count == 1
    assert waits == []


@pytest.mark.parametrize("asked", ["31", formatdate(time.time() + 3600, usegmt=True)], ids=["seconds", "date"])
async def test_a_retry_after_beyond_the_cap_is_left_to_the_caller(asked: str, waits: list[float]) -> None:
    attempts = Attempts(busy(**{"retry-after": asked}), good())
    async with adapter(attempts, max_retries=2) as client:
        with pytest.raises(ga.GovernanceUnavailable) as caught:
            await client.complete_chat(ASK, "demo")
    assert attempts.count == 1
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 30


async def test_no_retry_is_begun_that_the_timeout_would_cut_off(waits: list[float]) -> None:
    attempts = Attempts(busy(**{"retry-after": "20"}), good())
    async with adapter(attempts, max_retries=2, timeout=5.0) as client:
        with pytest.raises(ga.GovernanceUnavailable):
            await client.complete_chat(ASK, "demo")
    assert attempts.count == 1


# Configuration


def test_a_missing_address_or_key_names_the_variable_and_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LITELLM_BASE_URL", raising=False)
    monkeypatch.setenv("LITELLM_MASTER_KEY", "")
    with pytest.raises(ga.ConfigurationError, match=r"LITELLM_BASE_URL is not set.*Set LITELLM_BASE_URL"):
        ga.LiteLLMAdapter(api_key=KEY)
    with pytest.raises(ga.ConfigurationError, match=r"LITELLM_MASTER_KEY is not set.*Set LITELLM_MASTER_KEY"):
        ga.LiteLLMAdapter(base_url=URL)


def test_the_environment_gives_address_and_key_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"LITELLM_BASE_URL": "http://env.test:1/", "LITELLM_MASTER_KEY": "sk-env\n"}
    found = settings.load(base_url=None, api_key=None, timeout=1, max_retries=0, environ=environ)
    assert (found.base_url, found.api_key) == ("http://env.test:1", "sk-env")
    found = settings.load(base_url=URL, api_key=KEY, timeout=1, max_retries=0, environ=environ)
    assert (found.base_url, found.api_key) == (URL, KEY)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert "http://env.test:1" in repr(ga.LiteLLMAdapter())


@pytest.mark.parametrize("url", [URL, URL + "/", URL + "/v1", URL + "/v1/", f" {URL}/v1 "])
def test_the_address_may_end_in_v1(url: str) -> None:
    assert settings.load(base_url=url, api_key=KEY, timeout=1, max_retries=0).base_url == URL


@pytest.mark.parametrize(
    "url",
    ["gateway:4000", "ftp://gateway", "http://", "//x", "http://g/?a=1", "http://g/#a", "http://g:x", "http://[::"],
)
def test_an_address_that_is_none_is_refused_before_any_call(url: str) -> None:
    with pytest.raises(ga.ConfigurationError, match="LITELLM_BASE_URL"):
        ga.LiteLLMAdapter(base_url=url, api_key=KEY)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ga.ConfigurationError) as caught:
        ga.LiteLLMAdapter(base_url="http://user:hunter2@gateway", api_key=KEY)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["sk-a b", "sk-a\nb", "sk-ä", "sk-\x00"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ga.ConfigurationError) as caught:
        ga.LiteLLMAdapter(base_url=URL, api_key=key)
    assert "sk-" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": float("nan")},
        {"max_retries": -1},
        {"transport": httpx.MockTransport(lambda r: good()), "http_client": httpx.AsyncClient()},
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ga.ConfigurationError):
        ga.LiteLLMAdapter(base_url=URL, api_key=KEY, **options)


@pytest.mark.parametrize("content", [object(), float("nan"), "\ud800", {1, 2}])
async def test_a_request_that_is_no_json_is_refused_before_it_is_sent(content: Any) -> None:
    attempts = Attempts(good())
    async with adapter(attempts) as client:
        with pytest.raises(ga.BadRequest, match="Nothing was sent"):
            await client.complete_chat([{"role": "user", "content": content}], "demo")
        with pytest.raises(ga.BadRequest, match="Nothing was sent"):
            await client.complete_chat(ASK, "demo", approval_id="a\r\nx-evil: 1")
    assert attempts.count == 0
