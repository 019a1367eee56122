"""Keeps the words of providers and callers out of LiteLLM's own log lines.

LiteLLM logs a provider's error with its whole text and traceback, which may quote the prompt. Inside a governed call a
line keeps its origin, the error's type and status, and the call's id, by which the ledger can be searched; with
LITELLM_LOG=DEBUG, which shows everything anyway, lines stay as they are.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from gatehouse.pipeline.scope import current_scope

# LiteLLM's three loggers; a logger's filter does not see the records of its children.
LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")


class LogFilter(logging.Filter):
    """Replace a record's text while a governed call is being served."""

    def filter(self, record: logging.LogRecord) -> bool:
        scope = current_scope.get()
        if scope is None or scope.exempt:
            return True
        record.msg = f"{_what(record)} in call {scope.call_id}; its text is left out because it may quote the call"
        record.args = None
        record.exc_info = record.exc_text = record.stack_info = None
        return True


def keep_content_out() -> None:
    """Put the filter on LiteLLM's loggers, once."""
    if os.environ.get("LITELLM_LOG", "").upper() == "DEBUG":
        return
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(found, LogFilter) for found in logger.filters):
            logger.addFilter(LogFilter())


def _what(record: logging.LogRecord) -> str:
    error: Any = record.exc_info[1] if record.exc_info else None
    if error is None:
        return record.levelname.lower()
    status = getattr(error, "status_code", None)
    return f"{type(error).__name__} ({status})" if isinstance(status, int) else type(error).__name__
