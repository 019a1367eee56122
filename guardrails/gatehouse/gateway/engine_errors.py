"""Says in Gatehouse's words what LiteLLM could not do, and keeps LiteLLM's inner parts out of its own errors.

LiteLLM answers many faults with its own exception's text: Python tracebacks, paths of the machine, addresses of
providers, the names of other models. An error of a provider is not made here (`passthrough`).
"""

from __future__ import annotations

import json
import logging
import math
import re
import traceback
from pathlib import Path
from typing import Final

import litellm
from litellm.types.router import RouterRateLimitError, RouterRateLimitErrorBasic

from gatehouse.core.errors import (
    EngineFailed,
    ProviderFailed,
    UpstreamFailed,
    UpstreamRests,
    UpstreamTimedOut,
    UpstreamUnreadable,
)
from gatehouse.gateway.destinations import is_ours
from gatehouse.pipeline.scope import CallScope

log = logging.getLogger("gatehouse.engine")

UNREADABLE: Final = (
    "The provider's answer is not in its API's format. Try again; tell the operator if it happens again."
)
_UNREACHABLE: Final = "The provider cannot be reached. Try again; tell the operator if it happens again."
_TIMED_OUT: Final = "The provider did not answer in time. Try again, with a shorter request or a longer timeout."
_DEFAULT_REST_S: Final = 10

# What LiteLLM appends to an exception's message: other models, deployments and their faults, its own code.
_INNER: Final = re.compile(
    r"\s*(?:LiteLLM: model group|Received Model Group|Available Model Group|No fallback model group|Passed model="
    r"|Traceback \(most recent call last\)|This looks like a bug in LiteLLM|Handle with `litellm\.|File \"/).*",
    re.DOTALL,
)


def explained(error: Exception, call: CallScope) -> ProviderFailed | None:
    """Return what became of an admitted call without a provider's error; None where LiteLLM's own words say it."""
    status = status_of(error)
    if isinstance(error, RouterRateLimitError | RouterRateLimitErrorBasic):
        return UpstreamRests(max(1, math.ceil(getattr(error, "cooldown_time", _DEFAULT_REST_S))))
    if isinstance(error, litellm.Timeout):
        return UpstreamTimedOut(_TIMED_OUT)
    if status is not None and 400 <= status < 500:
        return None
    if call.sending.unreachable:
        return UpstreamFailed(_UNREACHABLE)
    if call.sending.answer is not None or (status is not None and status < 400):
        # LiteLLM would answer with the status of what it could not read.
        return UpstreamUnreadable(UNREADABLE)
    last = call.sending.attempts[-1] if call.sending.attempts else None
    if last is not None and (last.sent or is_ours(last.deployment)) and not _is_fault(error):
        return None
    if last is not None and last.sent:
        return UpstreamUnreadable(UNREADABLE)
    log.error("LiteLLM could not make call %s: %s", call.call_id, _where(error))
    return EngineFailed()


def _is_fault(error: Exception) -> bool:
    """Tell an exception of Python, which LiteLLM wraps with its traceback, from an error that it reports."""
    return not hasattr(error, "status_code") or "Traceback (most recent call last)" in str(error)


def _where(error: Exception) -> str:
    """Name an exception and the lines that it passed, without its text, which may quote the call."""
    lines = [
        f"{Path(frame.filename).name}:{frame.lineno} ({frame.name})"
        for each in (error, error.__context__)
        if each is not None
        for frame in traceback.extract_tb(each.__traceback__)[-3:]
    ]
    return f"{type(error).__name__}, at {', '.join(lines) or 'no known line'}"


def status_of(error: Exception) -> int | None:
    """Return the HTTP status that an exception has."""
    for name in ("status_code", "code"):
        value = getattr(error, name, None)
        if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
            return int(value)
    return None


def cleaned(body: bytes) -> bytes:
    """Return an error of LiteLLM's, in OpenAI's or Anthropic's shape, with its message alone.

    Args:
        body: one JSON object; anything else stays as it is.
    """
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return body
    error = said.get("error") if isinstance(said, dict) else None
    if not isinstance(error, dict) or not isinstance(message := error.get("message"), str):
        return body
    if (kept := _INNER.sub("", message)) == message:
        return body
    error["message"] = kept or "LiteLLM could not make this call."
    return json.dumps(said, ensure_ascii=False).encode(errors="backslashreplace")


def cleaned_event(event: bytes) -> bytes:
    """Return the event of a stream with LiteLLM's error, cleaned."""
    head, data, rest = event.partition(b"data:")
    body, end, others = rest.partition(b"\n")
    return head + data + b" " + cleaned(body.strip()) + end + others
