"""Finds and loads plug-ins: objects that installed packages declare under one of two entry-point groups.

A plug-in is code that runs inside the process with all of its rights. Whoever installs one must trust it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import litellm
from litellm.integrations.custom_logger import CustomLogger

from gatehouse.core.errors import SetupError

PROVIDERS: Final = "gatehouse.providers"
"""Entry points that name a provider (an instance, or a class without arguments); their name is the provider's."""

LOGGERS: Final = "gatehouse.loggers"
"""Entry points that name a logger (an instance, or a class without arguments)."""


class PluginError(SetupError):
    """Report that a plug-in cannot be used. The message names it, its package and the problem."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """Describe one entry point.

    Attributes:
        group: `gatehouse.providers` or `gatehouse.loggers`.
        name: the package's name for it.
        value: `module:object`.
        package: the distribution's name and version.
    """

    group: str
    name: str
    value: str
    package: str

    def __str__(self) -> str:
        return f"plug-in {self.name!r} of {self.package} ({self.group}: {self.value})"

    def load(self) -> Any:
        """Import and return the object."""
        return EntryPoint(self.name, self.value, self.group).load()


@dataclass(frozen=True, slots=True)
class LoadedPlugins:
    """List the installed plug-ins that are in use, and the others with the reason."""

    loaded: tuple[Plugin, ...]
    failed: Mapping[Plugin, str]


def installed() -> Iterator[Plugin]:
    """Yield every plug-in that an installed package declares, once."""
    seen: set[Plugin] = set()
    for group in (PROVIDERS, LOGGERS):
        for entry in sorted(entry_points(group=group)):
            package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unnamed package"
            plugin = Plugin(group, entry.name, entry.value, package)
            if plugin not in seen:
                seen.add(plugin)
                yield plugin


def add_logger(logger: Any) -> Any:
    """Put a logger, or an instance of a logger's class, before LiteLLM's other callbacks, once.

    The gateway then decides on the request as the plug-ins left it.

    Raises:
        TypeError: the object is not a logger.
    """
    if isinstance(logger, type) and issubclass(logger, CustomLogger):
        logger = logger()
    if not isinstance(logger, CustomLogger):
        raise TypeError(f"{logger!r} is not a BaseCustomLogger")
    if not any(there is logger for there in litellm.callbacks):
        litellm.callbacks.insert(0, logger)
    return logger


def changes_after(decider: Any) -> str | None:
    """Return the first callback after `decider` that may change a request, LiteLLM's own aside; None without one."""
    behind = litellm.callbacks[litellm.callbacks.index(decider) + 1 :]
    for callback in behind:
        hook = getattr(type(callback), "async_pre_call_hook", None)
        if hook is not None and hook.__module__.split(".")[0] not in ("litellm", "litellm_enterprise"):
            return f"{type(callback).__module__}.{type(callback).__qualname__}"
    return None
