"""The kit for custom models that LiteLLM serves: base classes, a registry, and two providers to try.

`Provider` is the easy way: one async method that returns text. `BaseCustomProvider` beneath it has LiteLLM's methods.
`register_provider(name, provider)` registers one in a program, `litellm_settings.custom_provider_map` in the gateway,
and an installed package's entry points in both (docs/plugins.md).
"""

from __future__ import annotations

from gatehouse.providers.base import BaseCustomProvider
from gatehouse.providers.echo import EchoProvider
from gatehouse.providers.failures import upstream_error
from gatehouse.providers.mock_api import MockAPIProvider
from gatehouse.providers.plugins import LoadedPlugins, Plugin, PluginError
from gatehouse.providers.provider import Provider
from gatehouse.providers.registry import (
    PluginRegistry,
    get_provider,
    get_registry,
    initialize_plugins,
    list_providers,
    register_provider,
    unregister,
)
from gatehouse.providers.values import ChatRequest, EmbeddingRequest, Piece, ToolCall

__all__ = [
    "BaseCustomProvider",
    "ChatRequest",
    "EchoProvider",
    "EmbeddingRequest",
    "LoadedPlugins",
    "MockAPIProvider",
    "Piece",
    "Plugin",
    "PluginError",
    "PluginRegistry",
    "Provider",
    "ToolCall",
    "get_provider",
    "get_registry",
    "initialize_plugins",
    "list_providers",
    "register_provider",
    "unregister",
    "upstream_error",
]
