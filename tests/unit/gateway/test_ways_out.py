"""Whatever library LiteLLM sends with, a governed attempt's request goes to its deployment, or does not leave."""

from __future__ import annotations

import ast
import asyncio
import sys
import threading
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from http.client import HTTPConnection, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import botocore.session
import httpx
import litellm
import openai
import pytest
import requests
import urllib3
from botocore.awsrequest import AWSHTTPSConnection
from botocore.config import Config
from gatehouse.core.call import Attempt, current_attempt
from gatehouse.core.clock import monotonic, new_call_id, now
from gatehouse.core.errors import EgressMismatch, Misconfigured
from gatehouse.gateway import destinations
from gatehouse.gateway.destinations import destination
from gatehouse.gateway.ways_out import Departure, _head, watch_ways_out
from gatehouse.pipeline.scope import CallScope, current_scope
from litellm.litellm_core_utils.logging_worker import LoggingWorker
from litellm.litellm_core_utils.thread_pool_executor import BoundedLoggingThreadPoolExecutor
from litellm.llms.nvidia_riva.audio_transcription.handler import NvidiaRivaAudioTranscription
from litellm.llms.vertex_ai import vertex_ai_non_gemini
from litellm.rust_bridge import runtime
from litellm.rust_bridge.catalog import Route, RouteContext

KEY, OTHER = "key-of-the-deployment-0123", "key-of-nobody-0123456789"
CHAT = "/v1/chat/completions"


class _Handler(BaseHTTPRequestHandler):
    """Answers, or redirects under a path that says so."""

    arrived: ClassVar[list[tuple[int, str]]] = []
    away: ClassVar[str] = ""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.arrived.append((self.server.server_address[1], self.path))
        leads = "away" in self.path
        self.send_response(307 if leads else 200)
        if leads:
            self.send_header("location", f"{self.away}/anywhere")
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[str, str]]:
    """Start the deployment's server, and another."""
    found = [ThreadingHTTPServer(("127.0.0.1", 0), _Handler) for _ in range(2)]
    for server in found:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    own, other = (f"http://127.0.0.1:{server.server_address[1]}" for server in found)
    _Handler.away = other
    yield own, other
    for server in found:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module", autouse=True)
def watched() -> None:
    watch_ways_out()
    watch_ways_out()  # a second time changes nothing


@pytest.fixture
def attempt(servers: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Attempt]:
    known = {"own": destination({"model": "openai/m", "api_base": servers[0], "api_key": KEY})}
    monkeypatch.setattr(destinations.deployed, "all", lambda anew=False: known)
    _Handler.arrived.clear()
    scope = CallScope(new_call_id(), CHAT, now(), monotonic(), intent=True)
    attempt = Attempt("group", "own")
    tokens = current_scope.set(scope), current_attempt.set(attempt)
    yield attempt
    current_scope.reset(tokens[0])
    current_attempt.reset(tokens[1])


def refusal() -> Exception | None:
    scope = current_scope.get()
    assert scope is not None
    return scope.refusal


Send = Callable[[str, dict[str, str]], Any]


def _urllib(url: str, headers: dict[str, str]) -> None:
    # urllib follows no redirect of a POST by itself.
    urllib.request.urlopen(urllib.request.Request(url, b"{}", headers), timeout=10).read()


def _botocore(url: str, headers: dict[str, str]) -> None:
    session = botocore.session.Session()
    session.set_credentials("AKIAEXAMPLE", "an-example-of-a-secret")
    client = session.create_client(
        "sagemaker-runtime",
        region_name="us-east-1",
        endpoint_url=url.removesuffix(CHAT),
        config=Config(retries={"max_attempts": 0}),
    )
    client.meta.events.register("before-send", lambda request, **_: request.headers.update(headers))
    client.invoke_endpoint(EndpointName="away" if "away" in url else "m", Body=b"{}")


def _openai(url: str, headers: dict[str, str]) -> None:
    key = headers["authorization"].removeprefix("Bearer ")
    with openai.OpenAI(base_url=url.removesuffix("/chat/completions"), api_key=key, max_retries=0) as client:
        client.chat.completions.create(model="m", messages=[])


def _run(send: Callable[[str, dict[str, str]], Awaitable[Any]]) -> Send:
    return lambda url, headers: asyncio.run(send(url, headers))  # type: ignore[arg-type]


async def _aiohttp(url: str, headers: dict[str, str]) -> None:
    async with aiohttp.ClientSession() as session, session.post(url, json={}, headers=headers) as answer:
        await answer.read()


def _httpx(url: str, headers: dict[str, str]) -> None:
    with httpx.Client(follow_redirects=True) as client:
        client.post(url, json={}, headers=headers)


