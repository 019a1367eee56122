"""Owns the life of a call from first byte to disconnect: a pure ASGI wrapper around LiteLLM's app.

It classifies the route, refuses ungoverned routes, opens the call's scope, notices a client that leaves, sends
Gatehouse's errors where a stage refused, and settles every call, whatever the app inside does.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from gatehouse.core import metrics
from gatehouse.core.clock import monotonic, new_call_id, now
from gatehouse.core.errors import GovernanceError, Misconfigured, UngovernedRoute
from gatehouse.core.http import SENDER, App, Message, Receive, Scope, Send
from gatehouse.core.reasons import Reason
from gatehouse.dialects.stored_responses import stored_response
from gatehouse.gateway.anthropic_errors import with_anthropics_errors
from gatehouse.gateway.body_shares import Share
from gatehouse.gateway.connection import Connection, NoSlots, Settler, Slots, answer, respond
from gatehouse.gateway.edge import Edge
from gatehouse.gateway.exposition import Exposition, Shown
from gatehouse.gateway.management import check_stored, sets_spend_of
from gatehouse.gateway.prescan import Prescan
from gatehouse.gateway.request_body import ClientLeft
from gatehouse.gateway.routes import RouteKind, classify, is_management
from gatehouse.pipeline.scope import CallScope, current_scope

# Who sends calls here asks this; see `draining_server`.
_READY: Final = frozenset(("/health/readiness", "/health/readiness/"))


async def _ignored(_spenders: tuple[str, ...]) -> None:
    pass


class GovernanceMiddleware:
    """Wrap LiteLLM's ASGI app.

    Args:
        app: LiteLLM's app.
        armed: tells whether LiteLLM would run the hooks now.
        settler: None until the gateway has started.
        named_routes: returns the routes that policy.yaml lets through ungoverned.
        edge: accepts requests.
        prescan: scans while LiteLLM authenticates.
        slots: makes the holder of the slots that a call takes.
        shown: bounds what `/metrics` shows of some of LiteLLM's labels.
        metrics_token: bearer token for /metrics; without one the page is closed.
        spend_set: is told whose spend an administrator has set.
        grace_s: how long to wait after the last byte for LiteLLM's own account of a call.
    """

    def __init__(
        self,
        app: App,
        *,
        armed: Callable[[], bool],
        metrics_token: str | None,
        grace_s: float,
        edge: Edge,
        named_routes: Callable[[], tuple[str, ...]] = tuple,
        prescan: Prescan | None = None,
        slots: Callable[[], Slots] = NoSlots,
        shown: Mapping[str, Shown] | None = None,
        spend_set: Callable[[tuple[str, ...]], Awaitable[None]] = _ignored,
    ) -> None:
        self._app = app
        self._armed = armed
        self._metrics_token = metrics_token
        self._grace_s = grace_s
        self.settler: Settler | None = None
        self.stopping = False
        self._running: set[CallScope] = set()
        self._edge = edge
        self._named_routes = named_routes
        self._prescan = prescan or Prescan(lambda: None)
        self._slots = slots
        self._exposition = Exposition(REGISTRY, shown or {})
        self._pending: set[CallScope] = set()
        self._spend_set = spend_set

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        if path == "/metrics":
            await self._metrics(scope, send)
            return
        if self.stopping and path in _READY:
            await respond(send, 503, b'{"status":"stopping"}', [(b"content-type", b"application/json")])
            return
        method = scope.get("method", "WEBSOCKET")
        send = with_anthropics_errors(path, send)
        kind = classify(method, path, self._named_routes())
        if kind is RouteKind.GOVERNED:
            await self._governed(scope, receive, send)
        elif kind is RouteKind.OPEN:
            await self._open(scope, receive, send)
        else:
            metrics.ungoverned.inc()
            await answer(
                scope,
                send,
                UngovernedRoute(
                    f"{method} {path} is not governed by Gatehouse. "
                    "Use a governed route, or name it under ungoverned_routes in policy.yaml."
                ),
                None,
            )

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a route that manages the proxy, or one that policy.yaml names; only the latter may reach a model."""
        exempt = classify(scope.get("method", "WEBSOCKET"), scope["path"]) is RouteKind.UNGOVERNED
        call = CallScope(new_call_id(), scope["path"], now(), monotonic(), exempt=True) if exempt else None
        token = current_scope.set(call)
        slots = self._slots()
        try:
            with self._share(scope) as share:
                scope[SENDER] = share.sender
                receive, spenders = await self._bounded(scope, receive, share)
                await self._app(scope, receive, self._noting(spenders, send) if spenders else send)
        except ClientLeft:
            return
        except GovernanceError as error:
            await answer(scope, send, error, None)
        finally:
            current_scope.reset(token)
            await slots.release()

    def _share(self, scope: Scope) -> Share:
        """Return the share that counts a request's body: its key's if the key was seen before, else its address's,
        because callers can make up keys."""
        key = self._prescan.key_of(self._prescan.caller(scope["headers"]))
        address = (scope.get("client") or ("",))[0]
        return self._edge.reader.shares.of(f"key {key}" if key is not None else f"address {address}")

    async def _bounded(self, scope: Scope, receive: Receive, share: Share) -> tuple[Receive, tuple[str, ...]]:
        """Read the body first, and check it where LiteLLM would store it; return also whose spend it sets."""
        if scope["type"] != "http":
            return receive, ()
        body: bytes | None = await self._edge.reader.read(scope["headers"], receive, share)
        spenders: tuple[str, ...] = ()
        if body is not None and is_management(scope["method"], scope["path"]):
            check_stored(scope["path"], body)
            spenders = sets_spend_of(scope["path"], body)

        async def replayed() -> Message:
            nonlocal body
            if body is None:
                return await receive()
            whole, body = body, None
            return {"type": "http.request", "body": whole, "more_body": False}

        return replayed, spenders

    def _noting(self, spenders: tuple[str, ...], send: Send) -> Send:
        """Return a `send` that lets the ledger know, before the answer, that an administrator has set these spends."""

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 300:
                await self._spend_set(spenders)
            await send(message)

        return noting

    async def _governed(self, scope: Scope, receive: Receive, send: Send) -> None:
        about = stored_response(scope["method"], scope["path"])
        route = scope["path"] if about is None else about.route
        call = CallScope(new_call_id(), route, now(), monotonic(), about)
        if self.settler is None or not self._armed():
            metrics.plugin_errors.labels(stage="not_armed").inc()
            await answer(
                scope,
                send,
                Misconfigured("The governance plugin is not loaded. The operator finds why in the gateway's log."),
                call,
            )
            return
        with self._share(scope) as share:
            call.sender = share.sender
            await self._taken(call, scope, receive, send, share)

    async def _taken(self, call: CallScope, scope: Scope, receive: Receive, send: Send, share: Share) -> None:
        assert self.settler is not None
        try:
            taken = await self._edge.take(call, scope, receive, share)
        except ClientLeft:
            return
        except GovernanceError as error:
            metrics.blocks.labels(error.code).inc()
            await answer(scope, send, error, call)
            return
        caller = self._prescan.caller(scope["headers"])
        await self._prescan.begin(caller, call.route, taken.asked, len(taken.body))
        slots = self._slots()
        connection = Connection(call, scope, receive, send, self.settler, taken.body, slots)
        token = current_scope.set(call)
        self._running.add(call)
        try:
            await self._app(scope, connection.receive, connection.send)
        finally:
            self._running.discard(call)
            connection.close()
            current_scope.reset(token)
            self._prescan.remember(caller, _key_of(call), admitted=call.intent)
            self._conclude(call, complete=connection.complete)
            await slots.release()

    def _conclude(self, call: CallScope, *, complete: bool) -> None:
        """Settle a call when everything is known; else wait a moment, because tokens and cost come after the answer."""
        call.ending.closed = True
        if call.ending.settled or self.settler is None:
            return
        if not call.intent and call.ending.http_status == 401 and call.refusal is None:
            metrics.unauthenticated.inc()
            return
        if not complete and self.stopping and not call.left.is_set():
            call.ending.failure = Reason.GATEWAY_STOPPED
        elif not complete:
            call.ending.client_gone = True
        if not call.intent or call.refusal is not None or call.ending.outcome is not None:
            self.settler.conclude(call)
            return
        handle = asyncio.get_running_loop().call_later(self._grace_s, self.settler.conclude, call)
        self._pending.add(call)

        def settled() -> None:
            handle.cancel()
            self._pending.discard(call)

        call.ending.on_settled = settled

    def conclude_all(self) -> None:
        """Settle calls that still run, or wait for LiteLLM's account, because the gateway is stopping."""
        for call in (*self._pending, *self._running):
            if self.settler is not None and not call.ending.settled:
                if call in self._running:
                    call.ending.failure = Reason.GATEWAY_STOPPED
                self.settler.conclude(call)

    async def _metrics(self, scope: Scope, send: Send) -> None:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not self._metrics_token or not hmac.compare_digest(given, b"Bearer " + self._metrics_token.encode()):
            await respond(
                send,
                401,
                b"metrics need the bearer token GATEHOUSE_METRICS_TOKEN of .env\n",
                [(b"content-type", b"text/plain")],
            )
            return
        await respond(
            send,
            200,
            await asyncio.to_thread(generate_latest, self._exposition),
            [(b"content-type", CONTENT_TYPE_LATEST.encode())],
        )


def _key_of(call: CallScope) -> str | None:
    """Return whose call it was; None where LiteLLM did not identify the caller."""
    known = call.intent or call.governance is not None  # the hook saw it, which runs after authentication
    return (call.call.caller.turns if call.call is not None else "unnamed") if known else None
