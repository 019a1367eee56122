"""Models of our own making, served through LiteLLM: a base class to write one in a few lines, and two to try with.

A provider is one instance of `Provider`. In the proxy, config.yaml names it in `litellm_settings.custom_provider_map`
(`- {provider: echo, custom_handler: gatehouse.providers.echo.provider}`); in a program, `register(provider)` does it.
"""

from __future__ import annotations

from gatehouse.providers.base import Provider, register
from gatehouse.providers.failures import upstream_error
from gatehouse.providers.values import ChatRequest, EmbeddingRequest, Piece, ToolCall

__all__ = ["ChatRequest", "EmbeddingRequest", "Piece", "Provider", "ToolCall", "register", "upstream_error"]