SENDS: dict[str, Send] = {
    "httpx": _httpx,
    "aiohttp": _run(_aiohttp),
    "requests": lambda url, headers: requests.post(url, json={}, headers=headers, timeout=10),
    "urllib3": lambda url, headers: urllib3.PoolManager().request("POST", url, body=b"{}", headers=headers),
    "urllib": _urllib,
    "botocore": _botocore,
    "openai": _openai,
}
# How they fail on an answer that is not what their API answers.
UNREAD = (KeyError, openai.APIError, AttributeError, TypeError)
every_way = pytest.mark.parametrize("way", SENDS)
# Amazon's library works out the host, and signs: neither is judged.
every_way_but_amazons = pytest.mark.parametrize("way", [way for way in SENDS if way != "botocore"])


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def stopped(way: str, url: str, key: str) -> bool:
    """Tell whether a request was stopped."""
    before = len(_Handler.arrived)
    with pytest.raises(Exception):  # noqa: B017, PT011  # each library has its own
        SENDS[way](url, bearer(key))
    return isinstance(refusal(), EgressMismatch) and len(_Handler.arrived) == before


@every_way
def test_a_request_to_the_deployment_passes(way: str, servers: tuple[str, str], attempt: Attempt) -> None:
    with suppress(*UNREAD):
        SENDS[way](servers[0] + CHAT, bearer(KEY))
    assert len(_Handler.arrived) == 1
    assert refusal() is None
    assert (attempt.sent, attempt.unanswered) == (True, True)


@every_way_but_amazons
def test_a_request_to_another_host_does_not_leave(way: str, servers: tuple[str, str], attempt: Attempt) -> None:
    assert stopped(way, servers[1] + CHAT, OTHER)
    assert not attempt.sent


@every_way
def test_the_deployments_key_goes_to_no_other_host(way: str, servers: tuple[str, str], attempt: Attempt) -> None:
    assert stopped(way, f"{servers[1]}/anything{CHAT}", KEY)


@every_way_but_amazons
def test_another_key_does_not_go_to_the_deployment(way: str, servers: tuple[str, str], attempt: Attempt) -> None:
    assert stopped(way, servers[0] + CHAT, OTHER)


@every_way
def test_a_redirect_to_another_host_is_not_followed(way: str, servers: tuple[str, str], attempt: Attempt) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011
        SENDS[way](f"{servers[0]}/away{CHAT}", bearer(KEY))
    assert isinstance(refusal(), EgressMismatch)
    assert len(_Handler.arrived) == 1
    assert not attempt.unanswered


def test_a_redirect_that_is_not_followed_gives_its_connection_back(servers: tuple[str, str], attempt: Attempt) -> None:
    with httpx.Client(limits=httpx.Limits(max_connections=1), timeout=httpx.Timeout(10, pool=0.01)) as client:
        for _ in range(2):
            with pytest.raises(EgressMismatch):
                client.post(f"{servers[0]}/away{CHAT}", headers=bearer(KEY))


@every_way
@pytest.mark.parametrize("beside", ["no call", "no attempt", "exempt", "compared above"])
def test_outside_of_an_attempt_nothing_is_compared(
    way: str, beside: str, servers: tuple[str, str], attempt: Attempt
) -> None:
    scope = current_scope.get()
    assert scope is not None
    scope.exempt = beside == "exempt"
    if beside.startswith("no"):
        current_attempt.set(None)
    if beside == "no call":
        current_scope.set(None)
    token = destinations.checked.set(beside == "compared above")
    with suppress(*UNREAD):
        SENDS[way](servers[1] + CHAT, bearer(KEY))
    destinations.checked.reset(token)
    assert len(_Handler.arrived) == 1
    assert scope.refusal is None


@pytest.mark.parametrize("way", ["aiohttp", "requests"])
def test_a_header_may_have_any_letters(way: str, servers: tuple[str, str], attempt: Attempt) -> None:
    SENDS[way](servers[0] + CHAT, bearer(KEY) | {"x-house": "über"})
    assert len(_Handler.arrived) == 1


def test_only_what_is_posted_stays_with_its_provider(servers: tuple[str, str], attempt: Attempt) -> None:
    """A picture that LiteLLM fetches may be on any server."""
    requests.get(f"{servers[0]}/away.png", timeout=10)
    assert len(_Handler.arrived) == 2
    assert refusal() is None


@pytest.mark.parametrize(
    "kind",
    [HTTPSConnection, urllib3.connection.HTTPSConnection, AWSHTTPSConnection],
    ids=["http.client", "urllib3", "botocore"],
)
def test_behind_a_tunnel_its_end_is_what_counts(kind: Any) -> None:
    connection = kind("proxy.example", 3128)
    connection.set_tunnel("own.example", 443)
    connection.putrequest("POST", CHAT)
    connection.putheader("authorization", f"Bearer {KEY}")
    method, url, headers = _head(connection)
    assert (method, url) == ("POST", f"https://own.example:443{CHAT}")
    assert ("authorization", f"Bearer {KEY}") in headers


@pytest.mark.parametrize("path", ["/token", "/oidc/v1/token", "/oauth2/v2.0/token", "/api/public/ingestion"])
def test_token_endpoints_and_loggers_are_left_alone_and_bill_nothing(
    path: str, servers: tuple[str, str], attempt: Attempt
) -> None:
    requests.post(servers[1] + path, data={"client_secret": "x" * 20}, auth=("client", "secret"), timeout=10)
    assert len(_Handler.arrived) == 1
    assert refusal() is None
    assert not attempt.sent


