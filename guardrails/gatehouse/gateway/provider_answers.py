"""Checks providers' answers before LiteLLM reads them: their size, and whether they came to their end.

LiteLLM reads an answer whole, whatever its size, and adds a well-formed end to a stream that has none. So each byte of
an answer to a governed call passes here first, in the transports of LiteLLM's HTTP clients. A size limit is enforced,
and a stream that stops early is a failure: for LiteLLM, which may then try another model, and in
`CallScope.sending` for the caller and the record, because LiteLLM swallows some of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import aiohttp
import httpx
from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport

from gatehouse.core.call import Attempt, current_attempt
from gatehouse.core.errors import AnswerTooLarge, EgressMismatch, ProviderFailed, UpstreamCutOff, UpstreamUnreadable
from gatehouse.dialects.sse import EventTooLarge, SSEDecoder
from gatehouse.gateway.destinations import check_destination, check_redirect, checked, looks_like_call
from gatehouse.gateway.engine_errors import UNREADABLE
from gatehouse.gateway.passthrough import MAX_ERROR_BYTES, note
from gatehouse.pipeline.scope import CallScope, ProviderAnswer, current_scope

Handle = Callable[[Any, httpx.Request], Awaitable[httpx.Response]]

_CUT_OFF: Final = "The provider's answer stopped before its end. Try again."
_TOO_LARGE: Final = (
    "The provider's answer is larger than {} bytes. Ask for a shorter one, or have the operator raise "
    "GATEHOUSE_MAX_ANSWER_BYTES."
)
_EVENT_TOO_LARGE: Final = "An event of the provider's stream does not end. Tell the operator."

# Call types without a size limit, because their answers are passed on as they come.
_STREAMS: Final = (
    "text/event-stream",
    "application/x-ndjson",
    "application/stream+json",
    "application/vnd.amazon.eventstream",
)
# Paths of the APIs that mark the end of their streams. In a JSON text, a string's quotes are escaped.
_PATHS: Final = ("/chat/completions", "/completions", "/responses", "/messages")
_STORED: Final = re.compile(r"/responses/[^/]+\Z")
_ASKS_FOR_STREAM: Final = re.compile(rb'"stream"\s*:\s*true')
_LAST: Final = frozenset({"message_stop", "response.completed", "response.incomplete"})
_FAILED: Final = frozenset({"response.failed", "error"})

# At most one encoding, because content packed twice may be a million times as large.
_ENCODINGS: Final = ("", "identity", "gzip", "deflate")


def watch_answers(max_bytes: int) -> None:
    """Check all of the providers' answers from now on."""
    for transport in (LiteLLMAiohttpTransport, httpx.AsyncHTTPTransport):
        handle = transport.handle_async_request
        wrapped = watched(getattr(handle, "unwatched", handle), max_bytes)
        transport.handle_async_request = wrapped  # type: ignore[method-assign]


def watched(handle: Handle, max_bytes: int) -> Handle:
    """Check what this transport's method returns for governed calls."""

    async def watching(transport: Any, request: httpx.Request) -> httpx.Response:
        scope = current_scope.get()
        if scope is None or scope.exempt or not scope.intent:
            return await handle(transport, request)
        _ask_again(scope, request)
        request.headers["accept-encoding"] = "gzip, deflate"
        response = await _sent(scope, request, lambda: handle(transport, request))
        noted: ProviderAnswer | None = response.extensions.pop(_NOTED, None)
        try:
            stream = _Answer(scope, request, response, max_bytes, noted)
        except httpx.TransportError:
            await response.aclose()
            raise
        headers = response.headers.copy()
        if headers.pop("content-encoding", None):
            headers.pop("content-length", None)
        return httpx.Response(
            response.status_code, headers=headers, stream=stream, request=request, extensions=response.extensions
        )

    watching.unwatched = handle  # type: ignore[attr-defined]
    return watching


# OpenAI's clients number their attempts, and obey this header of an answer.
_COUNT: Final = "x-stainless-retry-count"
_SHOULD_RETRY: Final = "x-should-retry"
# Where a response keeps what was noted of it, until its body is read.
_NOTED: Final = "gatehouse_answer"


async def _sent(
    scope: CallScope, request: httpx.Request, send: Callable[[], Awaitable[httpx.Response]]
) -> httpx.Response:
    """Send a request to a permitted host, as often as it may be sent.

    Raises:
        httpx.RemoteProtocolError: the host or the credential is not the operator's, so it is not sent.
        httpx.TransportError: it failed, or failed before and may not be sent again.
    """
    attempt = current_attempt.get() or _not_yet_sent(scope, request)
    if attempt is None:  # a request that LiteLLM makes beside the call
        return await send()
    try:
        check_destination(scope, attempt, request)
    except EgressMismatch as error:
        raise httpx.RemoteProtocolError(error.message, request=request) from error
    token = checked.set(True)
    try:
        return await _sent_once(scope, attempt, request, send)
    finally:
        checked.reset(token)


