"""Reads spend from LiteLLM's answers about keys and spend. Pure functions; a wrong shape is a ValueError."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gatehouse_adapter.results import BudgetStatus, UsageStats


def of_key(raw: Mapping[str, Any]) -> BudgetStatus:
    """Read `/key/info`."""
    info = raw.get("info")
    if not isinstance(info, dict):
        raise ValueError("it has no info")
    return _status(info.get("spend"), info.get("max_budget"), "key", info)


def of_all(raw: Mapping[str, Any]) -> BudgetStatus:
    """Read `/global/spend`, where a budget of 0 means none."""
    return _status(raw.get("spend"), raw.get("max_budget") or None, "all", raw)


def key_hash(raw: Mapping[str, Any]) -> str:
    """Return LiteLLM's id of the key, from `/key/info`."""
    found = raw.get("key")
    if not isinstance(found, str) or not found:
        raise ValueError("it has no key")
    return found


def only_total(found: BudgetStatus) -> UsageStats:
    """Return what the key's entry tells; its `spend` begins anew with each budget, its `total_spend` does not."""
    total = found.raw.get("total_spend")
    spent = found.current_spend if isinstance(total, bool) or not isinstance(total, int | float) else float(total)
    return UsageStats(spent, None, None, None, None, found.scope, found.raw)


def within(found: BudgetStatus, limit: float | None) -> BudgetStatus:
    """Apply the lower one of its own budget and this limit. Spend that reaches the limit is over it."""
    lower = min((each for each in (found.limit, limit) if each is not None), default=None)
    left = None if lower is None else max(0.0, lower - found.current_spend)
    return BudgetStatus(
        within_budget=lower is None or found.current_spend < lower,
        current_spend=found.current_spend,
        remaining_budget=left,
        limit=lower,
        scope=found.scope,
        raw=found.raw,
    )


def usage(days: Sequence[Any], *, start: str, end: str, scope: str) -> UsageStats:
    """Add up `/spend/logs` by day."""
    by_day: dict[str, float] = {}
    by_model: dict[str, float] = {}
    for each in days:
        if not isinstance(each, dict) or not isinstance(each.get("startTime"), str):
            raise ValueError("a day has no startTime")
        day = each["startTime"][:10]
        if not start <= day <= end:
            continue
        spent = amount(each.get("spend"))
        if spent:
            by_day[day] = by_day.get(day, 0.0) + spent
        models = each.get("models")
        for name, value in models.items() if isinstance(models, dict) else ():
            by_model[str(name)] = by_model.get(str(name), 0.0) + amount(value)
    return UsageStats(
        total_spend=math.fsum(by_day.values()),
        by_model=by_model,
        by_day=dict(sorted(by_day.items())),
        start=start,
        end=end,
        scope=scope,
        raw={"days": list(days)},
    )


def amount(value: Any) -> float:
    """Read US dollars; LiteLLM writes null where nothing was spent."""
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("an amount is not a number")
    return float(value)


def _status(spend: Any, budget: Any, scope: str, raw: Mapping[str, Any]) -> BudgetStatus:
    found = BudgetStatus(True, amount(spend), None, None if budget is None else amount(budget), scope, raw)
    return within(found, None)
