"""Why a call in library mode was not made. None of them is one of LiteLLM's, whose retries and fallbacks pass them on.

* GatehouseError
  x Refused
    + PolicyDeniedError        the gateway said no to the call, or to its answer: `code` says which no
    + ApprovalError
      - ApprovalRejected       a reviewer said no
      - ApprovalTimeout        nobody decided in time, or the approval is used up
    + BadRequest               the call cannot be put to the gateway
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
    """The model was called; what it said may not be used."""
    policies = verdict.get("policies")
    return PolicyDeniedError(
        str(verdict.get("message") or "The gateway withholds the answer."),
        code=str(verdict.get("code") or "content_blocked"),
        call_id=call_id,
        policies=tuple(str(each) for each in policies) if isinstance(policies, list) else (),
    )


def refusal(error: GatehouseError) -> GatehouseError:
    """What a 4xx of the gateway is in library mode."""
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
