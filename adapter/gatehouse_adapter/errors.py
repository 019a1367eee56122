"""Every error the adapter raises, in one family.

* GatehouseError
  x ConfigurationError         an address or a key is missing or cannot be used
  x Refused                    the gateway refused the call, and would refuse the same request again
    + PolicyDenied             policy_denied: by a rule or a decider; session_stopped: by an operator
    + ApprovalError
      - ApprovalRequired       approval_required: a person must approve first; `approval.id` names the approval
      - ApprovalRejected       approval_rejected
      - ApprovalExpired        approval_expired
      - ApprovalTimeout        no reviewer decided while you waited; the approval stays pending
      - ApprovalMismatch       approval_mismatch: this is not the request that was approved
    + ContentBlocked           content_blocked; also by your own SafetyConfig, with no status
    + PIIBlocked               pii_blocked
    + LimitExceeded            limit_exceeded: tokens or cost of this one request; also by your own SafetyConfig
    + BudgetExceeded           budget_exceeded: the key's budget is used up
    + UngovernedRoute          ungoverned_route
    + AuthenticationFailed     401: the key is missing, or the gateway does not know it
    + AccessDenied             any other 403: the key may not use this model or route
    + BadRequest               any other 4xx
      - ModelNotFound          no model of that name
  x RateLimited                429; `retry_after` says when, if the gateway did; or, with no status, your SafetyConfig
  x GovernanceUnavailable      governance_unavailable: refused because the call could not be governed
  x UpstreamError              any other 5xx: the gateway or the model's provider failed
  x CircuitOpen                the gateway failed too often recently, so nothing was sent; see `retry_after`
  x ConnectionFailed           no connection, or it broke before the whole answer was there
  x TimedOut                   no answer in time
  x InvalidResponse            the answer does not follow the protocol
  x StreamInterrupted          a stream that ended before its end

After UpstreamError, ConnectionFailed, TimedOut, InvalidResponse and StreamInterrupted a chat call may have reached the
model and may be charged. The adapter repeats only what was not: no connection at all, or a 503 with a Retry-After.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from gatehouse_adapter.results import Approval

__all__ = [
    "AccessDenied",
    "ApprovalError",
    "ApprovalExpired",
    "ApprovalMismatch",
    "ApprovalRejected",
    "ApprovalRequired",
    "ApprovalTimeout",
    "AuthenticationFailed",
    "BadRequest",
    "BudgetExceeded",
    "CircuitOpen",
    "ConfigurationError",
    "ConnectionFailed",
    "ContentBlocked",
    "GatehouseError",
    "GovernanceUnavailable",
    "InvalidResponse",
    "LimitExceeded",
    "ModelNotFound",
    "PIIBlocked",
    "PolicyDenied",
    "RateLimited",
    "Refused",
    "StreamInterrupted",
    "TimedOut",
    "UngovernedRoute",
    "UpstreamError",
]


class GatehouseError(Exception):
    """Report what went wrong with one call.

    Attributes:
        message: one or two sentences for a person.
        code: a stable word for a program, such as `policy_denied` or `timed_out`.
        status: the HTTP status; for an error inside a stream the one it would have had. None when there was none.
        call_id: the gateway's id of the call, by which an operator finds it in the ledger. None when not known.
        policies: ids of the policy rules that matched, as a list.
        approval: the approval that is required or was refused, if the error is about one.
        retry_after: seconds after which the gateway asks to be called again, or None.
    """

    default_code: ClassVar[str] = "gatehouse_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        call_id: str | None = None,
        policies: Iterable[str] = (),
        approval: Approval | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.status = status
        self.call_id = call_id
        self.policies = list(policies)
        self.approval = approval
        self.retry_after = retry_after

    @property
    def reason(self) -> str:
        """Return `message`, under the name that library mode uses."""
        return self.message

    def __str__(self) -> str:
        facts = [self.code]
        if self.status is not None:
            facts.append(f"status {self.status}")
        if self.call_id is not None:
            facts.append(f"call {self.call_id}")
        return f"{self.message} [{', '.join(facts)}]"


class ConfigurationError(GatehouseError):
    default_code = "configuration_error"


class Refused(GatehouseError):
    default_code = "refused"


class PolicyDenied(Refused):
    default_code = "policy_denied"


class ApprovalError(Refused):
    default_code = "approval_error"


class ApprovalRequired(ApprovalError):
    default_code = "approval_required"


class ApprovalRejected(ApprovalError):
    default_code = "approval_rejected"


class ApprovalExpired(ApprovalError):
    default_code = "approval_expired"


class ApprovalTimeout(ApprovalError):
    default_code = "approval_timeout"


class ApprovalMismatch(ApprovalError):
    default_code = "approval_mismatch"


class ContentBlocked(Refused):
    default_code = "content_blocked"


class PIIBlocked(Refused):
    default_code = "pii_blocked"


class LimitExceeded(Refused):
    default_code = "limit_exceeded"


class BudgetExceeded(Refused):
    default_code = "budget_exceeded"


class UngovernedRoute(Refused):
    default_code = "ungoverned_route"


class AuthenticationFailed(Refused):
    default_code = "authentication_failed"


class AccessDenied(Refused):
    default_code = "access_denied"


class BadRequest(Refused):
    default_code = "bad_request"


class ModelNotFound(BadRequest):
    default_code = "model_not_found"


class RateLimited(GatehouseError):
    default_code = "rate_limited"


class GovernanceUnavailable(GatehouseError):
    default_code = "governance_unavailable"


class UpstreamError(GatehouseError):
    default_code = "upstream_error"


class CircuitOpen(GatehouseError):
    default_code = "circuit_open"


class ConnectionFailed(GatehouseError):
    default_code = "connection_failed"


class TimedOut(GatehouseError):
    default_code = "timed_out"


class InvalidResponse(GatehouseError):
    default_code = "invalid_response"


class StreamInterrupted(GatehouseError):
    default_code = "stream_interrupted"
