"""Adds a cost to LiteLLM's logs, its daily tables and its counters where LiteLLM itself counts nothing.

It calls the two functions that LiteLLM's own cost callback calls: one for the database, one for the counters that
LiteLLM compares with budgets. The ledger charges the key, its user, team and so on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextvars import Context
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from litellm.proxy import proxy_server
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.litellm_pre_call_utils import LiteLLMProxyRequestSetup

from gatehouse.core import metrics
from gatehouse.proxy.litellm_budgets import by_ledger

log = logging.getLogger("gatehouse.spend")

_running: Final[set[asyncio.Task[None]]] = set()


@dataclass(frozen=True, slots=True)
class Spent:
    """Describe the cost of one call.

    Attributes:
        row_id: the id of LiteLLM's row; each call has its own.
        group: the model as callers name it; `model` is the one that answered.
        status: success or failure.
        usage: tokens in the format of OpenAI's API.
    """

    usd: float
    row_id: str
    call_type: str | None
    group: str | None
    model: str | None
    end_user: str | None
    started: datetime
    ended: datetime
    status: str
    usage: Mapping[str, int] = field(default_factory=dict)


def add(key: UserAPIKeyAuth, spent: Spent) -> asyncio.Task[None]:
    """Add a call's cost, once; a failure is logged."""
    # Leave the request's context, in which LiteLLM would delay its counters until the end of a call it never makes.
    task = asyncio.create_task(_add(key, spent), name="gatehouse-spend", context=Context())
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


async def _add(key: UserAPIKeyAuth, spent: Spent) -> None:
    by_ledger.set(True)
    try:
        token = LiteLLMProxyRequestSetup.get_logged_api_key(key)
        whose = {
            "token": token,
            "user_id": key.user_id,
            "team_id": key.team_id,
            "org_id": key.org_id,
            "project_id": key.project_id,
            "end_user_id": spent.end_user,
        }
        known = LiteLLMProxyRequestSetup.get_sanitized_user_information_from_key(user_api_key_dict=key)
        metadata = {**known, "user_api_key": token, "model_group": spent.group, "status": spent.status}
        await proxy_server.proxy_logging_obj.db_spend_update_writer.update_database(
            kwargs=_call(spent, metadata),
            completion_response={"id": spent.row_id, "usage": dict(spent.usage)},
            start_time=spent.started,
            end_time=max(spent.started, spent.ended),
            response_cost=spent.usd,
            **whose,
        )
        await proxy_server.increment_spend_counters(response_cost=spent.usd, request_started_at=spent.started, **whose)
    except Exception as error:
        metrics.plugin_errors.labels(stage="spend").inc()
        log.error("the cost of call %s was not added to the spend of its key (%s)", spent.row_id, type(error).__name__)


def _call(spent: Spent, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return a call in the format that LiteLLM's callbacks receive."""
    return {
        "model": spent.model,
        "call_type": spent.call_type,
        "litellm_call_id": spent.row_id,
        "response_cost": spent.usd,
        "cache_hit": False,
        "litellm_params": {"metadata": metadata},
    }
