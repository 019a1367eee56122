"""LiteLLM's word on a call that it will not make: who asks, and whether a call through the proxy would be let through.

The checks are LiteLLM's own, all of them and in its order, for they are run on the request that it would get: key known
and neither expired nor blocked, model allowed, budgets of key, user, team and organisation not exhausted.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.auth import user_api_key_auth as auth
from litellm.proxy.spend_tracking.budget_reservation import release_or_invalidate_budget_reservation

# Of the request around the call, these say something of its own body.
_OF_THE_BODY = frozenset({b"content-length", b"content-type", b"content-encoding", b"transfer-encoding"})


async def authenticated(request: Request, path: str, body: bytes) -> UserAPIKeyAuth:
    """Who asks, where LiteLLM would let them POST this.

    Args:
        request: who asks is in its headers.
        path: the route.
        body: JSON.

    Raises:
        ProxyException, HTTPException: LiteLLM would not.
    """
    proxied = _request(request, path, body)
    key = await auth.user_api_key_auth(
        proxied,
        api_key=await auth.api_key_header(proxied),
        azure_api_key_header=await auth.azure_api_key_header(proxied),
        anthropic_api_key_header=await auth.anthropic_api_key_header(proxied),
        google_ai_studio_api_key_header=await auth.google_ai_studio_api_key_header(proxied),
        azure_apim_header=await auth.azure_apim_header(proxied),
        custom_litellm_key_header=await auth.custom_litellm_key_header(proxied),
    )
    # What the call may cost was set aside, so that it had to fit; the call itself is not LiteLLM's.
    await release_or_invalidate_budget_reservation(key.budget_reservation)
    return key


def _request(request: Request, path: str, body: bytes) -> Request:
    headers = [pair for pair in request.scope["headers"] if pair[0] not in _OF_THE_BODY]
    headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope: dict[str, Any] = {
        name: value for name, value in request.scope.items() if name in ("app", "client", "http_version", "scheme")
    } | {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "server": request.scope.get("server"),
        "state": {},
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(scope, receive)
