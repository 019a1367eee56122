"""What LiteLLM's proprietary package `litellm-enterprise` would do, where it is not installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType


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
