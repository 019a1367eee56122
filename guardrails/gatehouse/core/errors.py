"""Every error that Gatehouse shows: to a caller over HTTP, and to an operator at the command line.

A class has a docstring where there is more to say than here.

SetupError              the gateway cannot start, or a command cannot do its work
GovernanceError         a request is refused; shaped like an OpenAI error, so that every OpenAI client raises it
|-- UngovernedRoute     403  the pipeline does not see calls on this route
|-- PolicyDenied        403  a rule of policy.yaml denies the call
|   `-- SessionStopped       a person stopped the call's session
|-- ApprovalRequired    403  a person must approve the call first; the caller comes back with the approval's id
|-- ApprovalRejected    403  a person rejected the call
|-- ApprovalExpired     403  the approval has expired or is used up
|-- ApprovalMismatch    403  the approval is for another request, or does not exist
|-- Cancelled           499  the client left while its call was held
|-- ContentBlocked      403  a screen found something, or could not read the whole request
|   `-- SealedContentBlocked 400 a screen found something in what a provider has signed or encrypted
|-- PiiBlocked          403  the request holds forbidden personal data, or text that could not be scanned
|   `-- SealedPiiBlocked     400 personal data stands where nothing can be masked
|-- LimitExceeded       413  the request may use more than the caller's limit for one request
|-- BudgetExceeded      422  the request may cost more than is left of a budget, in LiteLLM's words
|-- InvalidRequest      400  a parameter is wrong, or callers may not set it
|-- ModelNotFound       404  config.yaml has no model of that name
|-- NotFound            404  there is nothing of that name, or it belongs to others
|-- TooLarge            413  the body is over the gateway's bounds
|-- TooSlow             408  the body did not arrive in time
|-- UnsupportedEncoding 415  the gateway does not decode the body's encoding
|-- TooManyRequests     429  the caller has too many calls running or pending approval
|   `-- TooManyOpenRequests      the key has too many pending approvals
|-- GovernanceUnavailable  503  fail closed: a part that the decision needs is not available
|-- EgressMismatch    500  LiteLLM was about to send something else than was admitted
|-- Misconfigured     500  the gateway cannot govern what the operator configured
|-- PlaceholdersCollide 500  two values of the request would have one placeholder
|-- ProviderFailed      502  the call was admitted, and there is no answer of a provider to pass on
|   |-- AnswerTooLarge       the answer is larger than the operator allows
|   |-- UpstreamFailed       the provider failed at every permitted attempt, or cannot be reached
|   |-- UpstreamCutOff       the answer stopped before its end
|   |-- UpstreamUnreadable   the answer is not in the format of the provider's API
|   |-- UpstreamTimedOut 504 the provider did not answer in time
|   |-- UpstreamRests   503  every deployment of the model rests after failures
|   `-- EngineFailed    500  LiteLLM cannot make this call; nothing was sent
`-- of /governance alone:
    |-- AccessDenied    403  the caller's role may not do this
    |-- Conflict        409  it cannot be done now, perhaps later
    `-- Gone            410  its time is over
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from gatehouse.core.reasons import Reason

# OpenAI's `type` of an error, by its status.
_TYPES: Final = {
    403: "permission_error",
    422: "budget_exceeded",
    429: "rate_limit_error",
    499: "permission_error",
    500: "api_error",
    502: "api_error",
    503: "service_unavailable_error",
    504: "api_error",
}
_SOON: Final[Mapping[str, str]] = {"retry-after": "2"}
_NOT_AGAIN: Final[Mapping[str, str]] = {"x-should-retry": "false"}
# Without it the server would wait for the rest of the body.
_CLOSES: Final[Mapping[str, str]] = {"connection": "close"}


class SetupError(Exception):
    """Report that something on this machine or in its configuration keeps Gatehouse from starting.

    The message names the thing, the reason and the next step; the command line prints it and exits with 1.
    """


class GovernanceError(Exception):
    """Report a call that Gatehouse refuses.

    Attributes:
        status: HTTP status of the answer.
        anthropic_status: another status on Anthropic's routes, whose clients show their own words instead of the
            message for some: Claude Code calls 403 a failed sign-in, and 413 a request over 32 MB.
        code: machine-readable reason, one per class.
        policies: ids of the rules that decided, if any.
        approval: `{id, expires_at, status_url}` of the approval concerned, if any.
        param: the field concerned, where its name can be repeated.
        where: the place in the request, such as `messages[14].content`; never what stands there.
    """

    status: ClassVar[int] = 403
    anthropic_status: ClassVar[int | None] = None
    code: ClassVar[Reason] = Reason.GOVERNANCE_ERROR
    headers: Mapping[str, str] = {}

    def __init__(
        self,
        message: str,
        *,
        policies: tuple[str, ...] = (),
        approval: Mapping[str, str] | None = None,
        param: str | None = None,
        where: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.policies = policies
        self.approval = approval
        self.param = param
        self.where = where

    def status_on(self, route: str) -> int:
        """Return the HTTP status of the answer on a route."""
        anthropics = route.startswith("/v1/messages")
        return self.anthropic_status if anthropics and self.anthropic_status is not None else self.status

    def body(self, call_id: str | None) -> dict[str, Any]:
        """Return the answer's JSON body in OpenAI's error shape, with Gatehouse's own facts under `gatehouse`."""
        return {
            "error": {
                "message": self.message,
                "type": _TYPES.get(self.status, "invalid_request_error"),
                "code": self.code,
                "param": self.param,
                "gatehouse": {
                    "call_id": call_id,
                    "policies": list(self.policies),
                    "where": self.where,
                    "approval": None if self.approval is None else dict(self.approval),
                },
            }
        }


