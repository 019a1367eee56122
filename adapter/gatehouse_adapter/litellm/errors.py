"""The errors of library mode. None derives from LiteLLM's, because LiteLLM's retries and fallbacks would handle those.

* GatehouseError
  x Refused
    + PolicyDeniedError        the gateway refused the call or its answer; see `code`
    + ApprovalError
      - ApprovalRejected       a reviewer rejected the call
      - ApprovalTimeout        no reviewer decided in time, or the approval is used up
    + BadRequest               the call cannot be sent to the gateway
  x GovernanceUnavailable      no decision, and fail_open is False

Each has `reason`, `policies`, `code`, `call_id` and `approval`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatehouse_adapter.errors import ApprovalExpired, ApprovalRejected, ApprovalTimeout, GatehouseError, Refused

__all__ = ["ApprovalTimeout", "PolicyDeniedError"]


class PolicyDeniedError(Refused):
    default_code = "policy_denied"


def withheld(verdict: Mapping[str, Any], call_id: str) -> PolicyDeniedError:
    """Return the error for an answer that may not be used."""
    policies = verdict.get("policies")
    return PolicyDeniedError(
        str(verdict.get("message") or "The gateway withholds the answer."),
        code=str(verdict.get("code") or "content_blocked"),
        call_id=call_id,
        policies=tuple(str(each) for each in policies) if isinstance(policies, list) else (),
    )


def refusal(error: GatehouseError) -> GatehouseError:
    """Turn the gateway's 4xx error into library mode's."""
    if isinstance(error, ApprovalRejected):
        return error
    cls: type[GatehouseError] = ApprovalTimeout if isinstance(error, ApprovalExpired) else PolicyDeniedError
    return cls(
        error.message,
        code=error.code,
        status=error.status,
        call_id=error.call_id,
        policies=error.policies,
        approval=error.approval,
        retry_after=error.retry_after,
    )
