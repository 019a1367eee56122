"""Keeps models that a key may not use out of the lists that LiteLLM shows to the key.

LiteLLM narrows most of its lists to what the caller may use. It does not narrow `/v2/model/info`, which its UI shows to
administrators, nor the lookup of one deployment by its id (`/model/info?litellm_model_id=`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

from litellm.proxy import proxy_server
from litellm.proxy._types import LiteLLMRoutes, LitellmUserRoles
from litellm.proxy.auth.auth_checks import can_key_call_resolved_model

log = logging.getLogger("gatehouse.listings")

_SEES_ALL: Final = frozenset({LitellmUserRoles.PROXY_ADMIN, LitellmUserRoles.PROXY_ADMIN_VIEW_ONLY})
_ALL_MODELS: Final = "/v2/model/info"


def close_to_keys() -> None:
    """Remove the list of all models from the routes that any key may read; administrators keep it."""
    routes: list[str] = LiteLLMRoutes.info_routes.value
    if _ALL_MODELS in routes:
        routes.remove(_ALL_MODELS)


async def listed(key: Any, names: Sequence[str]) -> Sequence[str]:
    """Return the names that the caller may see, of those that LiteLLM would show.

    LiteLLM has narrowed a list of several names; a single name may come from a lookup by a deployment's id.

    Args:
        key: LiteLLM's `UserAPIKeyAuth`.
    """
    if len(names) != 1 or key.user_role in _SEES_ALL:
        return names
    try:
        await can_key_call_resolved_model(names[0], proxy_server.llm_model_list, key, proxy_server.llm_router)
    except Exception as error:  # LiteLLM refuses with several exceptions, and any failure counts as a refusal
        log.info("a key may not use the model whose deployment it looked up (%s)", type(error).__name__)
        return ()
    return names
