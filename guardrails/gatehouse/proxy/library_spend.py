"""Adds the cost of library-mode calls to LiteLLM's spend of the key, its user, team, organisation and end user.

Promises: a call counts at most its estimate, whatever its caller reports, and a failure here never fails a report.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import timedelta
from typing import Final

from litellm.proxy._types import UserAPIKeyAuth

from gatehouse.core.clock import now
from gatehouse.ledger.library_report import Report, counted_usd
from gatehouse.ledger.store.library_calls import LibraryCall
from gatehouse.proxy import spend
from gatehouse.proxy.spend import Spent

# How long a report waits for the spend to be added; the work continues afterwards.
_MAX_WAIT_S: Final = 2.0


async def add(key: UserAPIKeyAuth, call: LibraryCall, report: Report) -> None:
    """Add the cost of a call, once. The next decision sees it, unless LiteLLM's counters lag behind."""
    cost = counted_usd(report.cost_usd, call)
    if cost is None:
        return
    requested = call.request.get("model")
    took = timedelta(milliseconds=report.latency_ms) if report.latency_ms is not None else None
    spent = Spent(
        usd=cost,
        row_id=str(call.call_id),
        call_type=call.request.get("call_type"),
        group=requested,
        model=report.model or requested,
        end_user=(call.request.get("caller") or {}).get("end_user"),
        started=call.started_at,
        ended=now() if took is None else call.started_at + took,
        status="success",
        usage={} if report.usage is None else asdict(report.usage),
    )
    await asyncio.wait({spend.add(key, spent)}, timeout=_MAX_WAIT_S)
