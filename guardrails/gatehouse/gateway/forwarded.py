"""Finds the address of a request: the peer's, or the one that a named reverse proxy reports.

Promises: no later code, Gatehouse's or LiteLLM's, sees an address that a caller made up; it sees the same address
everywhere, in the connection and in the headers.
"""

from __future__ import annotations

from typing import Final

from gatehouse.core.http import App, Receive, Scope, Send
from gatehouse.core.proxies import TrustedProxies

_FOR: Final = b"x-forwarded-for"
_PROTO: Final = b"x-forwarded-proto"
# Headers with the caller's address. LiteLLM, its plugins and hooks may read any of them.
ADDRESSES: Final = frozenset((_FOR, b"forwarded", b"x-real-ip"))
_SCHEMES: Final = {"http": ("http", "ws"), "https": ("https", "wss"), "ws": ("http", "ws"), "wss": ("https", "wss")}


def with_caller(app: App, proxies: TrustedProxies) -> App:
    """Wrap an ASGI app so that it sees each request's true address."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            scope = _with_caller(scope, proxies)
        await app(scope, receive, send)

    return wrapped


def _with_caller(scope: Scope, proxies: TrustedProxies) -> Scope:
    headers = [(name, value) for name, value in scope["headers"] if name not in ADDRESSES]
    changed = {**scope, "headers": headers}
    peer = (scope.get("client") or ("",))[0]
    if not proxies.trust(peer):
        return changed
    hops = b",".join(value for name, value in scope["headers"] if name == _FOR).decode("latin-1")
    caller = proxies.caller(peer, hops.split(",") if hops else ())
    if caller != peer:
        changed["client"] = (caller, 0)
        headers.append((_FOR, caller.encode()))
    proto = [value.decode("latin-1").strip() for name, value in scope["headers"] if name == _PROTO]
    if proto and proto[-1] in _SCHEMES:
        changed["scheme"] = _SCHEMES[proto[-1]][scope["type"] == "websocket"]
    return changed
