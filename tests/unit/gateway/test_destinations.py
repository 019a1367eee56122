"""A request to a provider goes to the operator's hosts, each with its own credential; the unknown is not judged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import litellm
import pytest
from gatehouse.core.call import Attempt, Caller, GovernedCall, current_attempt
from gatehouse.core.clock import monotonic, new_call_id, now
from gatehouse.core.errors import EgressMismatch
from gatehouse.gateway import destinations
from gatehouse.gateway.destinations import Destination, destination, leads_away, misdirected
from gatehouse.gateway.provider_answers import watched
from gatehouse.pipeline.scope import CallScope, current_scope
from litellm.types.utils import CredentialItem

ONE, TWO, OTHER = "key-of-one-0123456789", "key-of-two-0123456789", "key-of-nobody-0123456789"
KNOWN = {
    "one": destination({"model": "openai/gpt-4o", "api_base": "https://one.example/v1", "api_key": ONE}),
    "two": destination({"model": "azure/gpt-4o", "api_base": "https://two.example", "api_key": TWO}),
    "home": destination({"model": "openai/gpt-4o", "api_key": "key-of-home-0123456789"}),
    "free": destination({"model": "ollama_chat/llama", "api_base": "http://127.0.0.1:11434"}),
    "cloud": destination({"model": "bedrock/anthropic.claude", "api_key": "key-of-cloud-0123456789"}),
    "token": destination({"model": "azure/gpt-4o", "api_base": "https://token.example"}),
    "ours": destination({"model": "a-plugin/m", "api_key": "key-of-ours-0123456789"}),
}
CHAT = "/v1/chat/completions"


def asked(url: str, method: str = "POST", **headers: str) -> httpx.Request:
    return httpx.Request(method, url, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("chosen", "request_", "wrong"),
    [
        ("one", asked(f"https://one.example{CHAT}", authorization=f"Bearer {ONE}"), None),
        ("one", asked(f"https://one.example:443{CHAT}", authorization=f"bearer  {ONE}"), None),
        ("one", asked("https://one.example/anything", "GET", authorization=f"Bearer {ONE}"), None),
        ("one", asked(f"https://one.example{CHAT}"), None),
        ("one", asked(f"https://evil.example{CHAT}", authorization=f"Bearer {ONE}"), "credential"),
        ("one", asked(f"http://one.example{CHAT}", authorization=f"Bearer {ONE}"), "credential"),
        ("one", asked(f"https://one.example:8443{CHAT}", authorization=f"Bearer {ONE}"), "credential"),
        ("one", asked("https://evil.example/anything", "GET", x_anything=ONE), "credential"),
        ("one", asked(f"https://evil.example/?key={ONE}", "GET"), "credential"),
        ("one", asked(f"https://two.example{CHAT}", api_key=ONE), "credential"),
        ("one", asked(f"https://one.example{CHAT}", authorization=f"Bearer {TWO}"), "credential"),
        ("one", asked(f"https://one.example{CHAT}", authorization=f"Bearer {OTHER}"), "credential"),
        ("one", asked(f"https://one.example{CHAT}", authorization=f"Bearer {ONE}", x_api_key=OTHER), "credential"),
        ("one", asked(f"https://two.example{CHAT}", api_key=TWO), "host"),
        ("one", asked(f"https://evil.example{CHAT}", authorization=f"Bearer {OTHER}"), "host"),
        ("one", asked("https://evil.example/v1/messages", x_api_key=OTHER), "host"),
        # What LiteLLM does beside the call.
        ("one", asked("https://traces.example/api/public/ingestion", authorization="Basic bGFuZ2Z1c2U="), None),
        ("one", asked("https://pictures.example/a.png", "GET"), None),
        ("two", asked("https://two.example/openai/deployments/x/chat/completions?api-version=1", api_key=TWO), None),
        # Without a key of their own, whatever LiteLLM makes of it.
        ("free", asked("http://127.0.0.1:11434/api/chat"), None),
        ("free", asked("http://127.0.0.1:11434/api/chat", authorization="Bearer some-token-of-the-hosts"), None),
        ("token", asked("https://token.example/openai/v1/responses", authorization=f"Bearer {OTHER}"), None),
        # Where the address is not known.
        ("cloud", asked("https://bedrock.us-east-1.amazonaws.com/model/x/invoke", authorization="AWS4-HMAC a=b"), None),
        ("cloud", asked(f"https://somewhere.example{CHAT}", authorization="Bearer key-of-cloud-0123456789"), None),
        ("cloud", asked(f"https://somewhere.example{CHAT}", authorization=f"Bearer {ONE}"), "credential"),
        ("ours", asked(f"https://plugin.example{CHAT}", authorization="Bearer key-of-ours-0123456789"), None),
        (None, asked(f"https://evil.example{CHAT}", authorization=f"Bearer {OTHER}"), "host"),
        # Of a deployment that the operator does not have.
        ("gone", asked(f"https://evil.example{CHAT}", authorization=f"Bearer {ONE}"), "credential"),
        ("gone", asked(f"https://evil.example{CHAT}", authorization=f"Bearer {OTHER}"), "host"),
        ("gone", asked(f"https://one.example{CHAT}", authorization=f"Bearer {ONE}"), "host"),
        ("gone", asked("https://one.example/anything", authorization=f"Bearer {ONE}"), None),
    ],
)
def test_where_a_request_goes(chosen: str | None, request_: httpx.Request, wrong: str | None) -> None:
    assert misdirected(request_, KNOWN, chosen) == wrong


def test_a_key_may_be_of_several_deployments_and_a_host_have_several_keys() -> None:
    known = KNOWN | {"again": destination({"model": "openai/x", "api_base": "https://three.example", "api_key": ONE})}
    for host in ("one", "three"):
        assert misdirected(asked(f"https://{host}.example/x", authorization=f"Bearer {ONE}"), known, "again") is None
    second = destination({"model": "openai/x", "api_base": "https://one.example", "api_key": OTHER})
    known = KNOWN | {"second": second}
    assert misdirected(asked(f"https://one.example{CHAT}", authorization=f"Bearer {OTHER}"), known, "one") is None


@pytest.mark.parametrize(
    ("model", "home"),
    [
        ("openai/gpt-4o", "https://api.openai.com:443"),
        ("anthropic/claude-x", "https://api.anthropic.com:443"),
        ("deepseek/deepseek-chat", "https://api.deepseek.com:443"),
        ("gemini/gemini-2.0-flash", "https://generativelanguage.googleapis.com:443"),
        ("vertex_ai/gemini-pro", None),
        ("azure/gpt-4o", None),
        ("not_a_provider/x", None),
    ],
)
def test_a_providers_own_address_is_known_where_litellm_has_one(
    model: str, home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE", "ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    assert destination({"model": model, "api_key": ONE}).origin == home
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8/v1")
    if model.startswith("openai/"):
        assert destination({"model": model}).origin == "http://127.0.0.1:8"


def test_a_stored_credential_and_headers_of_a_deployment_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"api_key": TWO, "api_base": "https://two.example"}
    stored = CredentialItem(credential_name="stored", credential_values=values, credential_info={})
    monkeypatch.setattr(litellm, "credential_list", [stored])
    found = destination(
        {
            "model": "openai/x",
            "litellm_credential_name": "stored",
            "api_key": None,
            "extra_headers": {"Authorization": f"Bearer {ONE}"},
        }
    )
    assert found == Destination("https://two.example:443", frozenset({ONE, TWO}), complete=True)


def test_a_reference_to_the_environment_stands_for_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    params = {"model": "openai/x", "api_base": "os.environ/HOUSE_BASE", "api_key": "os.environ/HOUSE_KEY"}
    monkeypatch.setenv("HOUSE_KEY", ONE)
    monkeypatch.setenv("HOUSE_BASE", "http://127.0.0.1:8/v1")
    assert destination(params) == Destination("http://127.0.0.1:8", frozenset({ONE}), complete=True)
    monkeypatch.delenv("HOUSE_KEY")
    assert destination(params) == Destination("http://127.0.0.1:8", frozenset(), complete=False)


async def test_a_key_that_changed_unseen_is_looked_up_again_before_a_call_is_stopped(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = KNOWN | {"one": destination({"model": "openai/x", "api_base": "https://one.example", "api_key": OTHER})}
    monkeypatch.setattr(destinations.deployed, "all", lambda anew=False: new if anew else KNOWN)
    assert (await send(Provider(), authorization=f"Bearer {OTHER}")).status_code == 200


@pytest.mark.parametrize(
    ("location", "away"),
    [("https://evil.example/", True), ("//evil.example/v1", True), ("http://one.example/", True), ("/v2", False)],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_a_provider_stays_with_it(status: int, location: str, away: bool) -> None:
    response = httpx.Response(status, headers={"location": location})
    assert leads_away(response, asked(f"https://one.example{CHAT}"), KNOWN) is away
    assert not leads_away(response, asked("https://traces.example/"), KNOWN)
    assert not leads_away(httpx.Response(status), asked(f"https://one.example{CHAT}"), KNOWN)


@pytest.fixture
def attempt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Attempt]:
    monkeypatch.setattr(destinations.deployed, "all", lambda anew=False: KNOWN)
    scope = CallScope(new_call_id(), CHAT, now(), monotonic(), intent=True)
    attempt = Attempt("group", "one")
    scope.sending.attempts.append(attempt)
    tokens = current_scope.set(scope), current_attempt.set(attempt)
    yield attempt
    current_scope.reset(tokens[0])
    current_attempt.reset(tokens[1])


class Provider:
    """Answers, or fails, each time as it is told; counts what reaches it."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.reached = 0

    async def __call__(self, _: Any, request: httpx.Request) -> httpx.Response:
        self.reached += 1
        answer = self._answers.pop(0) if self._answers else 200
        if isinstance(answer, Exception):
            raise answer
        headers = {"location": "https://evil.example/"} if answer in (302, 307) else {}
        return httpx.Response(answer, headers=headers, json={}, request=request)


