"""The scope of one call, which lives as long as its connection and travels in a context variable.

Each stage writes its own part of it, and what a stage decided is a frozen value: it is there once the stage is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from gatehouse.core.call import Attempt, GovernedCall, Outcome, Payer, new_salt
from gatehouse.core.decision import Decision
from gatehouse.core.errors import GovernanceError, ProviderFailed
from gatehouse.dialects.admitted import Admitted
from gatehouse.dialects.canonical import CallerNames, CanonicalRequest
from gatehouse.dialects.stored_responses import StoredResponse
from gatehouse.guards.pii.masking import Mask
from gatehouse.pipeline.conversations import StoredCall

if TYPE_CHECKING:
    from gatehouse.approvals.model import Approval
    from gatehouse.pipeline.caller_screens import CallerScreens
    from gatehouse.pipeline.in_force import PolicyInForce
    from gatehouse.policy.facts import Facts


@dataclass(frozen=True, slots=True)
class Incoming:
    """What the edge read of a request, before LiteLLM knew who asks.

    Attributes:
        effort: how much there is to be read in the body (`guards.offload`).
        fault: what is wrong with it; its caller is told once LiteLLM knows them.
        top_level: the names at the top of the body as it came, and whether each is but a number or a switch.
        names: those that are the caller's own, where LiteLLM keeps notes beside them.
        new_fields: those that no API has.
        asks_usage: a stream is to end with what it used.
        repeated: the client asks again by itself, after an earlier answer was an error.
    """

    effort: int = 0
    fault: GovernanceError | None = None
    top_level: Mapping[str, bool] = field(default_factory=dict)
    names: CallerNames = field(default_factory=CallerNames)
    new_fields: tuple[str, ...] = ()
    asks_usage: bool = False
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class EngineNotes:
    """What LiteLLM says of a call once it knows who asks.

    Attributes:
        call_id: LiteLLM's own.
        retries: those that the caller asks for.
        charge: has the proxy count dollars that it takes for none.
    """

    call_id: str | None = None
    retries: int | None = None
    charge: Callable[[float], None] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Considered:
    """What admission found out and decided, as far as it came. A refused call is recorded with it too.

    Attributes:
        request: as it may leave; of a refused call, as it was then.
    """

    request: CanonicalRequest | None = field(default=None, repr=False)
    facts: Facts | None = None
    decision: Decision | None = None


@dataclass(frozen=True, slots=True)
class LetThrough:
    """What holds for a call that admission let through, and for no other.

    Attributes:
        models: those that it was decided on.
        approval: the one that it used up.
        attempt_usd: what one attempt may cost; None where that is not known.
        input_usd: what one costs without an answer.
        output_usd_per_token: what a token of an answer costs; None where answers are not paid by token.
    """

    models: frozenset[str] = frozenset()
    approval: Approval | None = field(default=None, repr=False)
    attempt_usd: float | None = None
    input_usd: float | None = None
    output_usd_per_token: float | None = None


@dataclass(slots=True, eq=False)
class Delivered:
    """Count what a client received of an answer, for calls of which the engine gives no account.

    Attributes:
        size: bytes.
        events: events of a stream.
        end: the last bytes, where an answer says what it used.
    """

    size: int = 0
    events: int = 0
    end: bytes = field(default=b"", repr=False)

    def add(self, body: bytes) -> None:
        """Count what is sent."""
        self.size += len(body)
        self.events += body.count(b"data:")
        self.end = (self.end + body[-_END_BYTES:])[-_END_BYTES:]


# More than any provider's account of tokens has.
_END_BYTES: Final = 4096


@dataclass(slots=True, eq=False)
class ProviderAnswer:
    """What a provider answered to one request, as it came.

    Attributes:
        attempt: the attempt that it answers.
        origin: scheme, host and port of who answered.
        kind: its media type.
        headers: those that its caller gets.
        own: its API is the caller's, so that it can be passed on as it is.
        body: what came of it; of a stream, what was not passed on yet. Empty where nobody will read it.
        failed: the event by which a stream says that it failed.
    """

    attempt: Attempt
    origin: str | None
    status: int
    kind: str
    headers: tuple[tuple[str, str], ...] = ()
    own: bool = False
    body: bytearray = field(default_factory=bytearray, repr=False)
    failed: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def is_error(self) -> bool:
        """Tell whether it is an error from its beginning."""
        return self.status >= 400


@dataclass(slots=True, eq=False)
class Sending:
    """What leaves for the providers, and what comes back. The gateway writes it.

    Attributes:
        admitted: what may leave.
        attempts: the times that it did.
        reserved: for how many of them that may be billed its payers' budgets have room.
        answer: the last answer to any of them.
        error: the last answer that reports an error; one of the requested model counts before those of its fallbacks.
        unreachable: the last request got no answer.
        response_id: of a request about a stored response, the id by which LiteLLM finds it.
        beside: LiteLLM's own steering values beside that.
        provider_failed: why the last answer of a provider may not pass for one.
    """

    admitted: Admitted | None = field(default=None, repr=False)
    attempts: list[Attempt] = field(default_factory=list)
    reserved: int = 1
    answer: ProviderAnswer | None = field(default=None, repr=False)
    error: ProviderAnswer | None = field(default=None, repr=False)
    unreachable: bool = False
    response_id: str = ""
    beside: Mapping[str, Any] = field(default_factory=dict, repr=False)
    provider_failed: ProviderFailed | None = None

    def begins(self, attempt: Attempt) -> None:
        """Note that a request leaves."""
        self.answer, self.unreachable = None, False
        if self._is_requested(attempt):
            self.error = None

    def answered(self, answer: ProviderAnswer) -> None:
        """Note an answer."""
        self.answer = answer
        if answer.is_error or answer.failed is not None:
            if self.error is None or self._is_requested(answer.attempt):
                self.error = answer
        else:
            self.error = None

    def _is_requested(self, attempt: Attempt) -> bool:
        return not self.attempts or attempt.group == self.attempts[0].group


@dataclass(slots=True, eq=False)
class Ending:
    """What those who carry the answer see of it, until the call is settled.

    Attributes:
        http_status: what the client was answered with.
        delivered: what it received.
        client_gone: it left before it had all of the answer.
        closed: the connection is over.
        blocked: why the answer was not passed on, or not to its end.
        outcome: how the model's part ended.
        inner_usd: what calls cost that LiteLLM made on the way, such as a router's classifier.
        failure: the kind of error that LiteLLM named.
        on_settled: is called once the call is settled.
    """

    http_status: int | None = None
    delivered: Delivered = field(default_factory=Delivered)
    client_gone: bool = False
    closed: bool = False
    blocked: GovernanceError | None = None
    outcome: Outcome | None = None
    inner_usd: float = 0.0
    failure: str | None = None
    settled: bool = False
    on_settled: Callable[[], None] | None = field(default=None, repr=False)


@dataclass(slots=True, eq=False)
class CallScope:
    """The life of one call from first byte to disconnect.

    Attributes:
        about: the stored response that it is about, and what it does with it.
        exempt: policy.yaml lets the route through without governance.
        sender: whose turns are taken before the caller is known.
        salt: what the hash of the prompt is salted with.
        hidden: what stands in all records, and in LiteLLM's, for names that callers gave, with those names.
        left: is set when the client is gone.
        governance: what the call is decided by, to its end.
        asked_screens: what its caller asks to be blocked, besides what policy.yaml blocks.
        mask: the way back from its placeholders; a stream that is held alive needs it early.
        stored: what is kept of it, because the provider stores its answer.
        payers: who pays for it.
        intent: its row is committed; only then may anything go upstream. `intent_tried`: that was begun.
        refusal: replaces whatever LiteLLM would answer.
    """

    call_id: UUID
    route: str
    started_at: datetime
    started: float
    about: StoredResponse | None = None
    exempt: bool = False
    sender: str = "unnamed"
    salt: bytes = field(default_factory=new_salt, repr=False)
    hidden: dict[str, str] = field(default_factory=dict, repr=False)
    left: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    incoming: Incoming = field(default_factory=Incoming)
    engine: EngineNotes = field(default_factory=EngineNotes)
    call: GovernedCall | None = None
    governance: PolicyInForce | None = field(default=None, repr=False)
    considered: Considered = field(default_factory=Considered)
    asked_screens: CallerScreens | None = None
    mask: Mask | None = field(default=None, repr=False)
    stored: StoredCall | None = field(default=None, repr=False)
    let_through: LetThrough | None = None
    intent_tried: bool = False
    intent: bool = False
    payers: tuple[Payer, ...] = ()
    refusal: GovernanceError | None = None
    sending: Sending = field(default_factory=Sending)
    ending: Ending = field(default_factory=Ending)

    @property
    def turns(self) -> str:
        """In whose turns work is done for it."""
        return self.sender if self.call is None else self.call.caller.turns

    @property
    def approval(self) -> Approval | None:
        """Return the approval that the call used up."""
        return None if self.let_through is None else self.let_through.approval


current_scope: ContextVar[CallScope | None] = ContextVar("gatehouse_call_scope", default=None)


def note_names(call: CallScope, asked: Mapping[str, Any]) -> None:
    """Note which names of a request are the caller's own, where LiteLLM keeps notes beside them."""
    new_fields = tuple(asked.get("extra_body") or ())
    call.incoming = replace(call.incoming, names=CallerNames.of(asked), new_fields=new_fields)
