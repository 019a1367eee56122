"""What calls of library mode cost, added to LiteLLM's spend of the key, its user, team, organisation and end user.

By the two functions of LiteLLM's that its own cost callback calls: one for the database, one for the counters that
budgets are compared with. Promises: a call counts for no more than it was estimated at, whatever its caller says; and a
report never fails for it.
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context
from datetime import timedelta
from typing import Any, Final

from litellm.proxy import proxy_server
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.litellm_pre_call_utils import LiteLLMProxyRequestSetup

from gatehouse import metrics
from gatehouse.audit.reported import Report
from gatehouse.clock import now
from gatehouse.db.library import LibraryCall

log = logging.getLogger("gatehouse.library")

# How long a report waits for it; it goes on afterwards.
_PATIENCE_S: Final = 2.0
_running: set[asyncio.Task[None]] = set()


def counted_usd(report: Report, call: LibraryCall) -> float | None:
    """What a call counts for, in US dollars; None where its caller does not say what it cost, or it has no price."""
    estimated = ((call.decision or {}).get("facts") or {}).get("cost", {}).get("estimated_usd")
    return None if report.cost_usd is None or estimated is None else min(report.cost_usd, float(estimated))


async def add(key: UserAPIKeyAuth, call: LibraryCall, report: Report) -> None:
    """Add what a call cost, once; the next decision sees it, unless LiteLLM's counters take their time."""
    cost = counted_usd(report, call)
    if cost is None:
        return
    # Out of the request's context, in which LiteLLM puts its counters off until a call is over that it never makes.
    task = asyncio.create_task(_add(key, call, report, cost), name="gatehouse-spend", context=Context())
    _running.add(task)
    task.add_done_callback(_running.discard)
    await asyncio.wait({task}, timeout=_PATIENCE_S)


async def _add(key: UserAPIKeyAuth, call: LibraryCall, report: Report, cost: float) -> None:
    try:
        token = LiteLLMProxyRequestSetup.get_logged_api_key(key)
        whose = {
            "user_id": key.user_id,
            "team_id": key.team_id,
            "org_id": key.org_id,
            "project_id": key.project_id,
            "end_user_id": (call.request.get("caller") or {}).get("end_user"),
        }
        started = call.started_at
        ended = started + timedelta(milliseconds=report.latency_ms) if report.latency_ms is not None else now()
        await proxy_server.proxy_logging_obj.db_spend_update_writer.update_database(
            token=token,
            kwargs=_kwargs(key, token, call, report, cost),
            completion_response=_response(call, report),
            start_time=started,
            end_time=max(started, ended),
            response_cost=cost,
            **whose,
        )
        await proxy_server.increment_spend_counters(
            token=token, response_cost=cost, request_started_at=started, **whose
        )
    except Exception as error:
        metrics.plugin_errors.labels(stage="spend").inc()
        log.error("what call %s cost was not added to the spend of its key (%s)", call.call_id, type(error).__name__)


def _kwargs(key: UserAPIKeyAuth, token: str | None, call: LibraryCall, report: Report, cost: float) -> dict[str, Any]:
    """A call as LiteLLM's callbacks know one."""
    asked = call.request.get("model")
    known = LiteLLMProxyRequestSetup.get_sanitized_user_information_from_key(user_api_key_dict=key)
    metadata = {**known, "user_api_key": token, "model_group": asked, "status": "success"}
    return {
        "model": report.model or asked,
        "call_type": call.request.get("call_type"),
        "litellm_call_id": str(call.call_id),
        "response_cost": cost,
        "cache_hit": False,
        "litellm_params": {"metadata": metadata},
    }


def _response(call: LibraryCall, report: Report) -> dict[str, Any]:
    usage = report.usage
    counted = usage and {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    return {"id": str(call.call_id), "usage": counted or {}}
