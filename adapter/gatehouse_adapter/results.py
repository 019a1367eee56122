"""The adapter's results: frozen values with typed fields, which also answer like the JSON they came from.

`health.healthy` and `health["healthy"]` are the same, and `completion["choices"]` reaches a part of the gateway's
answer that has no field of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

__all__ = [
    "Approval",
    "BudgetStatus",
    "ChatChunk",
    "Completion",
    "CostEstimate",
    "Health",
    "Model",
    "Result",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
    "UsageStats",
]


class Result(Mapping[str, Any]):
    """Map the names of a dataclass's fields, then the keys of `raw` that are not fields.

    `raw` is the gateway's own JSON object, unchanged. It is only an attribute, so that nothing appears twice.
    """

    __slots__ = ()
    _synonyms: ClassVar[Mapping[str, str]] = {}
    raw: Mapping[str, Any]

    def _names(self) -> tuple[str, ...]:
        return tuple(f.name for f in fields(self) if f.name != "raw")  # type: ignore[arg-type]  # subclasses are dataclasses

    def __getitem__(self, key: str) -> Any:
        key = self._synonyms.get(key, key)
        return getattr(self, key) if key in self._names() else self.raw[key]

    def __iter__(self) -> Iterator[str]:
        names = self._names()
        yield from names
        yield from (key for key in self.raw if key not in names)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def to_dict(self) -> dict[str, Any]:
        """Return the same content in plain dicts and lists, fit for `json.dumps`."""
        return {key: _plain(value) for key, value in self.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Result):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no infinity
    return value


@dataclass(frozen=True, slots=True)
class Usage(Result):
    """Hold the tokens of one call, as the gateway counted them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ToolCall(Result):
    """Describe a function call of the model. `arguments` is the model's text, which may fail to be JSON."""

    id: str
    name: str
    arguments: str
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ToolCallDelta(Result):
    """Hold a piece of a tool call. Pieces of the same `index` belong together; join their `arguments` in order."""

    index: int
    id: str | None
    name: str | None
    arguments: str
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Completion(Result):
    """Hold a whole answer. `content`, `finish_reason` and `tool_calls` are the first choice's; `raw` has all choices.

    `cost_usd` is the gateway's price of the call in US dollars; None when it has none for the model.
    """

    id: str | None
    model: str | None
    content: str | None
    finish_reason: str | None
    tool_calls: tuple[ToolCall, ...]
    usage: Usage | None
    cost_usd: float | None
    call_id: str | None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ChatChunk(Result):
    """Hold a piece of a streamed answer. `content` may be empty; `usage` comes with the last piece."""

    id: str | None
    model: str | None
    content: str
    finish_reason: str | None
    tool_calls: tuple[ToolCallDelta, ...]
    usage: Usage | None
    call_id: str | None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Model(Result):
    """Describe a model that the key may call. Pass `id` to `complete_chat(model=...)`."""

    id: str
    owned_by: str | None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Health(Result):
    """Tell whether the gateway takes calls. It is true in a condition exactly when `healthy`.

    `status` is the governance part's own word (`ok`, `degraded`, `down`), or `unreachable` or `unknown`.
    `reason` says what is wrong, and is None only when nothing is: a degraded gateway is healthy and has a reason.
    `health["error"]` is `reason` too. `parts` has the state of each part: `up`, `down`, or `off` when it is not in use.
    """

    _synonyms: ClassVar[Mapping[str, str]] = {"error": "reason"}
    healthy: bool
    status: str
    reason: str | None
    parts: Mapping[str, Any]
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __bool__(self) -> bool:
        return self.healthy


@dataclass(frozen=True, slots=True)
class Approval(Result):
    """Describe a request for a person's approval. Once approved, send the same request with `approval_id=approval.id`.

    `expires_at` is an RFC 3339 time as the gateway wrote it; `status_url` shows the approval's state. `state` is
    `requested`, `approved`, `rejected`, `expired`, `cancelled`, `consumed` (it has admitted its one request) or
    `replaced` (a reviewer edited the request; `replaced_by` is the new approval). It is None where the gateway did not
    give it: `get_approval` asks. `comment` is a reviewer's comment on the vote.
    """

    id: str
    expires_at: str | None
    status_url: str | None
    state: str | None = None
    comment: str | None = None
    replaced_by: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class CostEstimate(Result):
    """Hold the most that a request may use; nothing was sent.

    `estimated_cost_usd` is infinite where the model has no price, so that it is above every limit; `to_dict` has None
    there, and `has_price` tells. `price_source` is `config` (config.yaml), `litellm` (its price list) or `none`.
    `refusal` says why the gateway would refuse it for its size, None when `within_limits`.
    """

    model: str
    estimated_cost_usd: float
    input_tokens: int
    output_tokens: int
    price_source: str
    within_limits: bool
    refusal: str | None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def has_price(self) -> bool:
        """Tell whether the gateway has a price for the model."""
        return math.isfinite(self.estimated_cost_usd)


@dataclass(frozen=True, slots=True)
class BudgetStatus(Result):
    """Hold what may still be spent, in US dollars. It is true in a condition exactly when `within_budget`.

    `limit` is the lower one of the key's own budget and the requested limit; None where there is neither, and then
    `remaining_budget` is None too. `scope` is `key` for the spend since the key's budget last began anew, or `all` with
    the master key for all keys in the last 30 days. The gateway records spend some seconds after a call.
    """

    within_budget: bool
    current_spend: float
    remaining_budget: float | None
    limit: float | None
    scope: str
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __bool__(self) -> bool:
        return self.within_budget


@dataclass(frozen=True, slots=True)
class UsageStats(Result):
    """Hold the spend from `start` to `end`, both days included (UTC), in US dollars.

    `by_model` uses the provider's names of its models, `by_day` dates such as 2026-11-21. `scope` is `key`, or `all`
    with the master key. For a key without a user only `total_spend` is known, since the key was made; the rest is None.
    """

    total_spend: float
    by_model: Mapping[str, float] | None
    by_day: Mapping[str, float] | None
    start: str | None
    end: str | None
    scope: str
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
