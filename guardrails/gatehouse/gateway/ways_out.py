"""Checks what LiteLLM sends through libraries other than its asynchronous HTTP clients, or closes that way.

`provider_answers` checks the asynchronous clients. Here are synchronous httpx, aiohttp, and the users of Python's
`http.client`: requests, urllib3, boto3, google-auth. Promises: a request of a governed attempt goes to the attempt's
deployment, with its credential, also from another thread. What cannot be checked (gRPC, LiteLLM's Rust code) is refused
by name. Requests outside governed calls, and those of the operator's callbacks, are left alone.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final

import aiohttp
import httpx
from litellm.litellm_core_utils.logging_worker import LoggingWorker
from litellm.litellm_core_utils.thread_pool_executor import BoundedLoggingThreadPoolExecutor
from litellm.llms.nvidia_riva.audio_transcription.handler import NvidiaRivaAudioTranscription
from litellm.llms.vertex_ai import vertex_ai_non_gemini
from litellm.rust_bridge import runtime

from gatehouse.core import metrics
from gatehouse.core.call import Attempt, current_attempt
from gatehouse.core.errors import EgressMismatch, Misconfigured
from gatehouse.gateway.destinations import check_destination, check_redirect, checked, log, looks_like_call
from gatehouse.pipeline.scope import CallScope, current_scope

Headers = Iterable[tuple[str, str]]

# The end of the paths of SageMaker's calls, which boto3 sends and whose host is not checked.
_INVOKES: Final = "/invocations"
# Where a connection and an answer keep their departure until the answer's head arrives.
_DEPARTURE: Final = "_gatehouse_departure"


def watch_ways_out() -> None:
    """Check what LiteLLM sends from now on through libraries that `provider_answers` does not check."""
    _replace(httpx.HTTPTransport, "handle_request", _handle_request)
    _replace(aiohttp.ClientRequest, "send", _send)
    _replace(aiohttp.ClientResponse, "start", _start)
    _replace(http.client.HTTPConnection, "endheaders", _endheaders)
    _replace(http.client.HTTPConnection, "getresponse", _getresponse)
    _replace(ThreadPoolExecutor, "submit", _submit)
    _replace(LoggingWorker, "_create_callback_task", _create_callback_task)
    _replace(vertex_ai_non_gemini, "completion", _closed("Vertex AI's own library (gRPC)"))
    _replace(NvidiaRivaAudioTranscription, "audio_transcriptions", _closed("NVIDIA Riva's own library (gRPC)"))
    _replace(runtime, "run", _in_python)
    _replace(runtime, "arun", _in_python)


def _replace(owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
    """Wrap a function, once."""
    found = getattr(owner, name)
    original = getattr(found, "unwatched", found)
    wrapped = wraps(original)(wrap(original))
    wrapped.unwatched = original  # type: ignore[attr-defined]
    setattr(owner, name, wrapped)


@dataclass(slots=True)
class Departure:
    """Describe a checked POST of a governed attempt that may leave.

    Attributes:
        billed: whether an earlier request of the attempt may be billed.
    """

    scope: CallScope
    attempt: Attempt
    request: httpx.Request
    billed: bool

    def leaves(self) -> None:
        """Note that it may be billed from now on. Token endpoints bill nothing."""
        if looks_like_call(self.request) or self.request.url.path.endswith(_INVOKES):
            self.attempt.sent = self.attempt.unanswered = True

    def failed(self) -> None:
        """Note that it did not leave, or that its provider reports a failure."""
        self.attempt.unanswered = self.billed

    def answered(self, status: int, location: str | None) -> None:
        """Check the head of its answer.

        Raises:
            EgressMismatch: the provider redirects the call to another host.
        """
        if status >= 300:
            self.failed()
        headers = {} if location is None else {"location": location}
        check_redirect(self.scope, self.request, httpx.Response(status, headers=headers))


def depart(method: str, url: str, headers: Headers) -> Departure | None:
    """Check a request that is about to leave; return None where there is nothing to note.

    Raises:
        EgressMismatch: it may not go there.
    """
    attempt, scope = current_attempt.get(), current_scope.get()
    if attempt is None or scope is None or scope.exempt or checked.get():
        return None
    encoded = [(name, value.encode("utf-8", "surrogateescape")) for name, value in headers]
    request = httpx.Request(method, url, headers=encoded)  # type: ignore[arg-type]  # one of each is fine
    check_destination(scope, attempt, request)
    return Departure(scope, attempt, request, attempt.unanswered) if method == "POST" else None


@contextmanager
def _closing(response: Any) -> Iterator[None]:
    """Close an answer that is not passed on."""
    try:
        yield
    except EgressMismatch:
        response.close()
        raise


def _handle_request(handle: Callable[..., httpx.Response]) -> Callable[..., httpx.Response]:
    def watching(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        departure = depart(request.method, str(request.url), request.headers.multi_items())
        if departure is None:
            return handle(transport, request)
        departure.leaves()
        try:
            response = handle(transport, request)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            departure.failed()
            raise
        with _closing(response):
            departure.answered(response.status_code, response.headers.get("location"))
        return response

    return watching


def _send(send: Callable[..., Any]) -> Callable[..., Any]:
    """Check at a point where the connection exists. Each hop of a redirect passes here too."""

    async def watching(request: aiohttp.ClientRequest, connection: Any) -> Any:
        departure = depart(request.method, str(request.url), request.headers.items())
        if departure is not None:
            departure.leaves()
        response = await send(request, connection)
        setattr(response, _DEPARTURE, departure)
        return response

    return watching


def _start(start: Callable[..., Any]) -> Callable[..., Any]:
    async def watching(response: aiohttp.ClientResponse, connection: Any) -> Any:
        started = await start(response, connection)
        departure: Departure | None = vars(response).pop(_DEPARTURE, None)
        if departure is not None:
            departure.answered(response.status, response.headers.get("location"))
        return started

    return watching


def _endheaders(endheaders: Callable[..., None]) -> Callable[..., None]:
    """Check at the last point where a request's head is whole, for every user of `http.client`."""

    def watching(connection: Any, message_body: Any = None, *, encode_chunked: bool = False) -> None:
        departure = None if current_attempt.get() is None else depart(*_head(connection))
        setattr(connection, _DEPARTURE, departure)
        if departure is not None:
            departure.leaves()
        try:
            endheaders(connection, message_body, encode_chunked=encode_chunked)
        except Exception:
            if departure is not None and connection.sock is None:
                departure.failed()
            raise

    return watching


