"""One view of a model call, whatever API shape it came in, and the scope that lives as long as its connection.

`GovernedCall` is what the pipeline decides on. `CallScope` is what the middleware, the hooks and the settlement share;
it travels in a context variable, so a hook finds the scope of the call it runs for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from gatehouse.errors import GovernanceError


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asked, as LiteLLM authenticated them; only `end_user` is what the caller says."""

    key_hash: str | None = None
    key_alias: str | None = None
    user: str | None = None
    team: str | None = None
    org: str | None = None
    role: str | None = None
    end_user: str | None = None


@dataclass(frozen=True, slots=True)
class GovernedCall:
    """One call as the pipeline sees it."""

    call_id: UUID
    started_at: datetime
    route: str
    call_type: str
    model: str | None
    stream: bool
    caller: Caller


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
    """How a call ended: status, what answered, what it cost (US dollars), and an error's code when there was one."""

    status: Status
    http_status: int | None = None
    model: str | None = None
    provider: str | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    cache_hit: bool | None = None
    error: str | None = None
    client_gone: bool = False


@dataclass(slots=True, eq=False)
class CallScope:
    """The life of one call from first byte to disconnect.

    `intent` becomes true once its row is committed; only then may anything go upstream. `refusal` replaces whatever
    LiteLLM would answer. `exempt` marks a route that policy.yaml lets through without governance.
    """

    call_id: UUID
    route: str
    started_at: datetime
    started: float
    exempt: bool = False
    call: GovernedCall | None = None
    litellm_call_id: str | None = None
    intent: bool = False
    intent_tried: bool = False
    refusal: GovernanceError | None = None
    outcome: Outcome | None = None
    settled: bool = False
    client_gone: bool = False
    http_status: int | None = None
    failure: str | None = None
    on_settled: Callable[[], None] | None = field(default=None, repr=False)


current_scope: ContextVar[CallScope | None] = ContextVar("gatehouse_call_scope", default=None)
