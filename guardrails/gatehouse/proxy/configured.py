"""Reads from LiteLLM's configuration what the edge must know: the bounds for callers, and the headers LiteLLM reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    """Return the bounds for a caller's timeout and retries: the values of config.yaml."""
    router = proxy_server.llm_router
    timeout = getattr(router, "timeout", None) or litellm.request_timeout
    retries = getattr(router, "num_retries", None)
    return CallerBounds(
        float(timeout) if isinstance(timeout, int | float) else CallerBounds().timeout_s,
        retries if isinstance(retries, int) else litellm.num_retries or 0,
    )


_POLICIES: Final = ("retry_policy", "model_group_retry_policy")


def retries_asked(body: Mapping[str, Any]) -> int | None:
    """Return the retries in a request, or in the settings stored with its key or team; None for neither."""
    stored = body.get("router_settings_override") or {}
    wanted = body.get("num_retries")
    if wanted is None:
        wanted = stored.get("num_retries")
    by_policy = max((_max_retries(stored.get(name)) for name in _POLICIES), default=0)
    if not isinstance(wanted, int):
        return by_policy or None
    return max(wanted, by_policy) if wanted else 0


def bound_stored(settings: Any) -> None:
    """Lower the retries that are stored with a key or its team to those of config.yaml."""
    if not isinstance(settings, dict):
        return
    router = proxy_server.llm_router
    limit = max(caller_bounds().num_retries, *(_max_retries(getattr(router, name, None)) for name in _POLICIES))
    for name in ("num_retries", *_POLICIES):
        if name in settings:
            settings[name] = _lowered(settings[name], limit)


def _lowered(value: Any, limit: int) -> Any:
    if isinstance(value, dict):
        return {name: _lowered(inner, limit) for name, inner in value.items()}
    return min(value, limit) if isinstance(value, int | float) else value


def max_attempts(group: str, retries: int | None) -> int:
    """Return how often LiteLLM may send one call to the deployments of a group.

    Args:
        retries: the requested retries; None to count the configuration alone.
    """
    router = proxy_server.llm_router
    params = [each["litellm_params"] for each in router.get_model_list(model_name=group) or ()] if router else []
    if retries is None:
        own = [int(value) for each in params if str(value := each.get("num_retries")).isdigit()]
        retries = max(caller_bounds().num_retries, *own, 0)
    if retries:
        retries = max(retries, *(_max_retries(getattr(router, name, None)) for name in _POLICIES))
    # LiteLLM tries a group whose deployments have an order once for each order.
    return (1 + retries) * (len({each.get("order") for each in params}) or 1)


def _max_retries(policy: Any) -> int:
    """Return the most retries that a retry policy of LiteLLM's has for any error, or any of the policies of groups."""
    values = policy.model_dump() if hasattr(policy, "model_dump") else policy
    if not isinstance(values, Mapping):
        return 0
    return max((value if isinstance(value, int) else _max_retries(value) for value in values.values()), default=0)


def deployment_params(model_id: object) -> Mapping[str, Any] | None:
    """Return the parameters of the operator's deployment with this id, or None where there is none."""
    router = proxy_server.llm_router
    index = router.model_id_to_deployment_index_map.get(model_id) if router is not None else None
    if index is None:
        return None
    params = router.model_list[index]["litellm_params"]
    return {**router.default_litellm_params, **(params if isinstance(params, dict) else params.model_dump())}


def configured_headers() -> ConfiguredHeaders:
    """Return the headers that config.yaml makes LiteLLM read."""
    settings: dict[str, Any] = proxy_server.general_settings or {}
    mappings = settings.get(_MAPPED)
    names = [
        settings.get(_USER),
        *(each.get("header_name") for each in mappings or [] if isinstance(each, dict)),
        "x-forwarded-for" if believes_forwarded_addresses() else None,
    ]
    key = settings.get(_KEY)
    return ConfiguredHeaders(
        key.lower().encode() if isinstance(key, str) else None,
        frozenset(name.lower().encode() for name in names if isinstance(name, str)),
    )


def believes_forwarded_addresses() -> bool:
    """Tell whether config.yaml makes LiteLLM take callers' addresses from `X-Forwarded-For`."""
    return (proxy_server.general_settings or {}).get("use_x_forwarded_for") is True


def logs_spend() -> bool:
    """Tell whether LiteLLM keeps a log of each call's spend."""
    return (proxy_server.general_settings or {}).get("disable_spend_logs") is not True


def always_sends_usage() -> bool:
    """Tell whether config.yaml makes every stream end with what it used."""
    return (proxy_server.general_settings or {}).get("always_include_stream_usage") is True


def configured_tags() -> frozenset[str]:
    """Return the tags of config.yaml's models, and of those added later."""
    router = proxy_server.llm_router
    entries = router.model_list if router is not None else []
    tags = ((entry.get("litellm_params") or {}).get("tags") or () for entry in entries)
    return frozenset(tag for each in tags for tag in each if isinstance(tag, str))


def made_up_model(model: str) -> bool:
    """Tell whether the caller chose the end of this model's name, by a pattern such as `ollama/*`."""
    router = proxy_server.llm_router
    if router is None or model in router.model_names or model in (router.model_group_alias or {}) or _listed(model):
        return False
    patterns = (router.pattern_router, *router.team_pattern_routers.values())
    return any(pattern.route(model) is not None for pattern in patterns)


def _listed(model: str) -> bool:
    """Tell whether LiteLLM's price list has this model."""
    return model in litellm.model_cost


def known_model(model: str) -> str | None:
    """Return a model's name as config.yaml or LiteLLM's price list has it, or its pattern; None for any other."""
    router = proxy_server.llm_router
    if _listed(model):
        return model
    if router is None:
        return None
    groups = [str(entry.get("model_name")) for entry in router.model_list]
    if model in (*groups, *(router.model_group_alias or {}), *_other_names(router)):
        return model
    return next((name for name in groups if name.endswith("*") and model.startswith(name[:-1])), None)


def _other_names(router: Any) -> Iterator[Any]:
    """Yield the names that teams and providers have for models."""
    for entry in router.model_list:
        params, info = entry.get("litellm_params") or {}, entry.get("model_info") or {}
        model = str(params.get("model") or "")
        yield from (info.get("team_public_model_name"), info.get("base_model"), model, model.partition("/")[2])
