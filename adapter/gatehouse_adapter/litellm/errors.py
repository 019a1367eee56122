"""The errors of library mode. None derives from LiteLLM's, because LiteLLM's retries and fallbacks would handle those.

* GatehouseError
  x Refused
    + PolicyDeniedError        the gateway refused the call or its answer; see `code`
      - ApprovalRejected       a reviewer rejected the call; the adapter's error too
      - ApprovalTimeout        no reviewer decided in time, or the approval is used up; the adapter's error too
    + BadRequest               the call cannot be sent to the gateway
  x GovernanceUnavailable      no decision, and fail_open is False

Each has `reason`, `policies`, `code`, `call_id` and `approval`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gatehouse_adapter import errors
from gatehouse_adapter.errors import ApprovalExpired, GatehouseError, Refused

__all__ = ["ApprovalRejected", "ApprovalTimeout", "PolicyDeniedError"]


class PolicyDeniedError(Refused):
    default_code = "policy_denied"


class ApprovalRejected(PolicyDeniedError, errors.ApprovalRejected):
    default_code = "approval_rejected"


class ApprovalTimeout(PolicyDeniedError, errors.ApprovalTimeout):
    default_code = "approval_timeout"


_OURS: Final[Mapping[type[GatehouseError], type[PolicyDeniedError]]] = {
    errors.ApprovalRejected: ApprovalRejected,
    ApprovalExpired: ApprovalTimeout,
}


def withheld(verdict: Mapping[str, Any], call_id: str) -> PolicyDeniedError:
    """Return the error for an answer that may not be used."""
    policies = verdict.get("policies")
    return PolicyDeniedError(
        str(verdict.get("message") or "The gateway withholds the answer."),
        code=str(verdict.get("code") or "content_blocked"),
        call_id=call_id,
        policies=tuple(str(each) for each in policies) if isinstance(policies, list) else (),
    )


def refusal(error: GatehouseError) -> PolicyDeniedError:
    """Turn the gateway's 4xx error into library mode's."""
    return _OURS.get(type(error), PolicyDeniedError)(
        error.message,
        code=error.code,
        status=error.status,
        call_id=error.call_id,
        policies=error.policies,
        approval=error.approval,
        retry_after=error.retry_after,
    )