def _head(connection: Any) -> tuple[str, str, Headers]:
    """Return the head of a request, which `http.client` keeps in lines until it sends them."""
    first, *lines = [bytes(line).decode("latin-1") for line in connection._buffer]
    method, target = first.split(" ")[:2]
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    if target.startswith(("http://", "https://")):  # the form for a proxy
        return method, target, headers
    # With a proxy's tunnel, its far end counts.
    host, port = connection._tunnel_host or connection.host, connection._tunnel_port or connection.port
    scheme = "https" if connection.default_port == http.client.HTTPS_PORT else "http"
    return method, f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{target}", headers


def _getresponse(getresponse: Callable[..., Any]) -> Callable[..., Any]:
    def watching(connection: Any) -> Any:
        # A connection that stays open keeps nothing of the call.
        departure: Departure | None = vars(connection).pop(_DEPARTURE, None)
        response = getresponse(connection)
        if departure is not None:
            with _closing(response):
                departure.answered(response.status, response.getheader("location"))
        return response

    return watching


def _submit(submit: Callable[..., Any]) -> Callable[..., Any]:
    """Make a pool's thread work for the attempt that asked for it, and a logger's thread for none."""

    def watching(pool: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        attempt = current_attempt.get()
        if attempt is None:
            return submit(pool, fn, *args, **kwargs)
        if isinstance(pool, BoundedLoggingThreadPoolExecutor):
            context = getattr(fn, "__self__", None)
            if isinstance(context, Context):  # a copy made for the logger
                context.run(current_attempt.set, None)
            return submit(pool, fn, *args, **kwargs)
        return submit(pool, _in_attempt, current_scope.get(), attempt, fn, *args, **kwargs)

    return watching


def _in_attempt(scope: CallScope | None, attempt: Attempt, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    tokens = current_scope.set(scope), current_attempt.set(attempt)
    try:
        return fn(*args, **kwargs)
    finally:
        current_attempt.reset(tokens[1])
        current_scope.reset(tokens[0])


def _create_callback_task(create: Callable[..., Any]) -> Callable[..., Any]:
    """Make a logger's task work for no attempt: the operator chose where its requests go."""

    def watching(worker: LoggingWorker, task: Any) -> Any:
        task["context"].run(current_attempt.set, None)
        return create(worker, task)

    return watching


def _closed(way: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        def watching(*args: Any, **kwargs: Any) -> Any:
            _refuse(way)
            return call(*args, **kwargs)

        return watching

    return wrap


def _in_python(run: Callable[..., Any]) -> Callable[..., Any]:
    """Make a governed call use LiteLLM's Python code instead of its Rust code, which may run before an attempt."""

    def watching(context: Any, *, python: Any, **others: Any) -> Any:
        scope = current_scope.get()
        if isinstance(python, runtime.NoPythonImplementation):
            _refuse("LiteLLM's Rust code")
        elif scope is not None and not scope.exempt:
            return python()
        return run(context, python=python, **others)

    return watching


def _refuse(way: str) -> None:
    """Refuse a governed attempt that would use a library which cannot be checked.

    Raises:
        Misconfigured: it would.
    """
    attempt, scope = current_attempt.get(), current_scope.get()
    if attempt is None or scope is None or scope.exempt:
        return
    scope.refusal = Misconfigured(
        f"The model {attempt.group} is reached through {way}, where Gatehouse cannot compare what leaves with what was "
        "admitted, so nothing was sent. Have the operator remove it from config.yaml, or reach it over HTTP."
    )
    metrics.blocks.labels(Misconfigured.code).inc()
    log.error("call %s was stopped: %s", scope.call_id, scope.refusal.message)
    raise scope.refusal
