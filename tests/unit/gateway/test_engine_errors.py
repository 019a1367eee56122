"""What LiteLLM could not do is told in a few words, without its inner parts; what its operator chose to say stays."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import litellm
import pytest
from gatehouse.core.call import Attempt
from gatehouse.core.clock import monotonic, new_call_id, now
from gatehouse.core.errors import (
    EngineFailed,
    UpstreamFailed,
    UpstreamRests,
    UpstreamTimedOut,
    UpstreamUnreadable,
)
from gatehouse.gateway.engine_errors import cleaned, cleaned_event, explained
from gatehouse.pipeline.scope import CallScope, ProviderAnswer
from litellm import Router
from litellm.proxy import proxy_server
from litellm.types.router import RouterRateLimitError

GIVEN = {"model": "m", "llm_provider": "openai"}


@pytest.fixture(autouse=True)
def router(monkeypatch: pytest.MonkeyPatch) -> Iterator[Router]:
    monkeypatch.setattr(litellm, "custom_provider_map", [{"provider": "ours", "custom_handler": None}])
    models = [
        {"model_name": name, "litellm_params": {"model": model, "api_key": "k"}, "model_info": {"id": name}}
        for name, model in (("open", "openai/x"), ("own", "ours/x"))
    ]
    router = Router(model_list=models)
    monkeypatch.setattr(proxy_server, "llm_router", router)
    return router


@pytest.fixture
def call() -> CallScope:
    return CallScope(new_call_id(), "/v1/chat/completions", now(), monotonic(), intent=True)


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def tried(call: CallScope, deployment: str, *, sent: bool = True) -> Attempt:
    attempt = Attempt("m", deployment, sent=sent)
    call.sending.attempts.append(attempt)
    return attempt


def connection_error(text: str = "what broke") -> Exception:
    return raised(litellm.APIConnectionError(message=text, **GIVEN))


def test_a_fault_before_anything_was_sent_is_litellms_and_would_come_again(
    call: CallScope, caplog: pytest.LogCaptureFixture
) -> None:
    tried(call, "open", sent=False)
    with caplog.at_level(logging.ERROR):
        failed = explained(connection_error("'int' of margaret@example.com is not iterable"), call)
    assert isinstance(failed, EngineFailed)
    assert failed.headers == {"x-should-retry": "false"}
    assert str(call.call_id) in caplog.text
    assert "APIConnectionError, at test_engine_errors.py:" in caplog.text
    assert "margaret" not in caplog.text + failed.message


def test_a_fault_before_any_attempt_is_litellms_too(call: CallScope) -> None:
    assert isinstance(explained(raised(KeyError("x")), call), EngineFailed)


def test_a_provider_that_cannot_be_reached_may_be_tried_again(call: CallScope) -> None:
    tried(call, "open")
    call.sending.unreachable = True
    failed = explained(connection_error(), call)
    assert isinstance(failed, UpstreamFailed)
    assert failed.headers == {}


def test_an_answer_that_litellm_cannot_read_is_the_providers(call: CallScope) -> None:
    call.sending.answer = ProviderAnswer(tried(call, "open"), None, 200, "application/json")
    assert isinstance(explained(connection_error(), call), UpstreamUnreadable)
    call.sending.answer = None
    odd: Any = raised(ValueError("x"))
    odd.status_code = 200
    assert isinstance(explained(odd, call), UpstreamUnreadable)


def test_a_fault_after_a_request_was_sent_does_not_say_that_nothing_was(call: CallScope) -> None:
    tried(call, "open")
    failed = explained(raised(KeyError("x")), call)
    assert isinstance(failed, UpstreamUnreadable)
    assert failed.headers == {}


def test_a_timeout_is_no_fault_of_the_caller(call: CallScope) -> None:
    tried(call, "open")
    failed = explained(litellm.Timeout(message="late", **GIVEN), call)
    assert isinstance(failed, UpstreamTimedOut)
    assert failed.status == 504


@pytest.mark.parametrize(("rest", "told"), [(0.2, "1"), (10, "10"), (29.5, "30")])
def test_a_model_that_rests_says_when_it_is_tried_again(call: CallScope, rest: float, told: str) -> None:
    failed = explained(RouterRateLimitError("m", rest, False, ["secret-deployment"]), call)
    assert isinstance(failed, UpstreamRests)
    assert (failed.status, failed.headers) == (503, {"retry-after": told})
    assert "secret-deployment" not in failed.message


@pytest.mark.parametrize("status", [400, 404, 429])
def test_what_litellm_refuses_is_said_in_its_words(call: CallScope, status: int) -> None:
    error: Any = raised(ValueError("a guardrail of the operator"))
    error.status_code = status
    assert explained(error, call) is None


def test_an_error_that_a_custom_provider_reports_is_its_own_but_a_broken_one_is_not(call: CallScope) -> None:
    tried(call, "own", sent=False)
    reported: Any = raised(ValueError("busy"))
    reported.status_code = 503
    assert explained(reported, call) is None
    assert isinstance(explained(connection_error("x\nTraceback (most recent call last):\n ..."), call), EngineFailed)


INNER = [
    "litellm.RateLimitError: too fast\n\nLiteLLM: model group 'a' failed with the error above. Configured for: gpt-4o",
    'litellm.RateLimitError: too fast\nTraceback (most recent call last):\n  File "/srv/x.py", line 1, in f',
    "litellm.RateLimitError: too fast. Received Model Group=a\nAvailable Model Group Fallbacks=['gpt-4o']",
]


@pytest.mark.parametrize("message", INNER)
@pytest.mark.parametrize("outer", [{}, {"type": "error"}])
def test_an_error_ends_where_litellms_inner_parts_begin(message: str, outer: dict[str, Any]) -> None:
    body = {**outer, "error": {"message": message, "type": "rate_limit_error", "param": None, "code": "429"}}
    said = json.loads(cleaned(json.dumps(body).encode()))
    assert said["error"].pop("message").rstrip(".") == "litellm.RateLimitError: too fast"
    assert {**said, "error": said["error"]} == {
        **outer,
        "error": {"type": "rate_limit_error", "param": None, "code": "429"},
    }
    event = cleaned_event(b"event: error\ndata: " + json.dumps(body).encode() + b"\n\n")
    assert event.startswith(b"event: error\ndata: {")
    assert event.endswith(b"}\n\n")
    assert b"gpt-4o" not in event
    assert b"/srv" not in event


@pytest.mark.parametrize(
    "body", [b"", b"[1]", b"no json", b'{"detail": "x"}', b'{"error": "x"}', b'{"error": {"message": "Say  less."}}']
)
def test_every_other_body_stays_byte_for_byte(body: bytes) -> None:
    assert cleaned(body) == body


def test_a_message_of_inner_parts_alone_says_at_least_something() -> None:
    said = json.loads(cleaned(b'{"error": {"message": "Traceback (most recent call last): x"}}'))
    assert said == {"error": {"message": "LiteLLM could not make this call."}}
