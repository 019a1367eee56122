"""Speaks a gateway's side of library mode on loopback: it records requests, and fails when a test says so."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.app_server import AppServer
from tests.support.process import free_port

Asked = Mapping[str, Any]


@dataclass
class Answer:
    """Says what to answer: a status and a body, after a while; `torn` breaks off in the middle."""

    status: int = 200
    body: Any = None
    delay_s: float = 0.0
    torn: bool = False
    replacements: dict[str, str] = field(default_factory=dict)


def refusal(code: str, status: int = 403, *, approval: str | None = None) -> Answer:
    ours = {
        "call_id": "c-refused",
        "policies": ["rule-1"],
        "approval": approval and {"id": approval, "expires_at": "2026-11-21T20:00:00.000+00:00", "status_url": "/x"},
    }
    error = {"message": f"Because of {code}.", "type": "permission_error", "code": code, "gatehouse": ours}
    return Answer(status, {"error": error})


class LibraryGateway:
    """Serves the contract of library mode.

    Attributes:
        decides: what each question is answered, from the question; allowed as it stands by default.
        audits: what each report is answered.
        asked: questions, `allowed` the ids of calls that were let through, `told` the reports.
        states: of approvals, by id; `looked` counts who asked for one.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.reset()
        routes = [
            Route("/governance/v1/decide", self._decide, methods=["POST"]),
            Route("/governance/v1/audit", self._audit, methods=["POST"]),
            Route("/governance/v1/approvals/{id}", self._approval),
            Route("/governance/v1/approvals/{id}/cancel", self._cancel, methods=["POST"]),
        ]
        self._server = AppServer(Starlette(routes=routes), self.port, log_level="critical", keep_alive_s=5)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        self.decides: Callable[[Asked], Answer] = lambda asked: Answer()
        self.audits: Callable[[Asked], Answer] = lambda told: Answer()
        self.asked: list[Asked] = []
        self.headers: list[Mapping[str, str]] = []
        self.allowed: dict[str, Asked] = {}
        self.told: list[Asked] = []
        self.states: dict[str, str] = {}
        self.looked = 0
        self.cancelled: list[str] = []

    def close(self) -> None:
        self._server.close(force=True)

    async def _decide(self, request: Request) -> Response:
        asked = await request.json()
        self.asked.append(asked)
        self.headers.append(dict(request.headers))
        answer = self.decides(asked)
        await asyncio.sleep(answer.delay_s)
        if answer.body is None and answer.status == 200:
            call_id = str(uuid.uuid4())
            if not answer.torn:
                self.allowed[call_id] = asked
            answer.body = {
                "call_id": call_id,
                "verdict": "allow",
                "policies": [],
                "body": asked["body"],
                "replacements": answer.replacements,
                "expires_at": "2026-11-21T20:00:00.000+00:00",
            }
        return _response(answer)

    async def _audit(self, request: Request) -> Response:
        told = await request.json()
        answer = self.audits(told)
        await asyncio.sleep(answer.delay_s)
        if answer.status == 200:
            self.told.append(told)
            if answer.body is None:
                answer.body = {"call_id": told["call_id"], "recorded": True}
        return _response(answer)

    async def _approval(self, request: Request) -> Response:
        self.looked += 1
        return JSONResponse({"id": request.path_params["id"], "state": self.states[request.path_params["id"]]})

    async def _cancel(self, request: Request) -> Response:
        self.cancelled.append(request.path_params["id"])
        return JSONResponse({})


def _response(answer: Answer) -> Response:
    if isinstance(answer.body, str):
        return PlainTextResponse(answer.body, answer.status)
    body = json.dumps(answer.body).encode()
    if not answer.torn:
        return Response(body, answer.status, media_type="application/json")

    async def half() -> AsyncIterator[bytes]:
        yield body[: len(body) // 2]
        raise ConnectionResetError("torn on purpose")

    return StreamingResponse(half(), answer.status, {"content-length": str(len(body))}, "application/json")