async def send(provider: Provider, url: str = f"https://one.example{CHAT}", **headers: str) -> httpx.Response:
    return await watched(provider, 1_000_000)(None, asked(url, **headers))


async def test_what_is_misdirected_does_not_leave(attempt: Attempt) -> None:
    provider = Provider()
    with pytest.raises(httpx.TransportError):
        await send(provider, f"https://evil.example{CHAT}", authorization=f"Bearer {ONE}")
    scope = current_scope.get()
    assert scope is not None
    assert isinstance(scope.refusal, EgressMismatch)
    assert (provider.reached, attempt.unanswered) == (0, False)


@pytest.mark.parametrize("status", [302, 307])
async def test_a_redirect_that_leads_away_is_a_failure(attempt: Attempt, status: int) -> None:
    with pytest.raises(httpx.TransportError):
        await send(Provider(status))
    scope = current_scope.get()
    assert scope is not None
    assert isinstance(scope.refusal, EgressMismatch)


async def test_what_is_done_beside_the_call_is_not_judged(attempt: Attempt) -> None:
    provider, token = Provider(), current_attempt.set(None)
    await send(provider, f"https://evil.example{CHAT}", authorization=f"Bearer {ONE}")
    current_attempt.reset(token)
    assert provider.reached == 1


async def test_a_stream_of_text_completions_is_judged_though_it_leaves_late(attempt: Attempt) -> None:
    scope = current_scope.get()
    assert scope is not None
    scope.call = GovernedCall(scope.call_id, now(), "/v1/completions", "atext_completion", "m", True, Caller())
    provider, token = Provider(), current_attempt.set(None)
    with pytest.raises(httpx.RemoteProtocolError):
        await send(provider, "https://evil.example/v1/completions", authorization=f"Bearer {ONE}")
    current_attempt.reset(token)
    assert provider.reached == 0


