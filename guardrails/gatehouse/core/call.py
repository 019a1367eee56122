"""One model call as Gatehouse sees it, whatever API it came in: the request, its caller, its outcome, its attempts.

`GovernedCall` is what the pipeline decides on.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypedDict
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Caller:
    """Identify who asks. LiteLLM authenticated every field but `end_user`, which the caller states.

    Attributes:
        team: the team's alias, which may change; `team_id` does not.
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
        """Return the name under which this caller takes turns for work: the key, else the user, else the team."""
        return self.key_hash or self.user or self.team or "unnamed"


@dataclass(frozen=True, slots=True)
class Agent:
    """Name the agent and its session: from the key's settings, else from the caller."""

    id: str | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True, order=True)
class Payer:
    """Name one of those who pay for a call.

    Attributes:
        kind: key, user, team, team_member, organization, tag, end_user or project.
        id: LiteLLM's id.
        of: a member's team; of an end user, the budget of those who have none of their own.
        limited: the payer's budget, if they have one, limits this call.
    """

    kind: str
    id: str
    of: str = ""
    limited: bool = True


async def _may_use_no_model(_model: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class CallerGrants:
    """Hold what LiteLLM knows of the key's money, and the settings that limit one request.

    Attributes:
        tags: the key's own tags.
        spend_usd: how much the key has spent.
        budget_usd: the key's budget; 0.0 where it has none.
        key_metadata: the key's metadata; its `gatehouse` section may set limits, and so may the one in `team_metadata`.
        headers: the request's headers that set limits or state options for approvals.
        approval_id: the approval that the caller names.
        may_use: tells whether the caller's key may use a model, by the model's name.
        payers: who pays for the call, and whose budgets it must fit.
    """

    tags: tuple[str, ...] = ()
    spend_usd: float = 0.0
    budget_usd: float = 0.0
    key_metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    team_metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    approval_id: str | None = None
    may_use: Callable[[str], Awaitable[bool]] = field(default=_may_use_no_model, repr=False, compare=False)
    payers: tuple[Payer, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """Hold what the caller asked.

    Attributes:
        hash: SHA3-256 of the call's salt and `text`, 64 lower-case hex characters; None where there is no text (audio).
        text: the messages or the input as JSON; None unless policy.yaml's `audit.content` keeps it.
        tools: names of the tools that the request offers.
    """

    hash: str | None = None
    text: str | None = field(default=None, repr=False)
    tools: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ToolCallRecord:
    """Record a tool call of the model. `arguments` is the JSON text that the model wrote, so it is content."""

    tool: str
    arguments: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class GovernedCall:
    """Describe one call as the pipeline sees it.

    Attributes:
        library: the caller calls the model directly and reports the outcome.
        hidden: the hashes that replace caller-given names in `caller`, `agent` and all records, with those names.
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
    grants: CallerGrants = CallerGrants()
    library: bool = False
    hidden: Mapping[str, str] = field(default_factory=dict, repr=False)


def new_salt() -> bytes:
    """Make the salt of a call's commitments, as long as NIST SP 800-132 asks for."""
    return secrets.token_bytes(16)


class Status(StrEnum):
    """Name how a call ended, in the words of the Capsule Protocol's outcome section."""

    SUCCESS = "success"
    FAILURE = "failure"
    PARTIAL = "partial"
    BLOCKED = "blocked"


class CostSource(StrEnum):
    """Name where a cost comes from, where the engine did not say what the call cost."""

    ESTIMATED = "estimated"  # from our own count of what was sent, and of what came
    NO_PRICE = "no_price"  # the model has no price, so the cost is not known


@dataclass(frozen=True, slots=True)
class Usage:
    """Count tokens as the provider or LiteLLM counted them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Record how a call ended: its status, the model that answered, the cost in US dollars, and the code of an error.

    Attributes:
        tool_calls: calls of tools that the request offered; a name that the model made up is left out.
        answer: the model's text; None unless policy.yaml's `audit.content` keeps it.
    """

    status: Status
    http_status: int | None = None
    model: str | None = None
    provider: str | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    cost_source: CostSource | None = None
    cache_hit: bool | None = None
    error: str | None = None
    client_gone: bool = False
    tool_calls: tuple[ToolCallRecord, ...] = ()
    answer: str | None = field(default=None, repr=False)


@dataclass(slots=True, eq=False)
class Attempt:
    """Follow one attempt of LiteLLM to send a call to one deployment, in whichever API's format.

    Attributes:
        group: the model's name in config.yaml.
        deployment: the id of the deployment that LiteLLM chose.
        repeats: how often LiteLLM's HTTP client may repeat the request by itself, by the deployment's settings.
        words: the APIs in whose format LiteLLM has written the call so far.
        sent: a request has left.
        unanswered: a request has left and its provider did not report a failure, so it may be billed.
        failed: the exception of each request that failed after it had left, by that request.
        repeated: how often the request was repeated.
    """

    group: str
    deployment: str | None = None
    repeats: int = 0
    words: set[str] = field(default_factory=set)
    sent: bool = False
    unanswered: bool = False
    failed: dict[object, Exception] = field(default_factory=dict, repr=False)
    repeated: int = 0


class AuditLine(TypedDict):
    """One line of the audit log. What `data` has depends on the event; a call's has its `call_id`."""

    timestamp: str
    event_type: str
    data: dict[str, Any]


# The attempt of the running task. LiteLLM's background tasks have none.
current_attempt: ContextVar[Attempt | None] = ContextVar("gatehouse_attempt", default=None)
