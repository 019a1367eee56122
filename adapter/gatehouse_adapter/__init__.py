"""Client for agents behind Gatehouse: the adapter, its results and its errors."""

from gatehouse_adapter import errors, results
from gatehouse_adapter.adapter import LiteLLMAdapter
from gatehouse_adapter.errors import *  # noqa: F403  the whole error family is public
from gatehouse_adapter.results import *  # noqa: F403  and so are all results
from gatehouse_adapter.safety import SafetyConfig
from gatehouse_adapter.streams import ChatStream
from gatehouse_adapter.sync import ChatStreamSync, LiteLLMAdapterSync

__all__ = ["ChatStream", "ChatStreamSync", "LiteLLMAdapter", "LiteLLMAdapterSync", "SafetyConfig"]
__all__ += errors.__all__
__all__ += results.__all__
