"""One call is sent as often as is configured, and what was sent and not answered is paid for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest
from gatehouse.capsule.document import ContentMode
from gatehouse.core.call import Attempt, Outcome, Status, current_attempt
from gatehouse.core.clock import monotonic, new_call_id, now
from gatehouse.core.errors import UpstreamFailed
from gatehouse.gateway import hooks
from gatehouse.ledger.recorder import Recorder
from gatehouse.pipeline import admission
from gatehouse.pipeline.retention import Retention
from gatehouse.pipeline.scope import CallScope, EngineNotes, LetThrough
from gatehouse.pipeline.settlement import CallSettlement
from gatehouse.policy.limits import Estimate
from gatehouse.proxy.configured import bound_stored, max_attempts, retries_asked
from litellm import Router
from litellm.proxy import proxy_server

from tests.support.masking import KEYS


def model(name: str, **params: Any) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": {"model": "openai/x", "api_key": "k", **params}}


MODELS = [
    model("plain"),
    model("own", num_retries=4),
    model("own"),
    model("ordered", order=1),
    model("ordered", order=2),
    model("insists", max_retries=2),
]


@pytest.fixture(autouse=True)
def router(monkeypatch: pytest.MonkeyPatch) -> Router:
    router = Router(model_list=MODELS, num_retries=2)
    monkeypatch.setattr(proxy_server, "llm_router", router)
    return router


@pytest.mark.parametrize(
    ("group", "retries", "attempts"),
    [
        ("plain", None, 3),
        ("plain", 0, 1),
        ("plain", 1, 2),
        ("own", None, 5),
        ("own", 1, 2),
        ("ordered", None, 6),
        ("ordered", 0, 2),
        ("nobody's", None, 3),
    ],
)
def test_a_group_is_sent_a_call_as_often_as_is_configured(group: str, retries: int | None, attempts: int) -> None:
    assert max_attempts(group, retries) == attempts


def test_a_policy_of_retries_counts_unless_a_caller_wants_none(monkeypatch: pytest.MonkeyPatch) -> None:
    policies = {"plain": {"RateLimitErrorRetries": 3, "TimeoutErrorRetries": None}}
    router = Router(model_list=MODELS, num_retries=1, model_group_retry_policy=policies)
    monkeypatch.setattr(proxy_server, "llm_router", router)
    assert [max_attempts("plain", retries) for retries in (None, 0, 1)] == [4, 1, 4]


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ({}, None),
        ({"num_retries": 0}, 0),
        ({"num_retries": 1}, 1),
        ({"router_settings_override": {"num_retries": 1}}, 1),
        ({"router_settings_override": {"retry_policy": {"TimeoutErrorRetries": 2}}}, 2),
        ({"num_retries": 1, "router_settings_override": {"retry_policy": {"TimeoutErrorRetries": 2}}}, 2),
        ({"num_retries": 0, "router_settings_override": {"retry_policy": {"TimeoutErrorRetries": 2}}}, 0),
    ],
)
def test_the_retries_that_are_asked_for(body: dict[str, Any], asked: int | None) -> None:
    assert retries_asked(body) == asked


def test_what_is_stored_with_a_key_is_lowered_to_what_is_configured() -> None:
    policy = {"plain": {"TimeoutErrorRetries": 9, "RateLimitErrorRetries": 1, "BadRequestErrorRetries": None}}
    stored = {"num_retries": 9, "model_group_retry_policy": policy, "timeout": 900}
    bound_stored(stored)
    lowered = {"plain": {"TimeoutErrorRetries": 2, "RateLimitErrorRetries": 1, "BadRequestErrorRetries": None}}
    assert stored == {"num_retries": 2, "model_group_retry_policy": lowered, "timeout": 900}
    bound_stored(None)


@pytest.fixture
def scope() -> Iterator[CallScope]:
    token = current_attempt.set(None)
    yield CallScope(new_call_id(), "/v1/messages", now(), monotonic(), intent=True)
    current_attempt.reset(token)


def passes(scope: CallScope, call_type: str = "acompletion", group: str = "plain", **info: Any) -> None:
    """Call LiteLLM's hook before it sends."""
    router = proxy_server.llm_router
    chosen = next(each["model_info"]["id"] for each in router.model_list if each["model_name"] == group)
    kwargs = {"metadata": {"model_group": group}, "model_info": {"id": chosen, **info}}
    hooks._begin_attempt(scope, call_type, kwargs)


