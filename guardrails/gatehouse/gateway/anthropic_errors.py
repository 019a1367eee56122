"""Gives each error on Anthropic's routes the shape that Anthropic's clients read, whoever answered it.

LiteLLM answers with OpenAI's shape where its authentication refuses a caller, and with FastAPI's where a body is not
what a route takes; Gatehouse's errors have OpenAI's shape too. Anthropic's is
`{"type": "error", "error": {"type", "message"}, "request_id"}` (its API's page "Errors").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from gatehouse.core.http import CALL_ID_HEADER, Message, Send

# Anthropic's `type` of an error, by its status; below 500 the rest are invalid requests.
TYPES: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def with_anthropics_errors(path: str, send: Send) -> Send:
    """Return a `send` that gives errors Anthropic's shape, where the path is Anthropic's; else the same."""
    return _Shaped(send) if path.startswith("/v1/messages") else send


class _Shaped:
    """Hold an error back until all of it has come, and send it in the right shape. Other answers pass at once."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400 and _is_json(message):
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._end(self._start)

    async def _end(self, start: Message) -> None:
        body = shaped(start["status"], bytes(self._body), _call_id(start))
        headers = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
        await self._send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
        await self._send({"type": "http.response.body", "body": body})


def shaped(status: int, body: bytes, call_id: str | None) -> bytes:
    """Return an error's body in Anthropic's shape.

    Args:
        body: JSON in any shape. What has Anthropic's shape, or is not JSON, stays as it is.
    """
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(said, dict) or said.get("type") == "error":
        return body
    kind = type_of(status)
    given = said.get("error")
    error = dict(given) if isinstance(given, dict) else {"message": _detail(said)}
    return json.dumps({"type": "error", "error": {**error, "type": kind}, "request_id": call_id}).encode()


def type_of(status: int) -> str:
    """Return Anthropic's type of an error with this status."""
    return TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")


def _detail(said: Mapping[str, Any]) -> str:
    """Return the sentence of an error in FastAPI's shape. A fault of the body is named without the caller's value."""
    detail = said.get("detail")
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):
        where = ".".join(str(each) for each in detail[0].get("loc", ()))
        return f"{where}: {detail[0].get('msg')}"
    return detail if isinstance(detail, str) else "The request failed."


def _is_json(start: Message) -> bool:
    return any(name.lower() == b"content-type" and b"json" in value for name, value in start.get("headers", ()))


def _call_id(start: Message) -> str | None:
    value = next((value for name, value in start["headers"] if name.lower() == CALL_ID_HEADER), None)
    return None if value is None else str(value.decode("latin-1"))
