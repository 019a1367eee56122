"""What LiteLLM's proprietary package `litellm-enterprise` would do, where it is not installed.

LiteLLM mostly says nothing about what it leaves undone then. A setting that would silently do nothing, or something
else, is a reason not to start.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

from litellm.secret_managers.main import get_secret_bool

# LiteLLM puts some other callback in the place of these.
_LOGGERS: Final = frozenset(("generic_api", "pagerduty", "resend_email", "sendgrid_email", "smtp_email"))
_LISTS: Final = ("callbacks", "success_callback", "failure_callback", "audit_log_callbacks")
_SWITCHES: Final = ("DISABLE_ADMIN_ENDPOINTS", "DISABLE_LLM_API_ENDPOINTS")

_GENERIC: Final = (
    "config.yaml: litellm_settings.{} has `generic_api`, which LiteLLM knows only with its package litellm-enterprise. "
    "Say where to send to under callback_settings.generic_api: callback_type: generic_api, endpoint and headers."
)
_LOGGER: Final = (
    "config.yaml: litellm_settings.{} has `{}`, which is part of LiteLLM's proprietary package litellm-enterprise. "
    "That is not installed; take the name out."
)
_SWITCH: Final = (
    "{0}: only LiteLLM's proprietary package litellm-enterprise obeys it, which is not installed. "
    "Take {0} out of the environment, and close the routes in front of the gateway."
)
_AUTH: Final = (
    "config.yaml: only LiteLLM's proprietary package litellm-enterprise obeys general_settings.custom_auth_settings, "
    "which is not installed: custom_auth would be asked about every call. Take it out, or set its mode to `on`."
)


def installed() -> bool:
    """Whether the operator has installed the package beside what the lock file has."""
    return find_spec("litellm_enterprise") is not None


def stand_in() -> None:
    """Put a name where LiteLLM needs it once a response goes on in the background: it only names a type there."""
    name = "litellm_enterprise.proxy.hooks.managed_files"
    if not installed():
        module = ModuleType(name)
        module.__dict__["PROXY_LiteLLMManagedFiles"] = object
        sys.modules[name] = module


def unmet(config: Mapping[str, Any]) -> str | None:
    """Return what LiteLLM is told to do and cannot without the package, and what to do instead; None for nothing.

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
    """Whether LiteLLM makes the generic logger of these settings, for which it needs no package."""
    return (
        isinstance(declared, dict)
        and declared.get("callback_type") == "generic_api"
        and None not in (declared.get("endpoint"), declared.get("headers"))
    )
