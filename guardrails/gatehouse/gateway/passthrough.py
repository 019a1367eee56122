"""Gives a caller what the provider itself said, where LiteLLM says it in other words.

LiteLLM leaves out fields of answers, adds its own, and loses the status, code, parameter and headers of errors. Where
the provider speaks the caller's API, its answer goes on as it came: one JSON object, or the events of a stream, each
when LiteLLM has passed on what it made of them. What LiteLLM alone knows is taken from it: the name of the model, and
the ids of stored responses. An error of a provider with another API keeps its facts, in the shape of the caller's API.

Promises: nothing reaches a caller here that the stages after it do not see; no credential of the operator and no host
of another provider stands in an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import httpx
import litellm
import orjson
from litellm.integrations.custom_guardrail import CustomGuardrail
from litellm.integrations.custom_logger import CustomLogger

from gatehouse.core.call import Attempt
from gatehouse.dialects.call_types import EMBEDDING, call_type_of
from gatehouse.dialects.sse import ServerSentEvent, SSEDecoder
from gatehouse.gateway.anthropic_errors import TYPES, type_of
from gatehouse.gateway.destinations import deployed, origin_of, without_secrets
from gatehouse.gateway.engine_errors import cleaned, cleaned_event
from gatehouse.pipeline.response import event_of_error
from gatehouse.pipeline.scope import CallScope, ProviderAnswer
from gatehouse.proxy.configured import always_sends_usage

# The end of a path of each API whose answers are passed on as they are.
_PATHS: Final[Mapping[str, str]] = {
    "acompletion": "/chat/completions",
    "atext_completion": "/completions",
    "anthropic_messages": "/messages",
    "aresponses": "/responses",
    EMBEDDING: "/embeddings",
}
# Providers whose answers have the API's own shape. LiteLLM brings those of others into it.
_NATIVE: Final = frozenset(("openai", "azure", "text-completion-openai", "anthropic"))
# What an answer has from LiteLLM: `data`, because its client may have asked for vectors in another form.
_FROM_LITELLM: Final[Mapping[str, tuple[str, ...]]] = {"aresponses": ("id", "model"), EMBEDDING: ("model", "data")}
_MODEL: Final = ("model",)
# Where events have it.
_INSIDE: Final[Mapping[str, str]] = {"anthropic_messages": "message", "aresponses": "response"}

_KEPT_HEADERS: Final = frozenset(("retry-after", "retry-after-ms", "x-should-retry"))
_KEPT_PREFIXES: Final = ("x-ratelimit-", "anthropic-ratelimit-")
_REQUEST_IDS: Final = ("x-request-id", "request-id")
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]{1,256}")
_MAX_HEADERS: Final = 32
# Longer errors are not read.
MAX_ERROR_BYTES: Final = 65_536
_MAX_MESSAGE_CHARS: Final = 2_000

# An event of LiteLLM's that names the model ends before that, or is too long to wait for.
_MAX_FIRST_BYTES: Final = 1_000_000

_LITELLMS_ERROR: Final = re.compile(rb'(?:event: ?error\r?\n)?data: ?\{"(?:error"|type": ?"error")')
_LITELLMS_LAST: Final = re.compile(rb"^data: ?\[DONE\]", re.MULTILINE)
_PING: Final = re.compile(rb":|event: ?ping")


def note(scope: CallScope, attempt: Attempt, request: httpx.Request, response: httpx.Response) -> ProviderAnswer:
    """Note the head of an answer to a call."""
    noted = ProviderAnswer(
        attempt,
        origin_of(request.url),
        response.status_code,
        _media_type(response.headers.get("content-type", "")),
        kept_headers(response.headers.multi_items(), scope.route),
        own=_speaks_callers_api(scope, attempt, request.url.path) and not _answers_are_changed(),
    )
    scope.sending.answered(noted)
    return noted


def kept_headers(headers: Iterable[tuple[str, str]], route: str) -> tuple[tuple[str, str], ...]:
    """Return the headers of a provider's answer that its caller gets. The request's id has the name of the route."""
    kept: dict[str, str] = {}
    for name, value in headers:
        if not _PRINTABLE.fullmatch(value) or len(kept) == _MAX_HEADERS:
            continue
        if name in _REQUEST_IDS:
            kept[request_id_header(route)] = value
        elif name in _KEPT_HEADERS or name.startswith(_KEPT_PREFIXES):
            kept[name] = value
    return tuple(kept.items())


def request_id_header(route: str) -> str:
    """Return the header in which the clients of a route look for a request's id."""
    return "request-id" if route.startswith("/v1/messages") else "x-request-id"


def _speaks_callers_api(scope: CallScope, attempt: Attempt, path: str) -> bool:
    deployment = deployed.all().get(attempt.deployment or "")
    if deployment is None or deployment.provider not in _NATIVE:
        return False
    return next((api for api, end in _PATHS.items() if path.endswith(end)), None) == call_type_of(scope.route)


