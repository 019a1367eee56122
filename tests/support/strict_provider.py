"""Runs a provider on loopback, as strict as Anthropic, OpenAI and Gemini are, that answers as a test's script says.

It verifies what the providers sign and encrypt, byte for byte, and pairs tool calls with their results. It decides
nothing by chance: the same requests get the same bytes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support import strict_anthropic, strict_gemini, strict_openai
from tests.support.app_server import AppServer
from tests.support.process import free_port
from tests.support.strict_turns import Failure, Refused, Turn, sse
from tests.support.upstream import Arrival, arrival_of


class StrictProvider:
    """Speaks Anthropic's messages, OpenAI's responses and chat completions, and Gemini's generateContent.

    Attributes:
        script: the turns to come. Each request that is not refused takes one; without one the model says the default.
        arrivals: every request as it arrived, as bytes, in order.
        refusals: why it refused a request, in order.
        piece_chars: how much of a text each event of a stream brings.
        breaks_off: the next streams end without their last event.
    """

    def __init__(self) -> None:
        self.script: list[Turn] = []
        self.arrivals: list[Arrival] = []
        self.refusals: list[str] = []
        self.piece_chars = 3
        self.breaks_off = False
        self.port = free_port()
        self._answers = 0
        self._stored: set[str] = set()
        self._lock = threading.Lock()
        routes = [Route("/{path:path}", self._answer, methods=["POST"])]
        self._server = AppServer(Starlette(routes=routes), self.port)

    @property
    def url(self) -> str:
        """Return its address without a path; OpenAI's clients want `/v1` behind it."""
        return f"http://127.0.0.1:{self.port}"

    def plays(self, *turns: Turn) -> None:
        """Forget what was, and play these turns."""
        self.script[:] = turns
        self.arrivals.clear()
        self.refusals.clear()
        self.piece_chars = 3
        self.breaks_off = False

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """Return the bodies that arrived, read as JSON."""
        return [json.loads(arrival.body) for arrival in self.arrivals]

    @property
    def received(self) -> str:
        """Return all bodies that arrived, as text."""
        return "\n".join(arrival.body.decode() for arrival in self.arrivals)

    def close(self, *, force: bool = False) -> None:
        self._server.close(force=force)

    async def _answer(self, request: Request) -> Response:
        raw = await request.body()
        headers = {name.lower(): value for name, value in request.headers.items()}
        with self._lock:
            self.arrivals.append(arrival_of(request, raw))
            return self._to(request.url.path, json.loads(raw), headers)

    def _to(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> Response:
        number = self._answers + 1
        try:
            self._check(path, body, headers)
        except Refused as refusal:
            self.refusals.append(str(refusal))
            return self._failed(path, refusal.failure, number)
        if path.endswith("/count_tokens"):
            return JSONResponse({"input_tokens": len(json.dumps(body)) // 4})
        self._answers = number
        turn = self.script.pop(0) if self.script else Turn()
        if turn.failure is not None:
            return self._failed(path, turn.failure, number)
        return self._said(path, body, turn, number)

    def _check(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> None:
        if path.endswith("/messages"):
            strict_anthropic.check(body, headers)
        elif path.endswith("/responses"):
            strict_openai.check_responses(body, frozenset(self._stored))
        elif path.endswith("/chat/completions"):
            strict_openai.check_chat(body)
        elif "enerateContent" in path:
            strict_gemini.check(body)
        elif not path.endswith("/count_tokens"):
            raise Refused(f"Invalid URL (POST {path})", status=404)

    def _said(self, path: str, body: dict[str, Any], turn: Turn, number: int) -> Response:
        said, size = turn.of(body), self.piece_chars
        is_stream = body.get("stream") is True
        if path.endswith("/messages"):
            whole = strict_anthropic.answer(body, said, number)
            events = strict_anthropic.events(whole, size)
        elif path.endswith("/responses"):
            whole = strict_openai.response(body, said, number)
            events = strict_openai.response_events(whole, size)
            if whole["store"]:
                self._stored.add(whole["id"])
        elif path.endswith("/chat/completions"):
            whole = strict_openai.completion(body, said, number)
            events = strict_openai.completion_events(body, whole, size)
        else:
            is_stream = "stream" in path
            whole = strict_gemini.answer(said, number)
            events = strict_gemini.events(whole, size)
        headers = _request_id(path, number)
        if not is_stream:
            return JSONResponse(whole, headers=headers)
        sent = events[:-1] if self.breaks_off else events
        if turn.breaks_off is not None:
            sent = [*events[:_BEGINNING], _error_event(path, turn.breaks_off, number)]
        return StreamingResponse(_sent(sent), media_type="text/event-stream", headers=headers)

    def _failed(self, path: str, failure: Failure, number: int) -> Response:
        if "/messages" in path:
            body = strict_anthropic.error(failure, number)
        elif "enerateContent" in path:
            body = strict_gemini.error(failure)
        else:
            body = strict_openai.error(failure)
        headers = {**_request_id(path, number), **failure.headers}
        return JSONResponse(body, status_code=failure.status, headers=headers)


# How many events come of a stream that breaks off.
_BEGINNING = 7


def _error_event(path: str, failure: Failure, number: int) -> str:
    """Return the event with which a stream says that it failed."""
    if path.endswith("/messages"):
        return sse(strict_anthropic.error(failure, number))
    if path.endswith("/responses"):
        said = {"type": "error", "code": failure.code, "message": failure.message, "param": failure.param}
        return sse(said | {"sequence_number": _BEGINNING})
    return sse(strict_openai.error(failure), named=False)


def _request_id(path: str, number: int) -> dict[str, str]:
    return {"request-id" if "/messages" in path else "x-request-id": f"req_{number:024}"}


async def _sent(events: Sequence[str]) -> AsyncIterator[str]:
    for event in events:
        yield event
