"""Finds settings that only LiteLLM's proprietary package `litellm-enterprise` obeys, where it is not installed.

LiteLLM ignores most of them without a word. The gateway does not start with a setting that would do nothing, or
something else than it says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

from litellm.secret_managers.main import get_secret_bool

# LiteLLM replaces these with some other callback.
_LOGGERS: Final = frozenset(("generic_api", "pagerduty", "resend_email", "sendgrid_email", "smtp_email"))
_LISTS: Final = ("callbacks", "success_callback", "failure_callback", "audit_log_callbacks")
_SWITCHES: Final = ("DISABLE_ADMIN_ENDPOINTS", "DISABLE_LLM_API_ENDPOINTS")

_GENERIC: Final = (
    "config.yaml: litellm_settings.{} has `generic_api`, which LiteLLM knows only with its package litellm-enterprise. "
    "Configure it under callback_settings.generic_api instead: callback_type: generic_api, endpoint and headers."
)
_LOGGER: Final = (
    "config.yaml: litellm_settings.{} has `{}`, which needs LiteLLM's proprietary package litellm-enterprise. "
    "That is not installed. Remove the name."
)
_SWITCH: Final = (
    "{0}: only LiteLLM's proprietary package litellm-enterprise obeys it, which is not installed. "
    "Take {0} out of the environment, and close the routes in front of the gateway."
)
_AUTH: Final = (
    "config.yaml: only LiteLLM's proprietary package litellm-enterprise obeys general_settings.custom_auth_settings. "
    "It is not installed, so LiteLLM would ask custom_auth about every call. Remove it, or set its mode to `on`."
)


def installed() -> bool:
    """Tell whether the operator has installed the package in addition to the lock file's."""
    return find_spec("litellm_enterprise") is not None


def stand_in() -> None:
    """Define the name that LiteLLM imports once a response continues in the background, where it only names a type."""
    name = "litellm_enterprise.proxy.hooks.managed_files"
    if not installed():
        module = ModuleType(name)
        module.__dict__["PROXY_LiteLLMManagedFiles"] = object
        sys.modules[name] = module


def unmet(config: Mapping[str, Any]) -> str | None:
    """Return a setting that LiteLLM cannot obey without the package, and what to do instead; None where there is none.

    Args:
        config: config.yaml, with what LiteLLM's database adds to it.
    """
    return None if installed() else next(_unmet(config), None)


def _unmet(config: Mapping[str, Any]) -> Iterator[str]:
    settings, declared = (config.get(name) or {} for name in ("litellm_settings", "callback_settings"))
    for place in _LISTS:
        names = settings.get(place) or []
        for name in [names] if isinstance(names, str) else names:
            if name == "generic_api":
                if not _sends_somewhere(declared.get(name)):
                    yield _GENERIC.format(place)
            elif name in _LOGGERS:
                yield _LOGGER.format(place, name)
    for switch in _SWITCHES:
        if get_secret_bool(switch):
            yield _SWITCH.format(switch)
    auth = (config.get("general_settings") or {}).get("custom_auth_settings")
    if auth and auth.get("mode") != "on":
        yield _AUTH


def _sends_somewhere(declared: Any) -> bool:
    """Tell whether LiteLLM makes the generic logger from these settings, which it can do without the package."""
    return (
        isinstance(declared, dict)
        and declared.get("callback_type") == "generic_api"
        and None not in (declared.get("endpoint"), declared.get("headers"))
    )