@pytest.mark.parametrize(
    ("answer", "unanswered"),
    [
        (200, True),
        (500, False),
        (429, False),
        (httpx.ReadTimeout("late"), True),
        (httpx.ReadError("cut"), True),
        (httpx.ConnectError("refused"), False),
        (httpx.ConnectTimeout("nobody"), False),
    ],
)
async def test_what_left_and_did_not_fail_may_be_billed(attempt: Attempt, answer: Any, unanswered: bool) -> None:
    if isinstance(answer, Exception):
        with pytest.raises(type(answer)):
            await send(Provider(answer))
    else:
        await send(Provider(answer))
    assert (attempt.sent, attempt.unanswered) == (True, unanswered)


async def test_a_client_sends_nothing_again_by_itself_unless_its_deployment_says_so(attempt: Attempt) -> None:
    late = httpx.ReadTimeout("late")
    provider = Provider(late, late, 200)
    for _ in range(3):
        with pytest.raises(httpx.ReadTimeout):
            await send(provider)
    assert provider.reached == 1
    attempt.repeats = 1
    with pytest.raises(httpx.ReadTimeout):
        await send(provider)
    with pytest.raises(httpx.ReadTimeout):
        await send(provider)
    assert provider.reached == 2
    await send(provider, f"https://one.example{CHAT}?another")
    assert provider.reached == 3


@pytest.mark.parametrize(("repeats", "count", "told"), [(0, "0", "false"), (1, "0", None), (1, "1", "false")])
async def test_a_client_that_counts_its_attempts_is_told_which_is_the_last(
    attempt: Attempt, repeats: int, count: str, told: str | None
) -> None:
    attempt.repeats = repeats
    assert (await send(Provider(500), x_stainless_retry_count=count)).headers.get("x-should-retry") == told
    assert (await send(Provider(200), x_stainless_retry_count=count)).headers.get("x-should-retry") is None
    assert (await send(Provider(500))).headers.get("x-should-retry") is None