def _not_yet_sent(scope: CallScope, request: httpx.Request) -> Attempt | None:
    """Return the attempt of a stream of text completions, which LiteLLM sends only when the answer is read.

    That is in another context, in which no attempt is under way.
    """
    is_text_completion = scope.call is not None and scope.call.call_type == "atext_completion"
    path, attempts = request.url.path, scope.sending.attempts
    if not is_text_completion or not path.endswith("/completions") or path.endswith("/chat/completions"):
        return None
    return attempts[-1] if attempts and not attempts[-1].sent else None


async def _sent_once(
    scope: CallScope, attempt: Attempt, request: httpx.Request, send: Callable[[], Awaitable[httpx.Response]]
) -> httpx.Response:
    if request.method != "POST":
        return await send()
    key = _key(request)
    _check_repeated(attempt, key)
    billed, attempt.sent, attempt.unanswered = attempt.unanswered, True, True
    is_call = looks_like_call(request)
    if is_call:
        scope.sending.begins(attempt)
    try:
        response = await send()
    except Exception as error:
        scope.sending.unreachable = True
        if _never_left(error):
            attempt.unanswered = billed
        else:
            attempt.failed[key] = error
        raise
    if response.status_code >= 300:
        attempt.unanswered = billed
    if is_call:
        response.extensions[_NOTED] = note(scope, attempt, request, response)
    try:
        check_redirect(scope, request, response)
    except EgressMismatch as error:
        await response.aclose()
        raise httpx.RemoteProtocolError(error.message, request=request) from error
    if response.is_error and (count := request.headers.get(_COUNT, "")).isdecimal() and int(count) >= attempt.repeats:
        response.headers[_SHOULD_RETRY] = "false"
    return response


def _key(request: httpx.Request) -> object:
    """Return what tells a repeated request from another one."""
    try:
        return str(request.url), request.content
    except httpx.RequestNotRead:
        return str(request.url), None


def _check_repeated(attempt: Attempt, key: object) -> None:
    """Make a client that repeats a request by itself fail again, unless its deployment allows repeats.

    Raises:
        Exception: the earlier failure.
    """
    # Compute the key only if there is a failure, because that reads the whole request.
    failed = attempt.failed.get(key) if attempt.failed else None
    if failed is None:
        return
    if attempt.repeated >= attempt.repeats:
        raise failed
    attempt.repeated += 1


def _note_failed(request: httpx.Request, error: Exception) -> None:
    """Note that an answer broke off, so that its request is not repeated unasked."""
    attempt = current_attempt.get()
    if attempt is not None:
        attempt.failed[_key(request)] = error


def _never_left(error: Exception) -> bool:
    """Tell whether an error means that nothing was sent because there was no connection."""
    if not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return False
    # httpx's aiohttp transport reports broken connections the same way.
    cause = error.__cause__
    return not isinstance(cause, aiohttp.ClientOSError) or isinstance(cause, aiohttp.ClientConnectorError)


def _ask_again(scope: CallScope, request: httpx.Request) -> None:
    """Forget the failure of an attempt that a client of LiteLLM now repeats by itself.

    Raises:
        httpx.RemoteProtocolError: the answer would be too large again.
    """
    failed = scope.sending.provider_failed
    if failed is None or failed.url != str(request.url):
        return
    if isinstance(failed, AnswerTooLarge):
        raise httpx.RemoteProtocolError(failed.message, request=request)
    scope.sending.provider_failed = None


