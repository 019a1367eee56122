"""Access to Gatehouse's own routes: LiteLLM says who asks, their role decides, and Gatehouse answers every refusal.

Any of LiteLLM's keys will do: the master key, a virtual key, the key that its web interface gets at sign-in.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final

from fastapi import Depends, Request, Response
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel

from gatehouse.core.errors import AccessDenied, GovernanceError, GovernanceUnavailable, InvalidRequest, SetupError
from gatehouse.proxy.litellm_api import LiteLLMRoutes, LitellmUserRoles, UserAPIKeyAuth, user_api_key_auth

_OUR_ROUTES: Final = "/governance/*"
_AUDITORS: Final = frozenset({LitellmUserRoles.PROXY_ADMIN, LitellmUserRoles.PROXY_ADMIN_VIEW_ONLY})

# On a route it does not know, LiteLLM answers 401 to all but administrators, and does not say who asked.
# In this list of its own it keeps routes that decide for themselves, once it has authenticated the caller.
if _OUR_ROUTES not in LiteLLMRoutes.self_managed_routes.value:
    LiteLLMRoutes.self_managed_routes.value.append(_OUR_ROUTES)

Caller = Annotated[UserAPIKeyAuth, Depends(user_api_key_auth)]


async def auditor(caller: Caller) -> UserAPIKeyAuth:
    """Let administrators pass, and those who may read what administrators read (`proxy_admin_viewer`).

    Raises:
        AccessDenied: the caller is neither.
    """
    if caller.user_role not in _AUDITORS:
        raise AccessDenied(
            "The ledger is for administrators and auditors. Ask with a key of a user whose role is proxy_admin or "
            "proxy_admin_viewer."
        )
    return caller


class GovernanceRoute(APIRoute):
    """A route under /governance, which answers whatever goes wrong in the one shape of Gatehouse's errors."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as error:
                refusal = self.refusal(error)
                if refusal is None:
                    raise
            return JSONResponse(refusal.body(None), refusal.status, dict(refusal.headers))

        return answer

    def refusal(self, error: Exception) -> GovernanceError | None:
        """Return how this is answered; None where LiteLLM answers it."""
        match error:
            case GovernanceError():
                return error
            case RequestValidationError():
                return InvalidRequest(_sentence(error))
            case SetupError():
                return GovernanceUnavailable(str(error))
            case HTTPException(status_code=403):  # LiteLLM's, when a key's own list of routes does not have this one
                return AccessDenied(str(error.detail))
        return None


def takes(kind: type[BaseModel]) -> dict[str, Any]:
    """Return what the description says of a body that the route reads itself."""
    schema = kind.model_json_schema()
    parts = schema.pop("$defs", {})

    def whole(node: Any) -> Any:
        """Put the parts into it: readers look a reference up in the description as a whole."""
        if isinstance(node, dict) and "$ref" in node:
            return whole(parts[node["$ref"].rpartition("/")[2]])
        if isinstance(node, dict):
            return {name: whole(each) for name, each in node.items()}
        return [whole(each) for each in node] if isinstance(node, list) else node

    return {"requestBody": {"required": True, "content": {"application/json": {"schema": whole(schema)}}}}


def _sentence(error: RequestValidationError) -> str:
    """Name the first mistake without repeating what the caller sent."""
    first = error.errors()[0]
    return f"{first['loc'][-1]}: {first['msg']}. Correct it and ask again."