# Hooks with which a callback changes answers.
_CHANGE_ANSWERS: Final = (
    "async_post_call_success_hook",
    "async_post_call_streaming_hook",
    "async_post_call_streaming_iterator_hook",
    "async_post_call_success_deployment_hook",
    "async_post_call_streaming_deployment_hook",
)
# LiteLLM's own callbacks: what they change is taken from its answer, or is nothing.
_LITELLMS_OWN: Final = ("litellm.proxy.hooks.", "litellm.integrations.prometheus", "litellm.integrations.otel")


def _answers_are_changed() -> bool:
    """Tell whether a callback of the operator may change answers, which then are LiteLLM's."""
    return any(map(_changes_answers, litellm.callbacks))


def _changes_answers(callback: object) -> bool:
    kind = type(callback)
    if not isinstance(callback, CustomLogger) or kind.__module__.startswith(_LITELLMS_OWN):
        return False
    if isinstance(callback, CustomGuardrail):
        return True
    return any(getattr(kind, name, None) is not getattr(CustomLogger, name, None) for name in _CHANGE_ANSWERS)


@dataclass(frozen=True, slots=True)
class Reply:
    """Hold what a caller gets instead of LiteLLM's error."""

    status: int
    headers: tuple[tuple[str, str], ...]
    kind: str
    body: bytes


class Passthrough:
    """Chooses, for one call, between the provider's own answer and LiteLLM's."""

    def __init__(self, call: CallScope) -> None:
        self._call = call
        self._call_type = call_type_of(call.route) or ""
        self._stream: _Stream | None = None

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Return the provider's headers of an answer that succeeded."""
        answer = self._call.sending.answer
        return () if answer is None else answer.headers

    def takes(self, kind: str) -> bool:
        """Tell whether the provider's answer may go in place of LiteLLM's, which has this media type."""
        answer = self._call.sending.answer
        return answer is not None and answer.own and not answer.is_error and answer.kind == kind

    def whole(self, litellms: bytes) -> bytes:
        """Return the answer's JSON."""
        answer = self._call.sending.answer
        if answer is None or not self.takes("application/json"):
            return litellms
        own, other = _decoded(answer.body), _decoded(litellms)
        if not isinstance(own, dict) or not isinstance(other, dict):
            return litellms
        names = _FROM_LITELLM.get(self._call_type, _MODEL)
        return orjson.dumps(own | {name: other[name] for name in names if name in own and name in other})

    def piece(self, litellms: bytes, *, last: bool) -> bytes:
        """Return what of a stream goes on in place of a piece of LiteLLM's."""
        answer = self._call.sending.answer
        if self._stream is None and answer is not None and self.takes("text/event-stream"):
            asks_usage = self._call.incoming.asks_usage or always_sends_usage()
            self._stream = _Stream(answer, self._call_type, asks_usage=asks_usage)
        if self._stream is not None and self._stream.answer is answer:
            return self._stream.take(litellms, last=last)
        # LiteLLM goes on with another attempt's answer, or the provider has another API.
        if not _LITELLMS_ERROR.match(litellms):
            return litellms
        error = self._call.sending.error
        if error is None:
            return cleaned_event(litellms)
        return without_secrets(event_of_error(self._call_type, self._error(error)), error.origin)

    def error(self, litellms: Reply) -> Reply:
        """Return the provider's error; LiteLLM's where no provider said one."""
        error = self._call.sending.error
        if error is None:
            return replace(litellms, body=cleaned(litellms.body))
        if error.failed is not None and error.own and error.kind == "text/event-stream":
            stream = _Stream(error, self._call_type, asks_usage=True)
            return Reply(error.status, error.headers, error.kind, stream.rest())
        body = without_secrets(self._body(error), error.origin)
        return Reply(_status(error), error.headers, "application/json", body)

    def _body(self, error: ProviderAnswer) -> bytes:
        if error.own and isinstance(_decoded(error.body), dict):
            return bytes(error.body)
        return orjson.dumps(self._error(error))

    def _error(self, error: ProviderAnswer) -> dict[str, Any]:
        """Return the facts of an error in the shape of OpenAI, or of Anthropic on its routes."""
        facts = _facts_of(error)
        message = facts.get("message")
        if not isinstance(message, str):
            message = _text(bytes(error.body)) or f"The provider answered with status {error.status}."
        kind = facts.get("type")
        if self._call_type == "anthropic_messages":
            request_id = dict(error.headers).get(request_id_header(self._call.route))
            return {
                "type": "error",
                "error": {"type": kind if kind in _ANTHROPICS_TYPES else type_of(_status(error)), "message": message},
                "request_id": request_id or str(self._call.call_id),
            }
        return {
            "error": {
                "message": message,
                "type": kind if isinstance(kind, str) else "api_error",
                "param": _plain(facts.get("param")),
                "code": _plain(facts.get("code")),
            }
        }


