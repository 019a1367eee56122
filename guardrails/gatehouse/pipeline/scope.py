"""The scope of one call, which lives as long as its connection and travels in a context variable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from gatehouse.core.call import Attempt, GovernedCall, Outcome, new_salt
from gatehouse.core.decision import Decision
from gatehouse.core.errors import GovernanceError, ProviderFailed
from gatehouse.dialects.admitted import Admitted
from gatehouse.dialects.canonical import CallerNames, CanonicalRequest
from gatehouse.guards.pii.masking import Mask

if TYPE_CHECKING:
    from gatehouse.approvals.model import Approval
    from gatehouse.pipeline.in_force import PolicyInForce
    from gatehouse.policy.facts import Facts


@dataclass(slots=True, eq=False)
class CallScope:
    """The life of one call from first byte to disconnect.

    `intent` becomes true once its row is committed; only then may anything go upstream. `refusal` replaces whatever
    LiteLLM would answer. `exempt` marks a route that policy.yaml lets through without governance. `governance` is
    what the call is decided by to its end; `models` are those that it was decided on. `mask` is the way back from
    placeholders, and lives nowhere else; `replaced` is what each masked text is now, until LiteLLM's copies are
    masked too. `hidden` is what stands in all records, and in LiteLLM's, for names that callers gave, with those names.
    `salt` is what the hash of the prompt is salted with. `sender` is whose turns are taken before the caller is known,
    `effort` how much there is to be read in the body (`guards.offload`).
    `fault` is what is wrong with the request as it came, of which its caller is told once LiteLLM knows
    them; `said` are the names at the top of its body as it came, and whether each is but a number or a switch;
    `names` are the caller's own in it, `new_fields` those that no API has; `request` is what was read.
    `approval` is the one that the call used up. `admitted` is what may leave, `attempts` the times that it did;
    `retries` are those that the caller asks for. `attempt_usd` is what one may cost, `input_usd` what it costs without
    an answer; `charge` has the proxy count it. `provider_failed` says why the last answer of a provider may not pass
    for one. `left` is set when the client is gone, `closed` when the connection is
    over.
    """

    call_id: UUID
    route: str
    started_at: datetime
    started: float
    exempt: bool = False
    call: GovernedCall | None = None
    decision: Decision | None = None
    governance: PolicyInForce | None = field(default=None, repr=False)
    facts: Facts | None = None
    models: set[str] = field(default_factory=set)
    mask: Mask | None = None
    replaced: dict[str, str] = field(default_factory=dict, repr=False)
    hidden: dict[str, str] = field(default_factory=dict, repr=False)
    salt: bytes = field(default_factory=new_salt, repr=False)
    approval: Approval | None = field(default=None, repr=False)
    admitted: Admitted | None = field(default=None, repr=False)
    attempts: list[Attempt] = field(default_factory=list)
    retries: int | None = None
    attempt_usd: float | None = None
    input_usd: float | None = None
    charge: Callable[[float], None] | None = field(default=None, repr=False)
    left: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    litellm_call_id: str | None = None
    intent: bool = False
    intent_tried: bool = False
    sender: str = "unnamed"
    effort: int = 0
    fault: GovernanceError | None = None
    said: Mapping[str, bool] = field(default_factory=dict)
    names: CallerNames = field(default_factory=CallerNames)
    request: CanonicalRequest | None = field(default=None, repr=False)
    new_fields: tuple[str, ...] = ()
    refusal: GovernanceError | None = None
    answer_blocked: GovernanceError | None = None
    provider_failed: ProviderFailed | None = None
    outcome: Outcome | None = None
    closed: bool = False
    settled: bool = False
    client_gone: bool = False
    http_status: int | None = None
    failure: str | None = None
    on_settled: Callable[[], None] | None = field(default=None, repr=False)

    @property
    def turns(self) -> str:
        """In whose turns work is done for it."""
        return self.sender if self.call is None else self.call.caller.turns


current_scope: ContextVar[CallScope | None] = ContextVar("gatehouse_call_scope", default=None)


def note_names(call: CallScope, asked: Mapping[str, Any]) -> None:
    """Note which names of a request are the caller's own, where LiteLLM keeps notes beside them."""
    call.names = CallerNames.of(asked)
    call.new_fields = tuple(asked.get("extra_body") or ())