class UngovernedRoute(GovernanceError):
    code = Reason.UNGOVERNED_ROUTE


class PolicyDenied(GovernanceError):
    anthropic_status = 400
    code = Reason.POLICY_DENIED


class SessionStopped(PolicyDenied):
    code = Reason.SESSION_STOPPED


class ApprovalRequired(GovernanceError):
    anthropic_status = 400
    code = Reason.APPROVAL_REQUIRED


class ApprovalRejected(GovernanceError):
    anthropic_status = 400
    code = Reason.APPROVAL_REJECTED


class ApprovalExpired(GovernanceError):
    anthropic_status = 400
    code = Reason.APPROVAL_EXPIRED


class ApprovalMismatch(GovernanceError):
    anthropic_status = 400
    code = Reason.APPROVAL_MISMATCH


class Cancelled(GovernanceError):
    """Report that the client left while its call was held. Only the record shows this answer."""

    status = 499
    code = Reason.CANCELLED


class ContentBlocked(GovernanceError):
    anthropic_status = 400
    code = Reason.CONTENT_BLOCKED


class PiiBlocked(GovernanceError):
    anthropic_status = 400
    code = Reason.PII_BLOCKED


class SealedContentBlocked(ContentBlocked):
    status = 400


class SealedPiiBlocked(PiiBlocked):
    status = 400


class LimitExceeded(GovernanceError):
    status = 413
    anthropic_status = 400
    code = Reason.LIMIT_EXCEEDED


class BudgetExceeded(GovernanceError):
    status = 422
    code = Reason.BUDGET_EXCEEDED


class GovernanceUnavailable(GovernanceError):
    """Report that a part which the decision or its record needs is not available; the caller may try again soon."""

    status = 503
    code = Reason.GOVERNANCE_UNAVAILABLE
    headers = _SOON


class EgressMismatch(GovernanceError):
    status = 500
    code = Reason.EGRESS_MISMATCH
    headers = _NOT_AGAIN


class Misconfigured(GovernanceError):
    status = 500
    code = Reason.MISCONFIGURED
    headers = _NOT_AGAIN


class PlaceholdersCollide(GovernanceError):
    """Report two values with one placeholder, so that one could come back as the other. A retry does not help."""

    status = 500
    code = Reason.PLACEHOLDERS_COLLIDE
    headers = _NOT_AGAIN

    def __init__(self) -> None:
        super().__init__(
            "Two values of the request have the same placeholder, so one could come back as the other. Send them in "
            "two requests, or ask the operator to run `gatehouse keys secret rotate`.",
            policies=("pii",),
        )


class InvalidRequest(GovernanceError):
    status = 400
    code = Reason.INVALID_REQUEST


class ModelNotFound(GovernanceError):
    status = 404
    code = Reason.MODEL_NOT_FOUND


class TooLarge(GovernanceError):
    status = 413
    code = Reason.TOO_LARGE
    headers = _CLOSES


class TooSlow(GovernanceError):
    status = 408
    code = Reason.TOO_SLOW
    headers = _CLOSES


class TooManyRequests(GovernanceError):
    status = 429
    code = Reason.TOO_MANY_REQUESTS
    headers = _SOON


class TooManyOpenRequests(TooManyRequests):
    """Report a key with too many pending approvals. People decide them, so a quick retry changes nothing."""

    headers: Mapping[str, str] = {"retry-after": "30"}


class ProviderFailed(GovernanceError):
    """Report that an admitted call has no answer to pass on. The record calls it a failure, not a refusal.

    Attributes:
        url: the address that answered.
    """

    status = 502
    code = Reason.UPSTREAM_FAILED

    def __init__(self, message: str, url: str = "") -> None:
        super().__init__(message)
        self.url = url


class AnswerTooLarge(ProviderFailed):
    code = Reason.ANSWER_TOO_LARGE
    headers = _NOT_AGAIN


class UpstreamFailed(ProviderFailed):
    """Report a provider that failed at every attempt that one call may make, or that cannot be reached."""


class UpstreamCutOff(ProviderFailed):
    code = Reason.UPSTREAM_CUT_OFF


class UpstreamUnreadable(ProviderFailed):
    code = Reason.UPSTREAM_UNREADABLE


class UpstreamTimedOut(ProviderFailed):
    status = 504
    code = Reason.UPSTREAM_TIMED_OUT


class UpstreamRests(ProviderFailed):
    """Report a model whose deployments all rest after failures.

    Args:
        seconds: when one of them is tried again.
    """

    status = 503
    code = Reason.UPSTREAM_RESTS

    def __init__(self, seconds: int) -> None:
        super().__init__(f"The model failed too often and rests. Try again in {seconds} seconds.")
        self.headers = {"retry-after": str(seconds)}


class EngineFailed(ProviderFailed):
    """Report a call that LiteLLM cannot make, as of an API that the model's provider does not have."""

    status = 500
    code = Reason.ENGINE_FAILED
    headers = _NOT_AGAIN

    def __init__(self) -> None:
        super().__init__(
            "LiteLLM could not make this call, and nothing was sent. The same request would fail again: the model may "
            "not have this API, or a field has a value that LiteLLM cannot read. The operator finds the call's id in "
            "the gateway's log."
        )


class UnsupportedEncoding(GovernanceError):
    status = 415
    code = Reason.UNSUPPORTED_ENCODING


class AccessDenied(GovernanceError):
    code = Reason.ACCESS_DENIED


class NotFound(GovernanceError):
    status = 404
    code = Reason.NOT_FOUND


class Conflict(GovernanceError):
    status = 409
    code = Reason.CONFLICT


class Gone(GovernanceError):
    status = 410
    code = Reason.GONE