class _Stream:
    """Passes the events of a provider's stream on, with LiteLLM's name of the model."""

    def __init__(self, answer: ProviderAnswer, call_type: str, *, asks_usage: bool) -> None:
        self.answer = answer
        self._call_type = call_type
        self._inside = _INSIDE.get(call_type)
        self._drops_usage = call_type in ("acompletion", "atext_completion") and not asks_usage
        self._own = SSEDecoder()
        self._litellms = SSEDecoder()
        self._learned_from = 0
        self._names: dict[str, Any] | None = None
        self._is_over = False
        self._litellm_is_over = False

    def take(self, litellms: bytes, *, last: bool) -> bytes:
        """Return the events that came since, when LiteLLM passes a piece on."""
        self._litellm_is_over = self._litellm_is_over or _LITELLMS_LAST.search(litellms) is not None
        failed = self.answer.failed is None and not self._is_over and _LITELLMS_ERROR.match(litellms) is not None
        if not self.answer.body and not last and (_PING.match(litellms) or not litellms):
            return litellms  # a sign of life
        if self._names is None:
            self._names = self._learn(litellms)
            if self._names is None and not (last or failed or self.answer.failed):
                return b""
        said = self.rest() if last else self._drained()
        if failed:
            return said + cleaned_event(litellms)
        is_unsaid = self._litellm_is_over and not self._is_over and self._call_type != "aresponses"
        return said + b"data: [DONE]\n\n" if last and is_unsaid and self.answer.failed is None else said

    def rest(self) -> bytes:
        """Return all that came, when no more will."""
        return self._drained() + b"".join(map(self._event, self._own.rest()))

    def _drained(self) -> bytes:
        came = bytes(self.answer.body)
        self.answer.body.clear()
        return b"".join(map(self._event, self._own.decode(came)))

    def _learn(self, litellms: bytes) -> dict[str, Any] | None:
        """Return what an event of LiteLLM's says that is not the provider's to say; None until there is one."""
        self._learned_from += len(litellms)
        if self._learned_from > _MAX_FIRST_BYTES:
            return {}
        for each in self._litellms.decode(litellms):
            said = _decoded(each.data or b"")
            if not isinstance(said, dict) or "error" in said:
                continue
            inner = said if self._inside is None else said.get(self._inside)
            if not isinstance(inner, dict):
                continue
            wanted = _FROM_LITELLM.get(self._call_type, _MODEL)
            # LiteLLM puts its name of a model beside a response.
            found = {name: value for name in wanted if isinstance(value := inner.get(name), str)}
            return found | ({"model": said["model"]} if isinstance(said.get("model"), str) else {})
        return None

    def _event(self, each: ServerSentEvent) -> bytes:
        if each.data is None or not each.data.strip():
            return each.raw
        if each.data.strip() == b"[DONE]":
            self._is_over = True
            return each.raw
        said = _decoded(each.data)
        if not isinstance(said, dict):
            return each.raw
        if self.answer.failed is not None and said == self.answer.failed:
            return without_secrets(each.raw, self.answer.origin)
        if self._drops_usage and not said.get("choices", True) and said.get("usage"):
            return b""  # LiteLLM asked for it
        changed = self._named(said)
        if self._drops_usage and "usage" in said and said["usage"] is None:
            del said["usage"]
            changed = True
        return each.with_data(orjson.dumps(said)) if changed else each.raw

    def _named(self, said: dict[str, Any]) -> bool:
        inner = said if self._inside is None else said.get(self._inside)
        if not isinstance(inner, dict):
            return False
        names = {name: value for name, value in (self._names or {}).items() if inner.get(name, value) != value}
        inner.update(names)
        return bool(names)


# The status that belongs to what a stream says of its failure.
_STATUSES: Final = {kind: status for status, kind in TYPES.items()} | {"invalid_request_error": 400, "api_error": 500}
_ANTHROPICS_TYPES: Final = frozenset(_STATUSES)


def _status(error: ProviderAnswer) -> int:
    return error.status if error.is_error else _STATUSES.get(str(_facts_of(error).get("type")), 502)


def _facts_of(error: ProviderAnswer) -> Mapping[str, Any]:
    said = error.failed or _decoded(error.body)
    return _facts(said[0] if isinstance(said, list) and said else said)


def _facts(said: Any) -> Mapping[str, Any]:
    """Return the part of an error that says what it is, in the shapes of OpenAI, Anthropic, Google and others."""
    if not isinstance(said, dict):
        return {}
    response = said.get("response")
    outer = response if isinstance(response, dict) else said
    inner = outer.get("error")
    return inner if isinstance(inner, dict) else {**outer, "message": outer.get("message", inner)}


def _plain(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _text(body: bytes) -> str:
    """Return an error that is no JSON as a message; a page for people is none."""
    text = body.decode("utf-8", "replace").strip()
    return "" if text.startswith(("<", "{", "[")) else text[:_MAX_MESSAGE_CHARS]


def _decoded(body: bytes | bytearray) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        return None


def _media_type(value: str) -> str:
    return value.partition(";")[0].strip().lower()
