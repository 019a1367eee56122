"""Enforces a SafetyConfig: refuses what the request alone shows, and sends the other limits along as headers.

Promises: no call is made because the gateway could not be asked, and the gateway receives every limit, so that the
stricter one of both counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from gatehouse_adapter._internal.failures import one_line
from gatehouse_adapter.errors import ContentBlocked, LimitExceeded, RateLimited
from gatehouse_adapter.results import CostEstimate
from gatehouse_adapter.safety import SafetyConfig

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

_BOUNDS: Final = ("max_tokens", "max_completion_tokens")


class Guard:
    """Enforce the limits of one adapter.

    Args:
        timeout: the most seconds that a call waits for its turn.
    """

    def __init__(self, safety: SafetyConfig, *, timeout: float) -> None:
        self._safety = safety
        self._timeout = timeout
        self._blocked = frozenset(safety.blocked_part_types)
        rate = safety.rate_limit_per_minute
        self._limiter = None if rate is None else _limiter(rate)

    @property
    def needs_estimate(self) -> bool:
        """Tell whether a call needs the gateway's estimate before it is sent."""
        safety = self._safety
        limits = (safety.max_budget_per_request, safety.max_tokens_per_request, safety.require_approval_over)
        return any(limit is not None for limit in limits)

    @property
    def headers(self) -> dict[str, str]:
        """Return the limits as headers, so that the gateway enforces the same."""
        safety = self._safety
        said = {
            "x-gatehouse-max-tokens": safety.max_tokens_per_request,
            "x-gatehouse-max-cost-usd": _amount(safety.max_budget_per_request),
            "x-gatehouse-approval-over-usd": _amount(safety.require_approval_over),
            "x-gatehouse-block-content": ", ".join(sorted(safety.blocked_content_types)) or None,
        }
        return {name: str(value) for name, value in said.items() if value is not None}

    def check_content(self, messages: Iterable[Mapping[str, Any]]) -> None:
        """Refuse parts of a forbidden kind, wherever in the messages they are.

        Raises:
            ContentBlocked: it names the kind.
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
                        f"SafetyConfig blocks parts of type {', '.join(sorted(found))}. Nothing was sent. "
                        "Remove it from the messages."
                    )
                left.extend(each.values())
            elif isinstance(each, list | tuple):
                left.extend(each)

    def bounded(self, body: Mapping[str, Any], estimate: CostEstimate) -> Mapping[str, Any]:
        """Return the request with what `max_tokens_per_request` leaves for the answer as its bound.

        A request that has a bound, or whose longest answer fits, is returned as it is.

        Raises:
            LimitExceeded: nothing is left for an answer.
        """
        limit = self._safety.max_tokens_per_request
        if limit is None or any(body.get(name) is not None for name in _BOUNDS):
            return body
        if estimate.input_tokens + estimate.output_tokens <= limit:
            return body
        choices = body.get("n")
        left = (limit - estimate.input_tokens) // (choices if isinstance(choices, int) and choices > 1 else 1)
        if left < 1:
            raise LimitExceeded(
                f"The messages have {estimate.input_tokens} tokens; SafetyConfig allows {limit} for them and the "
                "answer together. Nothing was sent. Shorten the messages, or raise max_tokens_per_request."
            )
        return {**body, "max_tokens": left}

    def check_estimate(self, estimate: CostEstimate) -> None:
        """Refuse a call that may use too much.

        Raises:
            LimitExceeded: it names the limit, and whose it is.
        """
        if not estimate.within_limits:
            why = one_line(estimate.refusal or "The request is over its limit.")
            raise LimitExceeded(f"{why} Nothing was sent.")
        # The gateway knows both limits and agrees. Check again all the same, so that more than this is never sent.
        tokens, budget = self._safety.max_tokens_per_request, self._safety.max_budget_per_request
        used = estimate.input_tokens + estimate.output_tokens
        if tokens is not None and used > tokens:
            raise LimitExceeded(f"The request may use {used} tokens; SafetyConfig allows {tokens}. Nothing was sent.")
        cost = estimate.estimated_cost_usd
        if budget is not None and estimate.has_price and not cost <= budget:
            raise LimitExceeded(f"The request may cost ${cost:g}; SafetyConfig allows ${budget:g}. Nothing was sent.")

    async def turn(self) -> None:
        """Wait until the rate limit lets one more call begin.

        Raises:
            RateLimited: it takes too long.
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
    # Imported here because it loads importlib.metadata, a tenth of the adapter's own import, and few callers need it.
    from aiolimiter import AsyncLimiter

    return AsyncLimiter(rate, 60)


def _amount(value: float | None) -> str | None:
    """Write an amount as the gateway reads it: digits, and an exponent only for the smallest."""
    return None if value is None else f"{value:.12f}".rstrip("0").rstrip(".")
