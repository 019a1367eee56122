"""What LiteLLM's configuration says that the edge must know: how far callers may go, and which headers it reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import litellm
from litellm.proxy import proxy_server

from gatehouse.dialects.caller_fields import CallerBounds
from gatehouse.dialects.caller_headers import ConfiguredHeaders

# Settings of config.yaml's `general_settings` that name headers.
_KEY: Final = "litellm_key_header_name"
_USER: Final = "user_header_name"
_MAPPED: Final = "user_header_mappings"


def caller_bounds() -> CallerBounds:
    """How far a caller may set timeout and retries: as far as config.yaml has them."""
    router = proxy_server.llm_router
    timeout = getattr(router, "timeout", None) or litellm.request_timeout
    retries = getattr(router, "num_retries", None)
    return CallerBounds(
        float(timeout) if isinstance(timeout, int | float) else CallerBounds().timeout_s,
        retries if isinstance(retries, int) else litellm.num_retries or 0,
    )


def deployment_params(model_id: object) -> Mapping[str, Any] | None:
    """Return the parameters of the operator's deployment with this id, or None where there is none."""
    router = proxy_server.llm_router
    index = router.model_id_to_deployment_index_map.get(model_id) if router is not None else None
    if index is None:
        return None
    params = router.model_list[index]["litellm_params"]
    return {**router.default_litellm_params, **(params if isinstance(params, dict) else params.model_dump())}


def configured_headers() -> ConfiguredHeaders:
    """The headers that config.yaml has LiteLLM read."""
    settings: dict[str, Any] = proxy_server.general_settings or {}
    mappings = settings.get(_MAPPED)
    names = [
        settings.get(_USER),
        *(each.get("header_name") for each in mappings or [] if isinstance(each, dict)),
        "x-forwarded-for" if settings.get("use_x_forwarded_for") is True else None,
    ]
    key = settings.get(_KEY)
    return ConfiguredHeaders(
        key.lower().encode() if isinstance(key, str) else None,
        frozenset(name.lower().encode() for name in names if isinstance(name, str)),
    )
