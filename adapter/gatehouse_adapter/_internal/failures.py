"""Turns failures into the adapter's errors: an error answer, an error inside a stream, a broken connection.

Pure functions. They trust no server to send the right shape, and cut the key out of everything.
"""

from __future__ import annotations

import email.utils
import json
import math
from collections.abc import Mapping
from typing import Any

import httpx

from gatehouse_adapter import errors
from gatehouse_adapter.errors import GatehouseError
from gatehouse_adapter.results import Approval

# Each code with its status, also for an error inside a stream under 200.
_CODES: Mapping[str, tuple[type[GatehouseError], int]] = {
    "policy_denied": (errors.PolicyDenied, 403),
    "session_stopped": (errors.PolicyDenied, 403),
    "approval_required": (errors.ApprovalRequired, 403),
    "approval_rejected": (errors.ApprovalRejected, 403),
    "approval_expired": (errors.ApprovalExpired, 403),
    "approval_mismatch": (errors.ApprovalMismatch, 403),
    "content_blocked": (errors.ContentBlocked, 403),
    "pii_blocked": (errors.PIIBlocked, 403),
    "limit_exceeded": (errors.LimitExceeded, 413),
    "ungoverned_route": (errors.UngovernedRoute, 403),
    "governance_unavailable": (errors.GovernanceUnavailable, 503),
    # LiteLLM's `type`; its status is configurable.
    "budget_exceeded": (errors.BudgetExceeded, 422),
    # OpenAI's.
    "model_not_found": (errors.ModelNotFound, 404),
}
_STATUSES: Mapping[int, type[GatehouseError]] = {
    401: errors.AuthenticationFailed,
    403: errors.AccessDenied,
    408: errors.TimedOut,
    429: errors.RateLimited,
}
# LiteLLM has no code for it: 400 with this sentence (ProxyModelNotFoundError in proxy/route_llm_request.py, 1.106).
_UNKNOWN_MODEL = "Invalid model name passed in"
_MAX_MESSAGE = 2000
_MAX_WORD = 200


def call_id(headers: Mapping[str, str]) -> str | None:
    """Return the gateway's id of a call from the headers of its answer."""
    return headers.get("x-gatehouse-call-id") or None


def from_answer(
    status: int, headers: Mapping[str, str], body: bytes, *, base_url: str, api_key: str, now: float
) -> GatehouseError:
    """Return the error for an answer that is not 2xx. `now`: seconds since the epoch, for a Retry-After with a date."""
    retry_after = seconds_to_wait(headers.get("retry-after"), now)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and found and not 300 <= status < 400:
        # LiteLLM wraps errors in `error`; FastAPI wraps those that LiteLLM lets through in `detail`.
        for wrapper in ("detail", "error"):
            if isinstance(found, dict) and found.get(wrapper):
                found = found[wrapper]
        return from_error_object(
            found, status=status, call_id=call_id(headers), retry_after=retry_after, api_key=api_key
        )
    cls = _class(None, status, "")
    excerpt = body[:_MAX_WORD].decode("utf-8", errors="replace").strip()
    if 300 <= status < 400:
        cls = errors.InvalidResponse
        message = f"{base_url} answered with a redirect, which is not followed. Set the address it leads to."
    elif excerpt:
        kind = headers.get("content-type", "").partition(";")[0].strip() or "something"
        message = (
            f"{base_url} answered {status} with {kind} that is not a JSON object, so it may come from a proxy between "
            f"here and the gateway. It begins: {excerpt}"
        )
    else:
        message = f"{base_url} answered {status} without a reason. See the gateway's log."
    return cls(
        _clean(message, api_key, _MAX_MESSAGE),
        status=status,
        call_id=_text(call_id(headers), api_key),
        retry_after=retry_after,
    )