class _Answer(httpx.AsyncByteStream):
    """Read the body of one answer, unpacked.

    Raises:
        httpx.RemoteProtocolError: it may not be read, or not any further.
    """

    def __init__(
        self,
        scope: CallScope,
        request: httpx.Request,
        response: httpx.Response,
        max_bytes: int,
        noted: ProviderAnswer | None,
    ) -> None:
        self._scope = scope
        self._noted = noted
        self._request = request
        self._response = response
        self._max_bytes = max_bytes
        self._size = 0
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        wants_stream = scope.call is not None and scope.call.stream and response.is_success
        self._bounded = not (wants_stream and kind in _STREAMS)
        self._must_come = response.is_success and _asks_for_answer(request)
        # Where the stream must mark its end, and none of its events may be too large.
        self._must_end = wants_stream and _asks_for_stream(request)
        self._events = _Events() if self._must_end or (wants_stream and kind == "text/event-stream") else None
        if response.headers.get("content-encoding", "").strip().lower() not in _ENCODINGS:
            raise self._fail(UpstreamUnreadable, UNREADABLE)
        length = response.headers.get("content-length", "")
        if self._bounded and length.isdecimal() and int(length) > max_bytes:
            raise self._fail(AnswerTooLarge, _TOO_LARGE.format(max_bytes))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.aiter_bytes():
                self._look_at(chunk)
                yield chunk
        except EventTooLarge:
            raise self._fail(AnswerTooLarge, _EVENT_TOO_LARGE) from None
        except httpx.HTTPError as error:
            _note_failed(self._request, error)
            # LiteLLM has an error of its own for a timeout, and swallows it only in some streams.
            late = self._events is None and isinstance(error, httpx.TimeoutException)
            if self._must_come and not late and self._scope.sending.provider_failed is None:
                self._judge()
            raise
        if self._must_end and (failed := self._judge()) is not None:
            raise failed

    def _look_at(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._bounded and self._size > self._max_bytes:
            raise self._fail(AnswerTooLarge, _TOO_LARGE.format(self._max_bytes))
        if self._events is not None:
            self._events.push(chunk)
        if self._noted is not None:
            self._note(self._noted, chunk)

    def _note(self, noted: ProviderAnswer, chunk: bytes) -> None:
        """Keep what the caller may get as it came."""
        if noted.is_error:
            noted.body += chunk[: MAX_ERROR_BYTES - len(noted.body)]
        elif noted.own:
            noted.body += chunk
        if self._events is not None and self._events.failed is not None and noted.failed is None:
            noted.failed = self._events.failed
            self._scope.sending.answered(noted)

    def _judge(self) -> httpx.RemoteProtocolError | None:
        """Note an answer that has ended without coming to its end."""
        if self._events is None:
            return self._fail(UpstreamCutOff, _CUT_OFF)
        self._events.close()
        if self._events.complete:
            return None
        if self._events.readable or self._size == 0:
            return self._fail(UpstreamCutOff, _CUT_OFF)
        return self._fail(UpstreamUnreadable, UNREADABLE)

    def _fail(self, kind: type[ProviderFailed], message: str) -> httpx.RemoteProtocolError:
        self._scope.sending.provider_failed = kind(message, str(self._request.url))
        error = httpx.RemoteProtocolError(message, request=self._request)
        _note_failed(self._request, error)
        return error

    async def aclose(self) -> None:
        await self._response.aclose()


class _Events:
    """Read the events of a stream of any API, and whether they mark its end.

    Attributes:
        readable: an event was JSON.
        failed: the event that says that the provider failed.
    """

    def __init__(self) -> None:
        self.readable = False
        self.failed: dict[str, Any] | None = None
        self._stream = SSEDecoder()
        self._over = False
        self._begun: set[object] = set()  # of choices, as there may be several
        self._finished: set[object] = set()

    @property
    def complete(self) -> bool:
        return self._over or (bool(self._finished) and self._begun <= self._finished)

    def push(self, chunk: bytes) -> None:
        for event in self._stream.decode(chunk):
            self._see(event.data)

    def close(self) -> None:
        for event in self._stream.rest():
            self._see(event.data)

    def _see(self, data: bytes | None) -> None:
        if data is None or self._over:
            return
        if data.strip() == b"[DONE]":
            self._over = True
            return
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            return
        if not isinstance(event, dict):
            return
        self.readable = True
        delta = event.get("delta")
        stopped = isinstance(delta, dict) and event.get("type") == "message_delta" and delta.get("stop_reason")
        if event.get("error") or event.get("type") in _FAILED:
            self.failed = event
        if self.failed or stopped or event.get("type") in _LAST:
            self._over = True
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                (self._finished if choice.get("finish_reason") else self._begun).add(str(choice.get("index")))


def _asks_for_answer(request: httpx.Request) -> bool:
    if request.method == "GET":
        return _STORED.search(request.url.path) is not None
    return request.method == "POST" and request.url.path.endswith(_PATHS)


def _asks_for_stream(request: httpx.Request) -> bool:
    if request.method == "GET":  # a stored response
        return bool(request.url.params.get("stream") == "true")
    try:
        return _asks_for_answer(request) and _ASKS_FOR_STREAM.search(request.content) is not None
    except httpx.RequestNotRead:
        return False
