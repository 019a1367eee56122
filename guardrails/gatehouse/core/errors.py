"""Every error that Gatehouse shows: to a caller over HTTP, and to an operator at the command line.

SetupError              the gateway cannot start, or a command cannot do its work
GovernanceError         a request is refused; shaped like an OpenAI error, so that every OpenAI client raises it
|-- UngovernedRoute     403  the pipeline does not see calls on this route
|-- PolicyDenied        403  a rule of policy.yaml denies the call
|-- ApprovalRequired    403  a person must approve the call first; the caller comes back with the approval's id
|-- ApprovalRejected    403  a person rejected the call
|-- ApprovalExpired     403  the approval has expired or is used up
|-- ApprovalMismatch    403  the approval is for another request, or does not exist
|-- Cancelled           499  the client left while its call was held
|-- ContentBlocked      403  a screen found something, or could not read the whole request
|-- PiiBlocked          403  the request holds forbidden personal data, or text that could not be scanned
|-- LimitExceeded       413  the request may use more than the caller's limit for one request
|-- InvalidRequest      400  a parameter is wrong, or callers may not set it
|-- ModelNotFound       404  config.yaml has no model of that name
|-- TooLarge            413  the body is over the gateway's bounds
|-- TooSlow             408  the body did not arrive in time
|-- UnsupportedEncoding 415  the gateway does not decode the body's encoding
|-- TooManyRequests     429  the caller has too many calls running or pending approval
|   `-- TooManyOpenRequests      the key has too many pending approvals
|-- GovernanceUnavailable  503  fail closed: a part that the decision needs is not available
|-- EgressMismatch    500  LiteLLM was about to send something else than was admitted
|-- Misconfigured     500  the gateway cannot govern what the operator configured
|-- PlaceholdersCollide 500  two values of the request would have one placeholder
|-- ProviderFailed      502  the provider answered, and the gateway cannot pass its answer on
|   |-- AnswerTooLarge       the answer is larger than the operator allows
|   |-- UpstreamFailed       the provider failed at every permitted attempt
|   |-- UpstreamCutOff       the answer stopped before its end
|   `-- UpstreamUnreadable   the answer is not in the format of the provider's API
`-- of /governance alone:
    |-- AccessDenied    403  the caller's role may not do this
    |-- NotFound        404  there is nothing of that name
    |-- Conflict        409  it cannot be done now, perhaps later
    `-- Gone            410  its time is over
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class SetupError(Exception):
    """Report that something on this machine or in its configuration keeps Gatehouse from starting.

    The message names the thing, the reason and the next step; the command line prints it and exits with 1.
    """


class GovernanceError(Exception):
    """Report a call that Gatehouse refuses.

    Attributes:
        status: HTTP status of the answer.
        code: machine-readable reason, one per class.
        kind: OpenAI's `type` field.
        policies: ids of the rules that decided, if any.
        approval: `{id, expires_at, status_url}` of the approval concerned, if any.
        param: the field concerned, where its name can be repeated.
    """

    status: ClassVar[int] = 403
    code: ClassVar[str] = "governance_error"
    kind: ClassVar[str] = "permission_error"
    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        message: str,
        *,
        policies: tuple[str, ...] = (),
        approval: Mapping[str, str] | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.policies = policies
        self.approval = approval
        self.param = param

    def body(self, call_id: str | None) -> dict[str, Any]:
        """Return the answer's JSON body in OpenAI's error shape, with Gatehouse's own facts under `gatehouse`."""
        return {
            "error": {
                "message": self.message,
                "type": self.kind,
                "code": self.code,
                "param": self.param,
                "gatehouse": {
                    "call_id": call_id,
                    "policies": list(self.policies),
                    "approval": None if self.approval is None else dict(self.approval),
                },
            }
        }


class UngovernedRoute(GovernanceError):
    """Report a route that could reach a model without passing the pipeline."""

    code = "ungoverned_route"


class PolicyDenied(GovernanceError):
    """Report a call that a rule of policy.yaml denies."""

    code = "policy_denied"


class ApprovalRequired(GovernanceError):
    """Report a call that a person must approve before it is sent."""

    code = "approval_required"


class ApprovalRejected(GovernanceError):
    """Report a call that a person rejected."""

    code = "approval_rejected"


class ApprovalExpired(GovernanceError):
    """Report an approval that has expired, or has already admitted its one request."""

    code = "approval_expired"


class ApprovalMismatch(GovernanceError):
    """Report an approval that is not for this request of this caller."""

    code = "approval_mismatch"


class Cancelled(GovernanceError):
    """Report that the client left while its call was held. Only the record shows this answer."""

    status = 499
    code = "cancelled"


class ContentBlocked(GovernanceError):
    """Report content that a screen blocks, or text that could hide such content from the screens."""

    code = "content_blocked"


class PiiBlocked(GovernanceError):
    """Report personal data that may not be sent, or text that could not be scanned for it."""

    code = "pii_blocked"


