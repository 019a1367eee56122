"""Owns the life of a call from first byte to disconnect: a pure ASGI wrapper around LiteLLM's app.

Classifies the route, refuses what is not governed, opens the call's scope, notices a client that leaves, answers with
our errors where a stage refused, and sees to it that every call is settled, whatever the app inside does.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gatehouse import metrics
from gatehouse.call import CallScope, current_scope
from gatehouse.clock import monotonic, new_call_id, now
from gatehouse.errors import GovernanceError, GovernanceUnavailable, UngovernedRoute
from gatehouse.routes import RouteKind, classify

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CALL_ID_HEADER = b"x-gatehouse-call-id"


class Settler(Protocol):
    """What the middleware needs of the pipeline."""

    def conclude(self, scope: CallScope) -> None: ...


class GovernanceMiddleware:
    """ASGI app around LiteLLM's.

    Args:
        app: LiteLLM's app.
        armed: says whether LiteLLM would run our hooks now.
        settler: None until the gateway has started.
        named_routes: routes that policy.yaml lets through ungoverned.
        metrics_token: bearer token for /metrics; without one the page is closed.
        grace_s: how long after the last byte LiteLLM's own account of a call is awaited.
    """

    def __init__(self, app: App, *, armed: Callable[[], bool], metrics_token: str | None, grace_s: float) -> None:
        self._app = app
        self._armed = armed
        self._metrics_token = metrics_token
        self._grace_s = grace_s
        self.settler: Settler | None = None
        self.named_routes: tuple[str, ...] = ()
        self._pending: set[CallScope] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        if path == "/metrics":
            await self._metrics(scope, send)
            return
        method = scope.get("method", "WEBSOCKET")
        kind = classify(method, path, self.named_routes)
        if kind is RouteKind.GOVERNED:
            await self._governed(scope, receive, send)
        elif kind is RouteKind.OPEN:
            await self._open(scope, receive, send)
        else:
            metrics.ungoverned.inc()
            await _answer(
                scope,
                send,
                UngovernedRoute(
                    f"{method} {path} is not governed by Gatehouse. "
                    "Use a governed route, or name it under ungoverned_routes in policy.yaml."
                ),
                None,
            )

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A route that manages the proxy, or one that policy.yaml names; only the latter may reach a model."""
        exempt = classify(scope.get("method", "WEBSOCKET"), scope["path"]) is RouteKind.UNGOVERNED
        call = CallScope(new_call_id(), scope["path"], now(), monotonic(), exempt=True) if exempt else None
        token = current_scope.set(call)
        try:
            await self._app(scope, receive, send)
        finally:
            current_scope.reset(token)

    async def _governed(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = CallScope(new_call_id(), scope["path"], now(), monotonic())
        if self.settler is None or not self._armed():
            metrics.plugin_errors.labels(stage="not_armed").inc()
            await _answer(
                scope,
                send,
                GovernanceUnavailable(
                    "The governance plugin is not loaded. Try again soon; the operator finds why in the gateway's log."
                ),
                call,
            )
            return
        connection = _Connection(call, scope, receive, send)
        token = current_scope.set(call)
        try:
            await self._app(scope, connection.receive, connection.send)
        finally:
            connection.close()
            current_scope.reset(token)
            self._conclude(call, complete=connection.complete)

    def _conclude(self, call: CallScope, *, complete: bool) -> None:
        """Settle where everything is known; else give LiteLLM a moment, for tokens and cost come after the answer."""
        if call.settled or self.settler is None:
            return
        if not call.intent and call.http_status == 401 and call.refusal is None:
            metrics.unauthenticated.inc()
            return
        if not complete:
            call.client_gone = True
        if not call.intent or call.refusal is not None:
            self.settler.conclude(call)
            return
        handle = asyncio.get_running_loop().call_later(self._grace_s, self.settler.conclude, call)
        self._pending.add(call)

        def settled() -> None:
            handle.cancel()
            self._pending.discard(call)

        call.on_settled = settled

    def conclude_all(self) -> None:
        """Settle what still waits for LiteLLM's account; the gateway is stopping."""
        for call in tuple(self._pending):
            if self.settler is not None:
                self.settler.conclude(call)

    async def _metrics(self, scope: Scope, send: Send) -> None:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not self._metrics_token or not hmac.compare_digest(given, b"Bearer " + self._metrics_token.encode()):
            await _respond(
                send,
                401,
                b"metrics need the bearer token GATEHOUSE_METRICS_TOKEN of .env\n",
                [(b"content-type", b"text/plain")],
            )
            return
        await _respond(
            send, 200, await asyncio.to_thread(generate_latest), [(b"content-type", CONTENT_TYPE_LATEST.encode())]
        )


class _Connection:
    """The wire of one governed call: knows when the client left and whether the answer was complete."""

    def __init__(self, call: CallScope, scope: Scope, receive: Receive, send: Send) -> None:
        self.complete = False
        self._call = call
        self._scope = scope
        self._receive = receive
        self._send = send
        self._replaced = False
        self._watch: asyncio.Task[Message] | None = None

    async def receive(self) -> Message:
        """The request's body, then, once the client has left, its disconnect."""
        if self._watch is not None:
            return await asyncio.shield(self._watch)
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._call.client_gone = not self.complete
        elif not message.get("more_body"):
            self._watch = asyncio.create_task(self._disconnect())
        return message

    async def _disconnect(self) -> Message:
        while (message := await self._receive())["type"] != "http.disconnect":
            pass
        self._call.client_gone = not self.complete
        return message

    async def send(self, message: Message) -> None:
        """Pass the answer on; where a stage refused the call, answer with its error instead."""
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            if self._call.refusal is not None:
                self._replaced = self.complete = True
                self._call.http_status = self._call.refusal.status
                await _answer(self._scope, self._send, self._call.refusal, self._call)
                return
            self._call.http_status = message["status"]
            message["headers"] = [*message.get("headers", ()), (CALL_ID_HEADER, str(self._call.call_id).encode())]
        elif message["type"] == "http.response.body" and not message.get("more_body"):
            self.complete = not self._call.client_gone
        await self._send(message)

    def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()


async def _answer(scope: Scope, send: Send, error: GovernanceError, call: CallScope | None) -> None:
    call_id = str(call.call_id) if call else None
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": error.code})
        return
    headers = [(b"content-type", b"application/json")]
    headers += [(name.encode(), value.encode()) for name, value in error.headers.items()]
    if call_id:
        headers.append((CALL_ID_HEADER, call_id.encode()))
    await _respond(send, error.status, json.dumps(error.body(call_id)).encode(), headers)


async def _respond(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
