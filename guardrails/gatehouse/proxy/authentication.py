"""Asks LiteLLM who a caller is, and whether it would let a call of that caller through, without making the call.

The checks are LiteLLM's own, all of them and in its order, because they run on the same request: the key is known,
neither expired nor blocked, may use the model, and no budget of key, user, team or organisation is exhausted.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.auth import user_api_key_auth as auth
from litellm.proxy.spend_tracking.budget_reservation import release_or_invalidate_budget_reservation

# Headers of the surrounding request that describe its own body, not the body of the call.
_OF_THE_BODY = frozenset({b"content-length", b"content-type", b"content-encoding", b"transfer-encoding"})


async def authenticated(request: Request, path: str, body: bytes, method: str = "POST") -> UserAPIKeyAuth:
    """Return who asks, if LiteLLM would let them send this.

    Args:
        request: its headers identify the caller.
        path: the route.
        body: JSON.

    Raises:
        ProxyException, HTTPException: LiteLLM would refuse the call.
    """
    proxied = _request(request, path, body, method)
    key = await auth.user_api_key_auth(
        proxied,
        api_key=await auth.api_key_header(proxied),
        azure_api_key_header=await auth.azure_api_key_header(proxied),
        anthropic_api_key_header=await auth.anthropic_api_key_header(proxied),
        google_ai_studio_api_key_header=await auth.google_ai_studio_api_key_header(proxied),
        azure_apim_header=await auth.azure_apim_header(proxied),
        custom_litellm_key_header=await auth.custom_litellm_key_header(proxied),
    )
    # LiteLLM reserved the call's cost to check that it fits the budget. Gatehouse makes the call, so release it.
    await release_or_invalidate_budget_reservation(key.budget_reservation)
    return key


def _request(request: Request, path: str, body: bytes, method: str) -> Request:
    headers = [pair for pair in request.scope["headers"] if pair[0] not in _OF_THE_BODY]
    headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope: dict[str, Any] = {
        name: value for name, value in request.scope.items() if name in ("app", "client", "http_version", "scheme")
    } | {
        "type": "http",
        "method": method,
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
