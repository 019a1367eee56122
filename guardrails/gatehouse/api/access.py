"""Who may use Gatehouse's own routes: LiteLLM says who asks, the role it gives decides, and every refusal is ours.

Any of LiteLLM's keys will do: the master key, a virtual key, the key that its web interface gets at sign-in.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final

from fastapi import Depends, Request, Response
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from gatehouse.core.errors import AccessDenied, GovernanceError, GovernanceUnavailable, InvalidRequest, SetupError
from gatehouse.proxy.litellm_api import LiteLLMRoutes, LitellmUserRoles, UserAPIKeyAuth, user_api_key_auth

_OUR_ROUTES: Final = "/governance/*"
_AUDITORS: Final = frozenset({LitellmUserRoles.PROXY_ADMIN, LitellmUserRoles.PROXY_ADMIN_VIEW_ONLY})

# LiteLLM answers 401 to whoever is no administrator on a route it does not know, and says nothing of who that was.
# In this list of its own it keeps routes that decide for themselves, once it has authenticated the caller.
if _OUR_ROUTES not in LiteLLMRoutes.self_managed_routes.value:
    LiteLLMRoutes.self_managed_routes.value.append(_OUR_ROUTES)

Caller = Annotated[UserAPIKeyAuth, Depends(user_api_key_auth)]


async def auditor(caller: Caller) -> UserAPIKeyAuth:
    """Administrators, and those who may read what administrators read (`proxy_admin_viewer`).

    Raises:
        AccessDenied: the caller is somebody else.
    """
    if caller.user_role not in _AUDITORS:
        raise AccessDenied(
            "The ledger is for administrators and auditors. Ask with a key of a user whose role is proxy_admin or "
            "proxy_admin_viewer."
        )
    return caller


class GovernanceRoute(APIRoute):
    """A route under /governance: whatever goes wrong is answered in the one shape of our errors."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except GovernanceError as error:
                refusal = error
            except RequestValidationError as error:
                refusal = InvalidRequest(_sentence(error))
            except SetupError as error:
                refusal = GovernanceUnavailable(str(error))
            except HTTPException as error:  # LiteLLM's, when a key's own list of routes does not have this one
                if error.status_code != 403:
                    raise
                refusal = AccessDenied(str(error.detail))
            return JSONResponse(refusal.body(None), refusal.status, dict(refusal.headers))

        return answer


def _sentence(error: RequestValidationError) -> str:
    """The first mistake, without repeating what was sent."""
    first = error.errors()[0]
    return f"{first['loc'][-1]}: {first['msg']}. Correct it and ask again."
