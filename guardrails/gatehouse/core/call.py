"""One view of a model call, whatever API shape it came in, and the scope that lives as long as its connection.

`GovernedCall` is what the pipeline decides on. `CallScope` is what the middleware, the hooks and the settlement share;
it travels in a context variable, so a hook finds the scope of the call it runs for.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from gatehouse.core.decision import Decision
from gatehouse.core.errors import GovernanceError, ProviderFailed
from gatehouse.dialects.admitted import Admitted
from gatehouse.dialects.canonical import CallerNames, CanonicalRequest
from gatehouse.guards.pii.masking import Mask

if TYPE_CHECKING:
    from gatehouse.approvals.model import Approval
    from gatehouse.pipeline.in_force import Governance
    from gatehouse.policy.facts import Facts


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asked, as LiteLLM authenticated them; only `end_user` is what the caller says.

    Attributes:
        team: what people call it, which may change; `team_id` stays.
    """

    key_hash: str | None = None
    key_alias: str | None = None
    user: str | None = None
    team: str | None = None
    org: str | None = None
    role: str | None = None
    end_user: str | None = None
    team_id: str | None = None

    @property
    def turns(self) -> str:
        """In whose turns work is done for them: their key's, or where they came without one, their user's."""
        return self.key_hash or self.user or self.team or "unnamed"


@dataclass(frozen=True, slots=True)
class Agent:
    """Which agent asks, and in which session: as the key says, else as the caller says."""

    id: str | None = None
    session: str | None = None


async def _nobody_may(_model: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Terms:
    """What the proxy knows of the key's money, and who says how much one request may use.

    Attributes:
        tags: the key's own.
        spend_usd: what the key has spent.
        budget_usd: 0.0 where it has none.
        key_metadata: the key's, and `team_metadata` its team's: their `gatehouse` sections may set limits.
        headers: the request's that set limits, and those that say what the caller wants of approvals.
        approval_id: the approval that the caller names.
        may_use: whether the caller's key may use another model, by its name.
    """

    tags: tuple[str, ...] = ()
    spend_usd: float = 0.0
    budget_usd: float = 0.0
    key_metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    team_metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    approval_id: str | None = None
    may_use: Callable[[str], Awaitable[bool]] = field(default=_nobody_may, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What was asked.

    Attributes:
        hash: SHA3-256 of the call's salt and `text`, 64 lower-case hex characters; None where there is no text (audio).
        text: the messages or the input as JSON; None unless policy.yaml's `audit.content` keeps it.
        tools: names of the tools that the request offers.
    """

    hash: str | None = None
    text: str | None = field(default=None, repr=False)
    tools: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool the model asked for. `arguments` is JSON text as the model wrote it, which is content."""

    tool: str
    arguments: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class GovernedCall:
    """One call as the pipeline sees it.

    Attributes:
        library: the caller calls the model themselves, and reports how it ended.
        hidden: what stands for names that the caller gave, in `caller`, `agent` and all records, with those names.
    """

    call_id: UUID
    started_at: datetime
    route: str
    call_type: str
    model: str | None
    stream: bool
    caller: Caller
    agent: Agent = Agent()
    prompt: Prompt = Prompt()
    terms: Terms = Terms()
    library: bool = False
    hidden: Mapping[str, str] = field(default_factory=dict, repr=False)


def new_salt() -> bytes:
    """What a call's commitments are salted with: as long as what NIST's SP 800-132 asks for."""
    return secrets.token_bytes(16)


class Status(StrEnum):
    """How a call ended; the words are those of the Capsule Protocol's outcome section."""

    SUCCESS = "success"
    FAILURE = "failure"
    PARTIAL = "partial"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider or LiteLLM counted them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended: status, what answered, what it cost (US dollars), and an error's code when there was one.

    Attributes:
        tool_calls: of the tools that the request offered, never a name that the model made up.
        answer: what the model said; None unless policy.yaml's `audit.content` keeps it.
    """

    status: Status
    http_status: int | None = None
    model: str | None = None
    provider: str | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    cache_hit: bool | None = None
    error: str | None = None
    client_gone: bool = False
    tool_calls: tuple[ToolCall, ...] = ()
    answer: str | None = field(default=None, repr=False)


@dataclass(slots=True, eq=False)
class Attempt:
    """One time that the proxy sends a call, whatever it says it in.

    Attributes:
        group: the model as config.yaml names it.
        deployment: the id of the one that was chosen.
        repeats: how often a client of the proxy's may send it again by itself, as its deployment says.
        words: the APIs in whose words the proxy has said it.
        sent: something was sent.
        unanswered: it left, and its provider did not say that it failed: it may be billed.
        failed: how it failed after it had left, by what was sent.
        repeated: how often it was sent again.
    """

    group: str
    deployment: str | None = None
    repeats: int = 0
    words: set[str] = field(default_factory=set)
    sent: bool = False
    unanswered: bool = False
    failed: dict[object, Exception] = field(default_factory=dict, repr=False)
    repeated: int = 0


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
    governance: Governance | None = field(default=None, repr=False)
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


current_scope: ContextVar[CallScope | None] = ContextVar("gatehouse_call_scope", default=None)

# The attempt that is being made by the task that runs. What the proxy does beside it, in tasks of its own, has none.
current_attempt: ContextVar[Attempt | None] = ContextVar("gatehouse_attempt", default=None)