class LimitExceeded(GovernanceError):
    """Report a request that may use more tokens, or cost more, than one request of this caller may."""

    status = 413
    code = "limit_exceeded"
    kind = "invalid_request_error"


class GovernanceUnavailable(GovernanceError):
    """Report that a part which the decision or its record needs is not available; the caller may try again soon."""

    status = 503
    code = "governance_unavailable"
    kind = "service_unavailable_error"
    headers: ClassVar[Mapping[str, str]] = {"retry-after": "2"}


class EgressMismatch(GovernanceError):
    """Report that LiteLLM was about to send something else than was admitted. A retry gives the same result."""

    status = 500
    code = "egress_mismatch"
    kind = "api_error"
    headers: ClassVar[Mapping[str, str]] = {"x-should-retry": "false"}


class Misconfigured(GovernanceError):
    """Report a configuration that the gateway cannot govern. A retry gives the same result."""

    status = 500
    code = "misconfigured"
    kind = "api_error"
    headers: ClassVar[Mapping[str, str]] = {"x-should-retry": "false"}


class PlaceholdersCollide(GovernanceError):
    """Report two values with one placeholder, so that one could come back as the other. A retry does not help."""

    status = 500
    code = "placeholders_collide"
    kind = "api_error"
    headers: ClassVar[Mapping[str, str]] = {"x-should-retry": "false"}

    def __init__(self) -> None:
        super().__init__(
            "Two values of the request have the same placeholder, so one could come back as the other. Send them in "
            "two requests, or ask the operator to run `gatehouse keys secret rotate`.",
            policies=("pii",),
        )


class InvalidRequest(GovernanceError):
    """Report a parameter that is wrong."""

    status = 400
    code = "invalid_request"
    kind = "invalid_request_error"


class ModelNotFound(GovernanceError):
    """Report a model that is neither in config.yaml nor was added later."""

    status = 404
    code = "model_not_found"
    kind = "invalid_request_error"


class TooLarge(GovernanceError):
    """Report a body with more bytes, messages or parts than the gateway accepts."""

    status = 413
    code = "too_large"
    kind = "invalid_request_error"
    # Without it the server would wait for the rest of the body.
    headers: ClassVar[Mapping[str, str]] = {"connection": "close"}


class TooSlow(GovernanceError):
    """Report a body that did not arrive in time."""

    status = 408
    code = "too_slow"
    kind = "invalid_request_error"
    # Without it the server would wait for the rest of the body.
    headers: ClassVar[Mapping[str, str]] = {"connection": "close"}


class TooManyRequests(GovernanceError):
    """Report a caller with too many calls running or pending approval. Other callers are served."""

    status = 429
    code = "too_many_requests"
    kind = "rate_limit_error"
    headers: ClassVar[Mapping[str, str]] = {"retry-after": "2"}


class TooManyOpenRequests(TooManyRequests):
    """Report a key with too many pending approvals. People decide them, so a quick retry changes nothing."""

    headers: ClassVar[Mapping[str, str]] = {"retry-after": "30"}


class ProviderFailed(GovernanceError):
    """Report a provider's answer that the gateway cannot pass on. The record calls it a failure, not a refusal.

    Attributes:
        url: the address that answered.
    """

    status = 502
    code = "upstream_failed"
    kind = "api_error"

    def __init__(self, message: str, url: str = "") -> None:
        super().__init__(message)
        self.url = url


class AnswerTooLarge(ProviderFailed):
    """Report an answer, or one event of it, that is larger than the operator allows. A retry gives the same result."""

    code = "answer_too_large"
    headers: ClassVar[Mapping[str, str]] = {"x-should-retry": "false"}


class UpstreamFailed(ProviderFailed):
    """Report a provider that failed at every attempt that one call may make."""


class UpstreamCutOff(ProviderFailed):
    """Report an answer that stopped before its end."""

    code = "upstream_cut_off"


class UpstreamUnreadable(ProviderFailed):
    """Report an answer that is not in the format of the provider's API, such as the page of a proxy before it."""

    code = "upstream_unreadable"


class UnsupportedEncoding(GovernanceError):
    """Report a body in an encoding that the gateway does not decode."""

    status = 415
    code = "unsupported_encoding"
    kind = "invalid_request_error"


class AccessDenied(GovernanceError):
    """Report a caller whom LiteLLM knows, but whose role may not do this."""

    code = "access_denied"


class NotFound(GovernanceError):
    """Report that there is nothing of that name."""

    status = 404
    code = "not_found"
    kind = "invalid_request_error"


class Conflict(GovernanceError):
    """Report something that cannot be done now, and may be possible later."""

    status = 409
    code = "conflict"
    kind = "invalid_request_error"


class Gone(GovernanceError):
    """Report something whose time is over."""

    status = 410
    code = "gone"
    kind = "invalid_request_error"
