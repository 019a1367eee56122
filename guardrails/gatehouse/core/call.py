"""One view of a model call, whatever API shape it came in, and the scope that lives as long as its connection.

`GovernedCall` is what the pipeline decides on. `CallScope` is what the middleware, the hooks and the settlement share;
it travels in a context variable, so a hook finds the scope of the call it runs for.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    pass


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
class CallerGrants:
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
    terms: CallerGrants = CallerGrants()
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


# The attempt that is being made by the task that runs. What the proxy does beside it, in tasks of its own, has none.
current_attempt: ContextVar[Attempt | None] = ContextVar("gatehouse_attempt", default=None)
