"""Keeps a garbage collection from crashing the interpreter while it changes a context variable.

CPython up to 3.11 walks the current context's map while it makes the changed one. A collection in between may run a
finaliser that changes a variable too, which frees the map under its feet (python/cpython#148891). LiteLLM's streams
have such a finaliser (`CustomStreamWrapper.__del__`): a gateway under load died of it with SIGSEGV.
"""

from __future__ import annotations

import gc
from contextvars import Context, copy_context

_held: Context | None = None


def guard_contexts() -> None:
    """Hold the context in which a collection begins until the next one begins, from now on."""
    if _hold not in gc.callbacks:
        gc.callbacks.append(_hold)


def _hold(phase: str, info: dict[str, int]) -> None:
    global _held
    if phase == "start":
        _held = copy_context()
