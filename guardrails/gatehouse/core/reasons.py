"""Why a call was refused or failed, as callers, records and metrics name it. No word here changes its meaning."""

from __future__ import annotations

from enum import StrEnum

# Each value is its name in lower case.
Reason = StrEnum(
    "Reason",
    # The `code` of an error (`core.errors` says when).
    "GOVERNANCE_ERROR UNGOVERNED_ROUTE POLICY_DENIED APPROVAL_REQUIRED APPROVAL_REJECTED APPROVAL_EXPIRED "
    "APPROVAL_MISMATCH SESSION_STOPPED CANCELLED CONTENT_BLOCKED PII_BLOCKED LIMIT_EXCEEDED BUDGET_EXCEEDED "
    "GOVERNANCE_UNAVAILABLE EGRESS_MISMATCH MISCONFIGURED PLACEHOLDERS_COLLIDE INVALID_REQUEST MODEL_NOT_FOUND "
    "TOO_LARGE TOO_SLOW TOO_MANY_REQUESTS TOO_MANY_ATTEMPTS UPSTREAM_FAILED ANSWER_TOO_LARGE UPSTREAM_CUT_OFF "
    "UPSTREAM_UNREADABLE UPSTREAM_TIMED_OUT UPSTREAM_RESTS ENGINE_FAILED UNSUPPORTED_ENCODING ACCESS_DENIED NOT_FOUND "
    "CONFLICT GONE "
    # What the record alone says of an ending that no error of ours explains.
    "REFUSED_BY_PROXY CLIENT_GONE GATEWAY_STOPPED GATEWAY_DIED NOT_REPORTED DETAILS_REFUSED "
    # Why a stage could not do its work (`gatehouse_stage_errors_total`); from TOO_LONG on, why a text was not scanned.
    "UNKNOWN_SHAPE RULE TOO_LONG TIMEOUT BUSY CROWDED WORKER_CRASHED CLOSED",
)
