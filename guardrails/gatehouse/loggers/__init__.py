"""Callbacks for LiteLLM, in the proxy and in programs without one; each is imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatehouse.loggers.base import BaseCustomLogger as BaseCustomLogger
    from gatehouse.loggers.capsules.logger import CapsuleLogger as CapsuleLogger
    from gatehouse.loggers.examples import ContentFilter as ContentFilter
    from gatehouse.loggers.examples import ResponseModifier as ResponseModifier
    from gatehouse.loggers.request_log import RequestLogger as RequestLogger
    from gatehouse.loggers.texts import TextChange as TextChange
    from gatehouse.loggers.texts import TextModifier as TextModifier

# Name to module: importing this package imports none of them.
_WHERE = {
    "BaseCustomLogger": "gatehouse.loggers.base",
    "CapsuleLogger": "gatehouse.loggers.capsules.logger",
    "ContentFilter": "gatehouse.loggers.examples",
    "RequestLogger": "gatehouse.loggers.request_log",
    "ResponseModifier": "gatehouse.loggers.examples",
    "TextChange": "gatehouse.loggers.texts",
    "TextModifier": "gatehouse.loggers.texts",
}

__all__ = [
    "BaseCustomLogger",
    "CapsuleLogger",
    "ContentFilter",
    "RequestLogger",
    "ResponseModifier",
    "TextChange",
    "TextModifier",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
