"""Takes a model call in: its headers, its body, and what may be said in both, before LiteLLM sees any of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from gatehouse.call import CallScope
from gatehouse.core.give_way import GiveWay
from gatehouse.dialects.caller_fields import CallerBounds, EngineFields, caller_request
from gatehouse.dialects.caller_headers import CREDENTIALS, OURS, ConfiguredHeaders, passed_on
from gatehouse.dialects.canonical import CallerNames
from gatehouse.errors import GovernanceError, InvalidRequest
from gatehouse.gateway.body_shares import Share
from gatehouse.gateway.request_body import BodyReader, json_object
from gatehouse.routes import TRANSCRIPTION, call_type_of
from gatehouse.shapes import names_of
from gatehouse.shapes.parts import plain
from gatehouse.wire import Message, Receive, Scope

_FORM: Final = b"multipart/form-data"
# What LiteLLM reads in place of a body that is refused: it shall only say who the caller is.
_NOTHING: Final = b"{}"


@dataclass(frozen=True, slots=True)
class Taken:
    """A request that was taken in.

    Attributes:
        body: what LiteLLM is given.
        asked: the body as it was read; None where it is a form, or is refused.
    """

    body: bytes
    asked: Mapping[str, Any] | None


class Edge:
    """One gateway process's.

    Args:
        reader: reads bodies.
        engine: what callers may not say to LiteLLM.
        bounds: how far a caller may set what the operator has configured.
        configured: the headers that the operator has LiteLLM read.
    """

    def __init__(
        self,
        reader: BodyReader,
        engine: EngineFields,
        bounds: Callable[[], CallerBounds] = CallerBounds,
        configured: Callable[[], ConfiguredHeaders] = ConfiguredHeaders,
    ) -> None:
        self.reader = reader
        self._engine = engine
        self._bounds = bounds
        self._configured = configured

    async def take(self, call: CallScope, scope: Scope, receive: Receive, share: Share | None = None) -> Taken:
        """Read a request. What may not be said in it is noted as the call's fault, which its caller is told once
        LiteLLM has said who they are; `scope` then has the headers that go with the body.

        Args:
            share: counts the body for as long as it is held.

        Raises:
            GovernanceError: the body is over the bounds.
            ClientLeft: nobody waits for an answer.
        """
        body = await self.reader.read(scope["headers"], receive, share)
        asked: Mapping[str, Any] | None = None
        configured = self._configured()
        try:
            headers = passed_on(scope["headers"], self._bounds(), configured)
            body = self.reader.unpacked(scope["headers"], body, share)
            call_type = call_type_of(call.route)
            if call_type is None:
                await _check_form(call, headers, body)
            else:
                async with GiveWay():
                    body, asked = self._read(call, call_type, body)
        except GovernanceError as error:
            call.fault = error
            body, headers = _NOTHING, _who_asks(scope["headers"], configured.key)
        as_json = (b"application/json",) if asked is not None or call.fault is not None else ()
        scope["headers"] = [
            *((name, value) for name, value in headers if name not in _ABOUT_BODY or (name == _TYPE and not as_json)),
            *((_TYPE, value) for value in as_json),
            (b"content-length", str(len(body)).encode()),
        ]
        # LiteLLM reads a version and a model there too; no API that is governed says anything in it.
        scope["query_string"] = b""
        return Taken(body, asked)

    def _read(self, call: CallScope, call_type: str, body: bytes) -> tuple[bytes, Mapping[str, Any]]:
        given = json_object(body)
        call.said = {name: value is None or isinstance(value, int | float) for name, value in given.items()}
        asked = caller_request(call_type, given, self._engine, self._bounds())
        note_names(call, asked)
        same = asked.keys() == given.keys() and "extra_body" not in given
        return body if same else orjson.dumps(asked), asked


def note_names(call: CallScope, asked: Mapping[str, Any]) -> None:
    """Note which names of a request are the caller's own, where LiteLLM keeps notes beside them."""
    call.names = CallerNames.of(asked)
    call.new_fields = tuple(asked.get("extra_body") or ())


_TYPE: Final = b"content-type"
_ABOUT_BODY: Final = frozenset((_TYPE, b"content-length", b"content-encoding", b"expect"))


def _who_asks(headers: list[tuple[bytes, bytes]], key: bytes | None) -> list[tuple[bytes, bytes]]:
    """Of headers that may be the fault themselves, those that say who the caller is."""
    return [(name, value) for name, value in headers if name in (*CREDENTIALS, key, b"host") or name.startswith(OURS)]


async def _check_form(call: CallScope, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """A file to be transcribed, and the API's fields beside it, whose names are noted.

    Raises:
        InvalidRequest: it is something else.
    """
    kind = next((value for name, value in headers if name == _TYPE), b"")
    if not kind.lower().startswith(_FORM):
        raise InvalidRequest("content-type: a multipart form with a file was expected. Send one.")
    known, seen = names_of(TRANSCRIPTION), set[str]()

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        async with Request({"type": "http", "headers": headers}, receive).form() as form:
            call.said = {name.removesuffix("[]"): False for name in form}
            for name in form:
                plain_name = name.removesuffix("[]")
                if plain_name not in known:
                    raise InvalidRequest(
                        f"{plain(name) or 'a field'}: callers may not set it on this route. Leave it out.",
                        param=plain(name),
                    )
            for name, _ in form.multi_items():
                if name in seen and not name.endswith("[]"):
                    raise InvalidRequest(f"{plain(name) or 'a field'}: it is sent twice. Send it once.")
                seen.add(name)
            if "file" not in seen:
                raise InvalidRequest("file: a file was expected. Send one.", param="file")
    except MultiPartException:
        raise InvalidRequest("The form cannot be read. Send it as multipart/form-data.") from None
