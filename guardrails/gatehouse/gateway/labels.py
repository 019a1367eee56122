"""Lists the labels of LiteLLM's metrics that a caller could make up, and the values to show for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Final

from gatehouse.core.names import is_hidden, is_plain
from gatehouse.dialects.caller_headers import known_product
from gatehouse.gateway.exposition import OTHER, Shown
from gatehouse.gateway.routes import template_of
from gatehouse.proxy.configured import known_model

_MODELS: Final = ("requested_model", "model", "model_group", "litellm_model_name", "fallback_model")
_SWITCH: Final = ("True", "False")


def labels() -> Mapping[str, Shown]:
    """Return, by label, a function for the value to show. The operator, LiteLLM or a provider sets the others."""
    return {
        **dict.fromkeys(_MODELS, _or_other(known_model)),
        "route": _or_other(template_of),
        "user_agent": _or_other(known_product),
        "client_ip": _or_other(_address),
        "stream": _or_other(lambda said: said if said in _SWITCH else None),
        # LiteLLM counts by end user where config.yaml says so, and callers choose the end users.
        "end_user": _or_other(lambda name: name if is_plain(name) or is_hidden(name) else None),
    }


def _or_other(known: Callable[[str], str | None]) -> Shown:
    return lambda value: known(value) or OTHER


def _address(text: str) -> str | None:
    try:
        return str(ip_address(text))
    except ValueError:
        return None
