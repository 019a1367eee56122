"""Tells whether a LiteLLM key may use a model, by the checks that LiteLLM itself makes before a call.

Promises: every doubt counts as no, such as a key that cannot be looked up or a model that is not served.
"""

from __future__ import annotations

import logging
from typing import Any

from litellm.constants import LITELLM_PROXY_MASTER_KEY_ALIAS
from litellm.proxy import proxy_server
from litellm.proxy._types import UserAPIKeyAuth, hash_token
from litellm.proxy.auth.auth_checks import (
    can_key_call_resolved_model,
    can_user_call_model,
    get_key_object,
    get_user_object,
)

from gatehouse.proxy.catalog import Deployments

log = logging.getLogger("gatehouse.key_models")

_DEPLOYMENTS = Deployments()


def serves(key: Any, model: str) -> bool:
    """Tell whether a caller with this key may name the model at all; see `Deployments.serves`."""
    return _DEPLOYMENTS.serves(model, getattr(key, "team_id", None))


def sends_new_fields(call_type: str, model: str) -> bool:
    """Tell whether LiteLLM passes unknown fields on; see `Deployments.sends_new_fields`."""
    return _DEPLOYMENTS.sends_new_fields(call_type, model)


async def may_use(key: Any, model: str) -> bool:
    """Tell whether the key, as LiteLLM authenticated it, may use this model of config.yaml or of those added later."""
    try:
        return serves(key, model) and await _allowed(key, model)
    except Exception as error:  # LiteLLM refuses with several exceptions, and any failure counts as a refusal
        log.info("a key may not use the model that an approver chose (%s)", type(error).__name__)
        return False


async def hash_may_use(key_hash: str | None, model: str) -> bool:
    """Say whether the key with this hash may use this model, as `may_use` does for one that LiteLLM authenticated."""
    master = proxy_server.master_key
    if key_hash is None:
        return False
    if key_hash == LITELLM_PROXY_MASTER_KEY_ALIAS or (master and key_hash == hash_token(master)):
        return bool(_DEPLOYMENTS.of(model))
    try:
        key = await get_key_object(
            hashed_token=key_hash,
            prisma_client=proxy_server.prisma_client,
            user_api_key_cache=proxy_server.user_api_key_cache,
            proxy_logging_obj=proxy_server.proxy_logging_obj,
        )
    except Exception as error:
        log.info("the key that asked could not be looked up (%s)", type(error).__name__)
        return False
    return await may_use(key, model)


async def _allowed(key: UserAPIKeyAuth, model: str) -> bool:
    if key.agent_id is not None:  # LiteLLM has no public check for an agent's own grants
        return False
    await can_key_call_resolved_model(model, proxy_server.llm_model_list, key, proxy_server.llm_router)
    if key.team_id is None and key.user_id is not None:
        user = await get_user_object(
            user_id=key.user_id,
            prisma_client=proxy_server.prisma_client,
            user_api_key_cache=proxy_server.user_api_key_cache,
            user_id_upsert=False,
            proxy_logging_obj=proxy_server.proxy_logging_obj,
        )
        await can_user_call_model(model, proxy_server.llm_router, user)
    return True
