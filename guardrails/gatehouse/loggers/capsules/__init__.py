"""CapsuleLogger: a LiteLLM logger that seals each call into a chain of its own.

The names below bring LiteLLM, so they are imported when they are asked for: the commands that read a chain do without.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatehouse.loggers.capsules.logger import CapsuleLogger, answer_hash, prompt_hash

__all__ = ["CapsuleLogger", "answer_hash", "prompt_hash"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("gatehouse.loggers.capsules.logger"), name)