def test_what_finds_no_connection_bills_nothing(attempt: Attempt, servers: tuple[str, str]) -> None:
    known = {"own": destination({"model": "openai/m", "api_base": "http://127.0.0.1:1", "api_key": KEY})}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(destinations.deployed, "all", lambda anew=False: known)
        for way in ("httpx", "requests", "aiohttp"):
            with pytest.raises(Exception):  # noqa: B017, PT011
                SENDS[way](f"http://127.0.0.1:1{CHAT}", bearer(KEY))
    assert refusal() is None
    assert not attempt.unanswered


def test_a_connection_that_is_kept_open_keeps_nothing_of_the_call(servers: tuple[str, str], attempt: Attempt) -> None:
    connection = HTTPConnection(servers[0].removeprefix("http://"))
    for _ in range(2):
        connection.request("POST", CHAT, b"{}", bearer(KEY))
        connection.getresponse().read()
        assert not any(isinstance(each, Departure) for each in vars(connection).values())
    connection.close()


def test_work_in_a_thread_of_a_pool_belongs_to_its_attempt(servers: tuple[str, str], attempt: Attempt) -> None:
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(SENDS["requests"], servers[1] + CHAT, bearer(KEY))
        assert isinstance(sent.exception(), EgressMismatch)
        assert pool.submit(current_attempt.get).result() is attempt
        current_attempt.set(None)
        assert pool.submit(current_attempt.get).result() is None  # by the same thread
    assert _Handler.arrived == []


async def test_what_loggers_send_belongs_to_no_attempt(attempt: Attempt) -> None:
    with BoundedLoggingThreadPoolExecutor(1, 9) as pool:
        assert pool.submit(copy_context().run, current_attempt.get).result() is None
        assert pool.submit(current_attempt.get).result() is None

    async def logs() -> Attempt | None:
        return current_attempt.get()

    task: Any = {"coroutine": logs(), "context": copy_context()}
    assert await LoggingWorker()._create_callback_task(task) is None
    assert current_attempt.get() is attempt


@pytest.mark.parametrize(
    ("owner", "name"),
    [(vertex_ai_non_gemini, "completion"), (NvidiaRivaAudioTranscription, "audio_transcriptions")],
    ids=["Vertex AI", "Riva"],
)
def test_what_goes_out_by_grpc_is_closed_and_says_which_model(owner: Any, name: str, attempt: Attempt) -> None:
    with pytest.raises(Misconfigured, match=r"The model group .*config\.yaml"):
        getattr(owner, name)(model="a-model")
    assert isinstance(refusal(), Misconfigured)


async def test_a_governed_call_takes_python_in_place_of_rust_and_is_refused_where_there_is_none(
    attempt: Attempt,
) -> None:
    class Binding:
        def load(self) -> None:
            raise AssertionError("the Rust code was asked for")

    async def answer() -> str:
        return "from Python"

    chosen: Any = {"binding": Binding(), "native": None}
    context = RouteContext(Route.MESSAGES, provider="anthropic")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LITELLM_RUST", "true")
        assert runtime.run(context, python=lambda: "from Python", **chosen) == "from Python"
        assert await runtime.arun(context, python=answer, **chosen) == "from Python"
        transcription = RouteContext(Route.TRANSCRIPTION, provider="bedrock")
        with pytest.raises(Misconfigured):
            await runtime.arun(transcription, python=runtime.NO_PYTHON, **chosen)
        current_scope.set(None)
        with pytest.raises(AssertionError):
            runtime.run(context, python=lambda: "from Python", **chosen)


# What LiteLLM's code for providers imports: what is compared, here or in `provider_answers`, or stands on what is;
COMPARED = frozenset("httpx aiohttp requests urllib3 boto3 botocore openai google azure databricks".split())
# what is closed;
CLOSED = frozenset("riva vertexai".split())
# what is for routes that callers cannot take, or for the operator's stores;
ELSEWHERE = frozenset("aws_sdk_bedrock_runtime smithy_aws_core smithy_http websockets redis prisma".split())
# what runs models or agents in the process, and works out by itself where from;
IN_PROCESS = frozenset("petals transformers vllm deepagents langchain langchain_core langgraph llm_sandbox".split())
# and what opens no connection.
HARMLESS = frozenset(
    """
    PIL audioread certifi cryptography dateutil fastapi huggingface_hub jwt litellm numpy opentelemetry pydantic regex
    scipy soundfile soxr starlette tiktoken tokenizers typing_extensions yarl
    """.split()
)


def test_every_library_that_code_for_providers_imports_is_known() -> None:
    """A new one may be a new way out: compare it, close it, or say why it is harmless."""
    root = Path(litellm.__file__).parent
    found = {
        name.partition(".")[0]
        for folder in ("llms", "rust_bridge")
        for path in sorted((root / folder).rglob("*.py"))
        for name in _imported(ast.parse(path.read_text()))
    }
    assert found - COMPARED - CLOSED - ELSEWHERE - IN_PROCESS - HARMLESS - sys.stdlib_module_names == set()


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
