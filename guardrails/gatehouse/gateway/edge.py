"""Takes a model call in: checks its headers, its body and the fields in both before LiteLLM sees any of them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import orjson
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from gatehouse.core.errors import GovernanceError, InvalidRequest, ModelNotFound
from gatehouse.core.http import Message, Receive, Scope
from gatehouse.dialects import names_of
from gatehouse.dialects.call_types import EMBEDDING, TRANSCRIPTION, call_type_of
from gatehouse.dialects.caller_fields import CallerBounds, EngineFields, caller_request
from gatehouse.dialects.caller_headers import (
    CREDENTIALS,
    OURS,
    ConfiguredHeaders,
    Headers,
    names_in_headers,
    passed_on,
    renamed_headers,
)
from gatehouse.dialects.parts import plain
from gatehouse.dialects.stored_responses import StoredResponse, parameters
from gatehouse.dialects.token_arrays import TextOf, with_texts
from gatehouse.gateway.body_shares import Share
from gatehouse.gateway.request_body import BodyReader, json_object
from gatehouse.gateway.routes import model_in
from gatehouse.guards.offload import OFFLOAD, effort
from gatehouse.pipeline.recorded_names import (
    RecordedNames,
    hide_names,
    is_plain_model,
    names_in,
    names_in_form,
    renamed,
    written_form,
)
from gatehouse.pipeline.scope import CallScope, note_names

# A body of so many bytes is always written again.
_LONG: Final = 1024 * 1024
_FORM: Final = b"multipart/form-data"
# What LiteLLM reads instead of a refused body, only to identify the caller.
_NOTHING: Final = b"{}"
NO_SUCH_MODEL: Final = "model: this gateway has none of that name. GET /v1/models lists its models."


@dataclass(frozen=True, slots=True)
class Accepted:
    """Hold an accepted request.

    Attributes:
        body: the body for LiteLLM.
        asked: the body as it was read; None where it is a form, or is refused.
    """

    body: bytes
    asked: Mapping[str, Any] | None


class Edge:
    """Accept requests for one gateway process.

    Args:
        reader: reads bodies.
        engine: the fields that callers may not send to LiteLLM.
        bounds: the limits on values that a caller may set.
        configured: the headers that the operator makes LiteLLM read.
        names: replaces caller-given names that are more than a name; None: nothing.
        made_up: tells whether callers may make up the end of a model's name.
        text_of: turns tokens into text.
    """

    def __init__(
        self,
        reader: BodyReader,
        engine: EngineFields,
        bounds: Callable[[], CallerBounds] = CallerBounds,
        configured: Callable[[], ConfiguredHeaders] = ConfiguredHeaders,
        names: RecordedNames | None = None,
        made_up: Callable[[str], bool] = lambda _model: False,
        text_of: TextOf = lambda _model, _tokens: None,
    ) -> None:
        self.reader = reader
        self._engine = engine
        self._bounds = bounds
        self._configured = configured
        self._names = names
        self._made_up = made_up
        self._text_of = text_of

    async def take(self, call: CallScope, scope: Scope, receive: Receive, share: Share | None = None) -> Accepted:
        """Read a request. A forbidden field or header becomes the call's fault, which the caller is told once
        LiteLLM has authenticated them; `scope` then has the headers that go with the body.

        Args:
            share: counts the body for as long as it is held.

        Raises:
            GovernanceError: the body is over the bounds.
            ClientLeft: the client waits for no answer.
        """
        body = await self.reader.read(scope["headers"], receive, share)
        asked: Mapping[str, Any] | None = None
        kind = _JSON
        configured = self._configured()
        try:
            await self._check_path(call, scope)
            call.incoming = replace(call.incoming, repeated=_is_repeated(scope["headers"]))
            headers = passed_on(scope["headers"], self._bounds(), configured)
            body = self.reader.unpacked(scope["headers"], body, share)
            call_type = call_type_of(call.route)
            if call.about is not None:
                call.about = _with_parameters(call.about, scope, body)
                body = orjson.dumps(call.about.for_engine)
            elif call_type is None:
                body, kind = await self._read_form(call, headers, body)
            else:
                body, asked = await self._read(call, call_type, body)
        except GovernanceError as error:
            call.incoming = replace(call.incoming, fault=error)
            body, headers = _NOTHING, _who_asks(scope["headers"], configured.key)
        hidden = await hide_names(self._names, call, names_in_headers(headers, configured))
        headers = renamed_headers(headers, configured, hidden)
        scope["headers"] = [
            *((name, value) for name, value in headers if name not in _ABOUT_BODY),
            (_TYPE, kind),
            (b"content-length", str(len(body)).encode()),
            (_ENGINES_ID, str(call.call_id).encode()),
        ]
        # LiteLLM also reads a version and a model there; no governed API uses it.
        scope["query_string"] = b""
        return Accepted(body, asked)

    async def _read(self, call: CallScope, call_type: str, body: bytes) -> tuple[bytes, Mapping[str, Any]]:
        def read() -> tuple[bool, dict[str, Any]]:
            given = json_object(body)
            top_level = {name: value is None or isinstance(value, int | float) for name, value in given.items()}
            call.incoming = replace(call.incoming, top_level=top_level)
            texts: Mapping[str, Any] = given
            if call_type == EMBEDDING:
                model = model_in(call.route) or str(given.get("model"))
                texts = with_texts(given, model, self._text_of)
            asked = caller_request(call_type, texts, self._engine, self._bounds())
            return texts is given and asked.keys() == given.keys() and "extra_body" not in given, asked

        call.incoming = replace(call.incoming, effort=effort(body))
        same, asked = await OFFLOAD.run(call.incoming.effort, call.sender, read)
        note_names(call, asked)
        options = asked.get("stream_options")
        asks_usage = isinstance(options, dict) and options.get("include_usage") is True
        call.incoming = replace(call.incoming, asks_usage=asks_usage)
        model = asked.get("model")
        made_up = [model] if isinstance(model, str) and self._made_up(model) else []
        if made_up and await hide_names(self._names, call, made_up, is_plain_model):
            raise ModelNotFound(NO_SUCH_MODEL, param="model")
        hidden = await hide_names(self._names, call, names_in(asked))
        named = renamed(asked, hidden)
        # A body that is long only because of its blanks becomes short for the next reader.
        if same and named is asked and len(body) < _LONG:
            return body, named
        return await OFFLOAD.run(call.incoming.effort, call.sender, partial(_written, named)), named

    async def _read_form(self, call: CallScope, headers: Headers, body: bytes) -> tuple[bytes, bytes]:
        """Return a form for LiteLLM, and its content type.

        Raises:
            InvalidRequest: it is not the API's form.
        """
        try:
            async with _opened(headers, body) as form:
                items = form.multi_items()
                top_level = {name.removesuffix("[]"): False for name, _ in items}
                call.incoming = replace(call.incoming, top_level=top_level)
                _check_form(items)
                hidden = await hide_names(self._names, call, names_in_form(items))
                kind, written = await written_form(items, hidden)
        except MultiPartException:
            raise InvalidRequest("The form cannot be read. Send it as multipart/form-data.") from None
        return written, kind

    async def _check_path(self, call: CallScope, scope: Scope) -> None:
        """Keep a model in the path out of the records, and away from LiteLLM where it is not configured.

        Raises:
            ModelNotFound: the caller made it up, and it is more than a name.
        """
        model = model_in(call.route)
        stands = None if model is None else (await hide_names(self._names, call, (model,), is_plain_model)).get(model)
        if model is None or stands is None:
            return
        call.route = call.route.replace(model, stands)
        if self._made_up(model):
            scope["path"], scope["raw_path"] = call.route, call.route.encode()
            raise ModelNotFound(NO_SUCH_MODEL, param="model")


def _with_parameters(about: StoredResponse, scope: Scope, body: bytes) -> StoredResponse:
    """Return a request about a stored response with the parameters of its query.

    Raises:
        InvalidRequest: it has a body, or a parameter has a wrong value.
    """
    if body and json_object(body):
        raise InvalidRequest("A request about a stored response has no fields in its body. Leave them out.")
    query = scope.get("query_string", b"").decode("ascii", "replace")
    return replace(about, parameters=parameters(about.action, query))


def _written(asked: Mapping[str, Any]) -> bytes:
    """Write a request as JSON.

    Raises:
        InvalidRequest: it is nested too deep to be written.
    """
    try:
        return orjson.dumps(asked)
    except TypeError:  # a number of more than 64 bits, or nesting deeper than orjson's limit
        pass
    try:
        return json.dumps(asked, ensure_ascii=False).encode()
    except RecursionError:
        raise InvalidRequest("The body is nested too deep. Send it flatter.") from None


_TYPE: Final = b"content-type"
_JSON: Final = b"application/json"
# LiteLLM takes this for its own id of the call, by which its log of spend can be compared with the ledger.
_ENGINES_ID: Final = b"x-litellm-call-id"
_ABOUT_BODY: Final = frozenset((_TYPE, b"content-length", b"content-encoding", b"expect"))


# OpenAI's and Anthropic's clients count here how often they asked again by themselves.
_REPETITION: Final = b"x-stainless-retry-count"


def _is_repeated(headers: Headers) -> bool:
    """Tell whether a client asks again by itself."""
    return any(name == _REPETITION and re.fullmatch(rb"[1-9]\d{0,3}", value) for name, value in headers)


def _who_asks(headers: list[tuple[bytes, bytes]], key: bytes | None) -> list[tuple[bytes, bytes]]:
    """Return the headers that identify the caller, when another header may be the fault."""
    return [(name, value) for name, value in headers if name in (*CREDENTIALS, key, b"host") or name in OURS]


@asynccontextmanager
async def _opened(headers: Headers, body: bytes) -> AsyncIterator[FormData]:
    """Open a body as a form.

    Raises:
        InvalidRequest: it is not one.
    """
    kind = next((value for name, value in headers if name == _TYPE), b"")
    if not kind.lower().startswith(_FORM):
        raise InvalidRequest("content-type: a multipart form with a file was expected. Send one.")

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async with Request({"type": "http", "headers": headers}, receive).form() as form:
        yield form


def _check_form(items: list[tuple[str, UploadFile | str]]) -> None:
    """Check a form: a file to be transcribed, and the API's fields beside it.

    Raises:
        InvalidRequest: it holds anything else.
    """
    known, seen = names_of(TRANSCRIPTION), set[str]()
    for name, value in items:
        plain_name = name.removesuffix("[]")
        if plain_name not in known:
            raise InvalidRequest(
                f"{plain(name) or 'a field'}: callers may not set it on this route. Leave it out.", param=plain(name)
            )
        if name in seen and not name.endswith("[]"):
            raise InvalidRequest(f"{plain(name) or 'a field'}: it is sent twice. Send it once.")
        if name != "file" and not isinstance(value, str):
            raise InvalidRequest(f"{plain(name) or 'a field'}: a text was expected, and no file.")
        seen.add(name)
    if isinstance(dict(items).get("file", ""), str):
        raise InvalidRequest("file: a file was expected. Send one.", param="file")
