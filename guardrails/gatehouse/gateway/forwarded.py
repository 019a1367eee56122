"""Who a request comes from: who has connected, or what a reverse proxy that the operator named says of that.

Promises: no code behind this, ours or LiteLLM's, sees an address that a caller made up; what it sees is the same
wherever it looks, in the connection or in the headers.
"""

from __future__ import annotations

from typing import Final

from gatehouse.core.http import App, Receive, Scope, Send
from gatehouse.core.proxies import TrustedProxies

_FOR: Final = b"x-forwarded-for"
_PROTO: Final = b"x-forwarded-proto"
# Headers that say who the caller is. LiteLLM, its plugins and hooks may read any of them.
ADDRESSES: Final = frozenset((_FOR, b"forwarded", b"x-real-ip"))
_SCHEMES: Final = {"http": ("http", "ws"), "https": ("https", "wss"), "ws": ("http", "ws"), "wss": ("https", "wss")}


def with_caller(app: App, proxies: TrustedProxies) -> App:
    """The same ASGI app, which learns of each request where it really came from."""

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
    said = b",".join(value for name, value in scope["headers"] if name == _FOR).decode("latin-1")
    caller = proxies.caller(peer, said.split(",") if said else ())
    if caller != peer:
        changed["client"] = (caller, 0)
        headers.append((_FOR, caller.encode()))
    proto = [value.decode("latin-1").strip() for name, value in scope["headers"] if name == _PROTO]
    if proto and proto[-1] in _SCHEMES:
        changed["scheme"] = _SCHEMES[proto[-1]][scope["type"] == "websocket"]
    return changed
