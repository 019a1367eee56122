"""`RequestLogger`: one line of JSON for each call, without anything that was said, unless it is told to."""

from __future__ import annotations

import json
import logging
from typing import Any

from gatehouse.loggers.base import BaseCustomLogger

log = logging.getLogger("gatehouse.requests")

_FIELDS = {
    "id": "call_id",
    "call_type": "call_type",
    "model": "model",
    "custom_llm_provider": "provider",
    "prompt_tokens": "prompt_tokens",
    "completion_tokens": "completion_tokens",
    "response_cost": "cost_usd",
    "cache_hit": "cache_hit",
}


class RequestLogger(BaseCustomLogger):
    """Writes a line to the Python logger `gatehouse.requests`, level INFO, when a call has ended.

    Args:
        verbose: also write what was asked and answered. The gateway's configuration hides both from callbacks
            (`turn_off_message_logging`).
    """

    def __init__(self, verbose: bool = False) -> None:
        super().__init__()
        self.verbose = verbose

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._write("success", kwargs, start_time, end_time)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._write("failure", kwargs, start_time, end_time)

    def _write(self, status: str, kwargs: Any, start_time: Any, end_time: Any) -> None:
        record = kwargs.get("standard_logging_object") or {}
        line = {"status": status, "seconds": round((end_time - start_time).total_seconds(), 3)}
        line |= {ours: record.get(theirs) for theirs, ours in _FIELDS.items()}
        if status == "failure":  # the class alone: a provider's message may quote the request
            line["error"] = type(kwargs.get("exception")).__name__
        if self.verbose:
            line |= {"messages": record.get("messages"), "answer": record.get("response")}
        log.info("%s", json.dumps(line, default=str))


logger = RequestLogger()
