"""Every error that Gatehouse shows: to a caller over HTTP, and to an operator at the command line.

SetupError              the gateway cannot start, or a command cannot do its work
GovernanceError         a request is refused; shaped like an OpenAI error, so that every OpenAI client raises it
|-- UngovernedRoute     403  the pipeline does not see calls on this route
|-- PolicyDenied        403  a rule of policy.yaml said no
|-- ApprovalRequired    403  a person must approve it first; come back with the approval's id
|-- ApprovalRejected    403  a person said no
|-- ApprovalExpired     403  the approval came too late, or is used up
|-- ApprovalMismatch    403  the approval is for another request, or for nobody's
|-- Cancelled           499  the client left while its call was held
|-- ContentBlocked      403  a screen hit, or the request could not be read in full
|-- PiiBlocked          403  personal data that may not be sent, or text that could not be scanned
|-- LimitExceeded       413  it may use more than one request of this caller may
|-- InvalidRequest      400  a parameter is not what it should be, or may not be set by callers
|-- ModelNotFound       404  no model of config.yaml has that name
|-- TooLarge            413  the body, or what is in it, is over the gateway's bounds
|-- TooSlow             408  the body did not come in time
|-- UnsupportedEncoding 415  the body is packed in a way that the gateway does not unpack
|-- TooManyRequests     429  the caller has as much under way, or waiting for approval, as one may
|   `-- TooManyOpenRequests      of one key are open for approval
|-- GovernanceUnavailable  503  fail closed: a part that the decision needs is not there
|-- EgressMismatch    500  what was about to be sent is not what was admitted
|-- PlaceholdersCollide 500  two values of the request would have one placeholder
|-- ProviderFailed      502  the provider answered, and its answer cannot be passed on
|   |-- AnswerTooLarge       it is larger than the operator allows
|   |-- UpstreamFailed       it failed, as often as it may be asked
|   |-- UpstreamCutOff       it stopped before its end
|   `-- UpstreamUnreadable   it is not what the provider's API answers
`-- of /governance alone:
    |-- AccessDenied    403  LiteLLM knows the caller, whose role may not do this
    |-- NotFound        404  there is nothing by that name
    |-- Conflict        409  not now
    `-- Gone            410  it is over
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class SetupError(Exception):
    """Something on this machine or in its configuration keeps Gatehouse from starting.

    The message is one sentence that names the thing, the reason and the next step; the command line prints it and exits
    with 1.
    """


class GovernanceError(Exception):
    """A call that Gatehouse refuses.

    Attributes:
        status: HTTP status of the answer.
        code: machine-readable reason, one per class.
        kind: OpenAI's `type` field.
        policies: ids of the rules that decided, if any.
        approval: `{id, expires_at, status_url}` of the approval that it is about, if any.
        param: the field that it is about, where its name can be repeated.
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
        """The answer's JSON body in OpenAI's error shape, with our own facts under `gatehouse`."""
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
    """The route could reach a model without passing the pipeline."""

    code = "ungoverned_route"


class PolicyDenied(GovernanceError):
    """A rule of policy.yaml said no."""

    code = "policy_denied"


class ApprovalRequired(GovernanceError):
    """A person must approve this request before it is sent."""

    code = "approval_required"


class ApprovalRejected(GovernanceError):
    """A person said no to this request."""

    code = "approval_rejected"


class ApprovalExpired(GovernanceError):
    """The approval's time is over, or it has admitted its one request."""

    code = "approval_expired"


class ApprovalMismatch(GovernanceError):
    """The approval named is not for this request of this caller."""

    code = "approval_mismatch"


class Cancelled(GovernanceError):
    """The client left while its call was held; nobody reads this answer, but the record does."""

    status = 499
    code = "cancelled"


class ContentBlocked(GovernanceError):
    """A screen found what may not be sent, or said; or text could hide where it cannot be found."""

    code = "content_blocked"


class PiiBlocked(GovernanceError):
    """Personal data that may not be sent, or text that could not be scanned for it."""

    code = "pii_blocked"


class LimitExceeded(GovernanceError):
    """The request may use more tokens, or cost more, than one request of this caller may."""

    status = 413
    code = "limit_exceeded"
    kind = "invalid_request_error"