def test_each_group_has_its_attempts_and_no_more(scope: CallScope) -> None:
    for group in ("plain", "own"):
        for _ in range(max_attempts(group, None)):
            passes(scope, group=group)
        with pytest.raises(UpstreamFailed):
            passes(scope, group=group)
    assert len(scope.sending.attempts) == 8


def test_one_attempt_may_be_said_in_several_apis_words(scope: CallScope) -> None:
    scope.engine = EngineNotes(retries=0)
    for call_type in ("anthropic_messages", "acompletion", "aresponses"):
        passes(scope, call_type)
    assert len(scope.sending.attempts) == 1
    with pytest.raises(UpstreamFailed):
        passes(scope, "anthropic_messages")


def test_what_comes_after_something_was_sent_is_another_attempt(scope: CallScope) -> None:
    scope.engine = EngineNotes(retries=0)
    passes(scope, "anthropic_messages")
    scope.sending.attempts[0].sent = True
    with pytest.raises(UpstreamFailed):
        passes(scope, "acompletion")


def test_a_deployment_says_how_often_its_client_repeats(scope: CallScope) -> None:
    passes(scope, group="insists")
    passes(scope, group="plain")
    assert [each.repeats for each in scope.sending.attempts] == [2, 0]


def settled(scope: CallScope, outcome: Outcome | None) -> Outcome:
    """Return how the call is settled."""
    ends = CallSettlement(MagicMock(Recorder), Retention(ContentMode.HASH, KEYS), by_team=False)
    seen: list[Outcome] = []
    ends.settle = lambda _, outcome: seen.append(outcome)  # type: ignore[method-assign]
    scope.ending.outcome = outcome
    ends.conclude(scope)
    return seen[0]


FAILED = Outcome(Status.FAILURE, http_status=408)


@pytest.mark.parametrize(
    ("unanswered", "outcome", "usd"),
    [
        ([], FAILED, None),
        ([False, False], FAILED, None),
        ([True], FAILED, 0.25),
        ([True, False, True], FAILED, 0.5),
        ([True], None, 0.25),
        ([True], Outcome(Status.SUCCESS, http_status=200, cost_usd=1.0), 1.0),
        ([True, True], Outcome(Status.SUCCESS, http_status=200, cost_usd=1.0), 1.25),
        ([False, True], Outcome(Status.SUCCESS, http_status=200, cost_usd=1.0), 1.0),
        ([], Outcome(Status.SUCCESS, http_status=200, cost_usd=1.0, cache_hit=True), 1.0),
    ],
)
def test_what_was_not_answered_costs_its_input(
    scope: CallScope, unanswered: list[bool], outcome: Outcome | None, usd: float | None
) -> None:
    charged: list[float] = []
    scope.let_through, scope.engine = LetThrough(input_usd=0.25), EngineNotes(charge=charged.append)
    scope.sending.attempts = [Attempt("plain", unanswered=each) for each in unanswered]
    assert settled(scope, outcome).cost_usd == usd
    # LiteLLM counts what was answered.
    assert sum(charged) == (usd or 0.0) - ((outcome.cost_usd if outcome else None) or 0.0)


def test_what_has_no_price_costs_nothing(scope: CallScope) -> None:
    scope.sending.attempts = [Attempt("plain", unanswered=True)]
    assert settled(scope, FAILED).cost_usd is None


@pytest.mark.parametrize(
    ("usd", "outside", "input_usd"), [(1.0, 0.001, 0.75), (1.0, None, 1.0), (None, None, None), (0.1, 0.001, 0.0)]
)
def test_what_an_attempt_costs_without_an_answer(
    usd: float | None, outside: float | None, input_usd: float | None
) -> None:
    assert admission.input_usd(Estimate("plain", 10, 250, usd, 0.1, outside, "config")) == input_usd
