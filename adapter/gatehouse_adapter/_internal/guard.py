"""Enforces a SafetyConfig: what can be told from the request alone is refused here, the rest goes along as headers.

Promises: nothing is let through because the gateway could not be asked, and the gateway hears of every limit, so that
the stricter one of both counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from gatehouse_adapter._internal.failures import one_line
from gatehouse_adapter.errors import ContentBlocked, LimitExceeded, RateLimited
from gatehouse_adapter.results import CostEstimate
from gatehouse_adapter.safety import SafetyConfig

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter


class Guard:
    """One adapter's.

    Args:
        timeout: seconds that a call waits for its turn at most.
    """

    def __init__(self, safety: SafetyConfig, *, timeout: float) -> None:
        self._safety = safety
        self._timeout = timeout
        self._blocked = frozenset(safety.blocked_content_types)
        rate = safety.rate_limit_per_minute
        self._limiter = None if rate is None else _limiter(rate)

    @property
    def needs_estimate(self) -> bool:
        """Whether the gateway must be asked what a call may use before it is sent."""
        safety = self._safety
        limits = (safety.max_budget_per_request, safety.max_tokens_per_request, safety.require_approval_over)
        return any(limit is not None for limit in limits)

    @property
    def headers(self) -> dict[str, str]:
        """What the gateway is told, so that it enforces the same."""
        safety = self._safety
        said = {
            "x-gatehouse-max-tokens": safety.max_tokens_per_request,
            "x-gatehouse-max-cost-usd": _amount(safety.max_budget_per_request),
            "x-gatehouse-approval-over-usd": _amount(safety.require_approval_over),
        }
        return {name: str(value) for name, value in said.items() if value is not None}

    def check_content(self, messages: Iterable[Mapping[str, Any]]) -> None:
        """Refuse a part of a kind that is not wanted, wherever in the messages it is.

        Raises:
            ContentBlocked: names the kind.
        """
        if not self._blocked:
            return
        left: list[Any] = list(messages)
        seen: set[int] = set()
        while left:
            each = left.pop()
            if id(each) in seen:
                continue
            seen.add(id(each))
            if isinstance(each, Mapping):
                kinds = {kind for kind in (each.get("type"), *each) if isinstance(kind, str)}
                found = self._blocked & kinds
                if isinstance(each.get("content"), str) and "text" in self._blocked:
                    found |= {"text"}
                if found:
                    raise ContentBlocked(
                        f"SafetyConfig blocks content of type {', '.join(sorted(found))}. Nothing was sent. "
                        "Take it out of the messages."
                    )
                left.extend(each.values())
            elif isinstance(each, list | tuple):
                left.extend(each)

    def check_estimate(self, estimate: CostEstimate) -> None:
        """Refuse what may use too much.

        Raises:
            LimitExceeded: says which limit, and whose.
        """
        if not estimate.within_limits:
            why = one_line(estimate.refusal or "The request is over its limit.")
            raise LimitExceeded(f"{why} Nothing was sent.")
        # The gateway heard of both limits and agrees; whatever else it says, more than this is never sent.
        tokens, budget = self._safety.max_tokens_per_request, self._safety.max_budget_per_request
        used = estimate.input_tokens + estimate.output_tokens
        if tokens is not None and used > tokens:
            raise LimitExceeded(f"The request may use {used} tokens; SafetyConfig allows {tokens}. Nothing was sent.")
        cost = estimate.estimated_cost_usd
        if budget is not None and cost is not None and not cost <= budget:
            raise LimitExceeded(f"The request may cost ${cost:g}; SafetyConfig allows ${budget:g}. Nothing was sent.")

    async def turn(self) -> None:
        """Wait until the rate limit lets one more call begin.

        Raises:
            RateLimited: not in time.
        """
        if self._limiter is None:
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self._limiter.acquire()
        except TimeoutError:
            raise RateLimited(
                f"SafetyConfig allows {self._safety.rate_limit_per_minute} calls a minute, and this one's turn did not "
                f"come within {self._timeout:g} s. Nothing was sent. Send fewer, or allow a longer timeout."
            ) from None


def _limiter(rate: int) -> AsyncLimiter:
    # Here, because it imports importlib.metadata, a tenth of the adapter's own import, and few want it.
    from aiolimiter import AsyncLimiter

    return AsyncLimiter(rate, 60)


def _amount(value: float | None) -> str | None:
    """As the gateway reads amounts: digits, never an exponent above the smallest."""
    return None if value is None else f"{value:.12f}".rstrip("0").rstrip(".")