class GovernanceUnavailable(GovernanceError):
    """A part that the decision or its record needs is not there; the caller may try again soon."""

    status = 503
    code = "governance_unavailable"
    kind = "service_unavailable_error"
    headers: ClassVar[Mapping[str, str]] = {"retry-after": "2"}


class EgressMismatch(GovernanceError):
    """What the proxy was about to send is not what was admitted; asked again, it would be the same."""

    status = 500
    code = "egress_mismatch"
    kind = "api_error"
    headers: ClassVar[Mapping[str, str]] = {"x-should-retry": "false"}


class Misconfigured(GovernanceError):
    """What the operator configured cannot be governed; asked again, it would be the same."""

    status = 500
    code = "misconfigured"
    kind = "api_error"
    headers: ClassVar[Mapping[str, str]] = {"x-should-retry": "false"}


class PlaceholdersCollide(GovernanceError):
    """Two values of the request would have one placeholder, so one could come back as the other; it stays so."""

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
    """A parameter is not what it should be."""

    status = 400
    code = "invalid_request"
    kind = "invalid_request_error"


class ModelNotFound(GovernanceError):
    """No model of config.yaml, or of those added later, has that name."""

    status = 404
    code = "model_not_found"
    kind = "invalid_request_error"


class TooLarge(GovernanceError):
    """The body has more bytes, messages or parts than the gateway takes."""

    status = 413
    code = "too_large"
    kind = "invalid_request_error"
    # Or the server would wait for the rest of the body.
    headers: ClassVar[Mapping[str, str]] = {"connection": "close"}


class TooSlow(GovernanceError):
    """The body did not come in time."""

    status = 408
    code = "too_slow"
    kind = "invalid_request_error"
    # Or the server would wait for the rest of the body.
    headers: ClassVar[Mapping[str, str]] = {"connection": "close"}


class TooManyRequests(GovernanceError):
    """The caller has as much under way, or waiting for approval, as one caller may; others are served."""

    status = 429
    code = "too_many_requests"
    kind = "rate_limit_error"
    headers: ClassVar[Mapping[str, str]] = {"retry-after": "2"}


class TooManyOpenRequests(TooManyRequests):
    """As many requests of one key are open for approval as may be. People decide, so asking sooner changes nothing."""

    headers: ClassVar[Mapping[str, str]] = {"retry-after": "30"}


class ProviderFailed(GovernanceError):
    """The provider answered, and its answer cannot be passed on. The record calls it a failure, not a refusal.

    Attributes:
        url: where it was asked.
    """

    status = 502
    code = "upstream_failed"
    kind = "api_error"

    def __init__(self, message: str, url: str = "") -> None:
        super().__init__(message)
        self.url = url


class AnswerTooLarge(ProviderFailed):
    """The answer, or one event of it, is larger than the operator allows; it would be as large again."""

    code = "answer_too_large"
    headers: ClassVar[Mapping[str, str]] = {"x-should-retry": "false"}


class UpstreamFailed(ProviderFailed):
    """The provider failed each of the times that one call may be sent."""


class UpstreamCutOff(ProviderFailed):
    """The answer stopped before its end."""

    code = "upstream_cut_off"


class UpstreamUnreadable(ProviderFailed):
    """The answer is not what the provider's API answers, such as the page of a proxy before it."""

    code = "upstream_unreadable"


class UnsupportedEncoding(GovernanceError):
    """The body is packed in a way that the gateway does not unpack."""

    status = 415
    code = "unsupported_encoding"
    kind = "invalid_request_error"


class AccessDenied(GovernanceError):
    """LiteLLM knows the caller, whose role may not do this."""

    code = "access_denied"


class NotFound(GovernanceError):
    """There is nothing by that name."""

    status = 404
    code = "not_found"
    kind = "invalid_request_error"


class Conflict(GovernanceError):
    """It cannot be done now, and may be later."""

    status = 409
    code = "conflict"
    kind = "invalid_request_error"


class Gone(GovernanceError):
    """There was a time for it, which is over."""

    status = 410
    code = "gone"
    kind = "invalid_request_error"
