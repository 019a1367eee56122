"""Compiles Presidio's patterns so that words end where ASCII letters and digits end.

Otherwise `\\b` takes letters of Chinese, Korean, Thai and other scripts for a part of the number beside them.
"""

from __future__ import annotations

from typing import Any

import regex  # type: ignore[import-untyped]

DEFAULT_FLAGS = regex.DOTALL | regex.MULTILINE | regex.IGNORECASE


def compiled(pattern: str, flags: int = DEFAULT_FLAGS) -> Any:
    """Compile a pattern with ASCII's classes of characters."""
    return regex.compile(pattern, flags | regex.ASCII)