def from_error_object(
    found: Any, *, status: int, call_id: str | None, api_key: str, retry_after: float | None = None
) -> GatehouseError:
    """Return the error for an OpenAI-shaped error object, or for whatever stands in its place.

    `status` is the HTTP answer's. When it is 2xx (an error inside a stream) the object's own word counts: LiteLLM
    writes the status into `code`, as text.
    """
    fields: Mapping[str, Any] = found if isinstance(found, dict) else {"message": found}
    code, kind = (str(fields[key]) if isinstance(fields.get(key), str | int) else "" for key in ("code", "type"))
    known = next((word for word in (code, kind) if word in _CODES), None)
    effective: int | None = status
    if status < 400:
        effective = _CODES[known][1] if known else int(code) if code in _STATUS_WORDS else None
    message = _clean(_message(fields), api_key, _MAX_MESSAGE)
    word = known or (code if code not in ("", "None") and not code.isdigit() else None)

    ours = fields.get("gatehouse")
    extra: Mapping[str, Any] = ours if isinstance(ours, dict) else {}
    policies = extra.get("policies")
    return _class(known, effective, message)(
        message,
        code=_text(word, api_key),
        status=effective,
        call_id=_text(extra.get("call_id"), api_key) or _text(call_id, api_key),
        policies=tuple(_clean(p, api_key) for p in policies if isinstance(p, str))
        if isinstance(policies, list)
        else (),
        approval=_approval(extra.get("approval"), api_key),
        retry_after=retry_after,
    )


def from_transport(
    exc: httpx.HTTPError, *, base_url: str, api_key: str, status: int | None = None, call_id: str | None = None
) -> GatehouseError:
    """Return the error for a call without an answer, or with its beginning only, whose status and call id are known."""
    why = _clean(str(exc), api_key) or type(exc).__name__
    cls: type[GatehouseError] = errors.TimedOut
    if isinstance(exc, httpx.ConnectTimeout):
        message = f"{base_url} accepted no connection in time. Check the address, and that the gateway runs."
    elif isinstance(exc, httpx.PoolTimeout):
        message = "All connections of this adapter stayed busy until the time-out. Send fewer calls at once."
    elif isinstance(exc, httpx.TimeoutException):
        message = f"{base_url} did not answer in time. Allow a longer timeout, or ask for a shorter answer."
    elif isinstance(exc, httpx.ConnectError):
        cls = errors.ConnectionFailed
        message = f"No connection to {base_url}: {why}. Check the address, and that the gateway runs."
    elif isinstance(exc, httpx.DecodingError):
        cls = errors.InvalidResponse
        message = f"The answer of {base_url} is damaged: {why}. Look for a proxy that changes answers."
    else:
        cls = errors.ConnectionFailed
        message = (
            f"The connection to {base_url} broke before the answer was complete: {why}. "
            "The call may have been carried out; repeat it only if that does no harm."
        )
    return cls(message, status=status, call_id=_text(call_id, api_key))


def seconds_to_wait(header: str | None, now: float) -> float | None:
    """Return a Retry-After header in seconds from `now` (RFC 9110, 10.2.3: seconds or a date); None when unreadable."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


_STATUS_WORDS = frozenset(str(status) for status in range(400, 600))


def _class(code: str | None, status: int | None, message: str) -> type[GatehouseError]:
    if code is not None:
        return _CODES[code][0]
    if status is None or not 400 <= status < 500:
        return errors.UpstreamError
    if status in (400, 404) and _UNKNOWN_MODEL in message:
        return errors.ModelNotFound
    return _STATUSES.get(status, errors.BadRequest)


def _message(fields: Mapping[str, Any]) -> str:
    found = fields.get("message") or fields.get("status")
    if not found:
        return "The gateway gave no reason."
    if isinstance(found, str):
        return found
    try:
        return json.dumps(found)  # FastAPI sends a list of mistakes
    except RecursionError:
        return "The gateway gave a reason that cannot be read."


def _approval(found: Any, api_key: str) -> Approval | None:
    if not isinstance(found, dict) or not isinstance(found.get("id"), str):
        return None
    return Approval(
        id=_clean(found["id"], api_key),
        expires_at=_text(found.get("expires_at"), api_key),
        status_url=_text(found.get("status_url"), api_key, _MAX_MESSAGE),
        raw=found,
    )


def _text(value: Any, api_key: str, limit: int = _MAX_WORD) -> str | None:
    return _clean(value, api_key, limit) if isinstance(value, str) and value else None


def _clean(text: str, api_key: str, limit: int = _MAX_WORD) -> str:
    """Return a short text without the key, and without control characters that could forge log lines."""
    return one_line(text.replace(api_key, "[api key]"), limit)


def one_line(text: str, limit: int = _MAX_MESSAGE) -> str:
    """Make a foreign text fit for a message: short, and without control characters that could forge lines."""
    text = "".join(c if c.isprintable() else " " for c in text).strip()
    return text if len(text) <= limit else text[:limit] + "…"
