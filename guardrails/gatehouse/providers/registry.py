"""Holds the providers of this process by name, and tells LiteLLM of each as it is registered.

LiteLLM keeps its own list, which programs and its proxy overwrite. `initialize_plugins` restores what was lost there;
it may be called at any time and repeatedly. Any thread may call everything here.
"""

from __future__ import annotations

import logging
import re
import threading
from typing import Any

import litellm
from litellm.llms.custom_llm import CustomLLM
from litellm.utils import custom_llm_setup

from gatehouse.providers.plugins import PROVIDERS, LoadedPlugins, Plugin, PluginError, add_logger, installed

log = logging.getLogger("gatehouse.plugins")

# The characters before the slash of a model's name.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class PluginRegistry:
    """Hold providers by name. A process has one registry, `get_registry()`, because LiteLLM has one list."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._providers: dict[str, Any] = {}
        self._plugins: dict[Plugin, Any] = {}

    def register(self, name: str, provider: Any, *, replace: bool = False) -> Any:
        """Make `provider` answer for the models `<name>/...`, here and in LiteLLM.

        Args:
            name: letters, digits, `_`, `.` and `-`; not one of LiteLLM's own providers.
            provider: an instance of `BaseCustomProvider` (or of LiteLLM's `CustomLLM`), or a class without arguments.
            replace: take the place of another provider of this name.

        Returns:
            The instance; the registered one where the same instance, or its class, is registered again.

        Raises:
            ValueError: the name cannot be used, or is taken.
            TypeError: the object is not a provider.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"provider {name!r}: a name has letters, digits, '_', '.' and '-'. Choose another one.")
        a_class = isinstance(provider, type)
        if not (issubclass(provider, CustomLLM) if a_class else isinstance(provider, CustomLLM)):
            raise TypeError(f"provider {name!r}: {provider!r} is not a BaseCustomProvider. Derive its class from that.")
        with self._lock:
            there = self._providers.get(name)
            if there is not None and (there is provider or (a_class and type(there) is provider)):
                _tell_litellm(name, there, replace=replace)
                return there
            if there is not None and not replace:
                raise ValueError(
                    f"provider {name!r} is already registered ({_described(there)}). "
                    "Choose another name, unregister it, or pass replace=True."
                )
            instance = provider() if a_class else provider
            _tell_litellm(name, instance, replace=replace)
            self._providers[name] = instance
            if not getattr(instance, "name", None):
                instance.name = name
            return instance

    def unregister(self, name: str) -> None:
        """Remove a provider, here and in LiteLLM. An unknown name does no harm."""
        with self._lock:
            provider = self._providers.pop(name, None)
            self._plugins = {plugin: it for plugin, it in self._plugins.items() if it is None or it is not provider}
            if provider is None:
                return
            litellm.custom_provider_map = [
                item for item in litellm.custom_provider_map if item["custom_handler"] is not provider
            ]
            if not any(item["provider"] == name for item in litellm.custom_provider_map):
                for names in (litellm.provider_list, litellm._custom_providers):
                    if name in names:
                        names.remove(name)

    def get_provider(self, name: str) -> Any:
        """Return the provider of this name, or None."""
        with self._lock:
            return self._providers.get(name)

    def list_providers(self) -> list[str]:
        """Return the names, sorted."""
        with self._lock:
            return sorted(self._providers)

    def initialize(self, *, strict: bool = False) -> LoadedPlugins:
        """Load the plug-ins of installed packages, and tell LiteLLM of every provider again.

        A plug-in that cannot be loaded is logged, listed in the result and tried again the next time; the others load.

        Args:
            strict: raise instead, after all were tried.

        Raises:
            PluginError: names every plug-in that could not be loaded, and why.
        """
        with self._lock:
            failed: dict[Plugin, str] = {}
            for plugin in installed():
                try:
                    self._plugins[plugin] = self._use(plugin)
                except (Exception, SystemExit) as error:
                    failed[plugin] = f"{plugin}: {type(error).__name__}: {error}"
            of_packages = {plugin.name for plugin in (*self._plugins, *failed) if plugin.group == PROVIDERS}
            for name, provider in self._providers.items():
                if name not in of_packages and not _known_to_litellm(name):
                    _tell_litellm(name, provider, replace=False)
            loaded = [plugin for plugin in self._plugins if plugin not in failed]
        for reason in failed.values():
            log.error("%s", reason)
        if failed and strict:
            raise PluginError(" ".join(f"{reason.rstrip('.')}." for reason in failed.values()) + _NEXT)
        return LoadedPlugins(tuple(loaded), failed)

    def _use(self, plugin: Plugin) -> Any:
        found = self._plugins.get(plugin) or plugin.load()
        if plugin.group == PROVIDERS:
            return self.register(plugin.name, found)
        return add_logger(found)


_NEXT = " Repair, update or uninstall the package."

_registry = PluginRegistry()


def get_registry() -> PluginRegistry:
    """Return the registry of this process."""
    return _registry


register_provider = _registry.register
unregister = _registry.unregister
get_provider = _registry.get_provider
list_providers = _registry.list_providers
initialize_plugins = _registry.initialize


def _known_to_litellm(name: str) -> bool:
    return any(item["provider"] == name for item in litellm.custom_provider_map)


def _tell_litellm(name: str, provider: Any, *, replace: bool) -> None:
    others = [item for item in litellm.custom_provider_map if item["provider"] == name]
    if any(item["custom_handler"] is provider for item in others):
        return
    if others and not replace:
        raise ValueError(
            f"provider {name!r} is already in custom_provider_map ({_described(others[0]['custom_handler'])}). "
            "Choose another name, or remove that one."
        )
    if not others and name in litellm.provider_list and name not in litellm._custom_providers:
        raise ValueError(f"provider {name!r} is one of LiteLLM's own. Choose another name.")
    remaining = [item for item in litellm.custom_provider_map if item["provider"] != name]
    litellm.custom_provider_map = [*remaining, {"provider": name, "custom_handler": provider}]
    custom_llm_setup()


def _described(provider: Any) -> str:
    return f"{type(provider).__module__}.{type(provider).__qualname__}"
