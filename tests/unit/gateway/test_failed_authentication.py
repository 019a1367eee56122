"""The gateway does no work for the body of a call whose key LiteLLM does not know."""

from __future__ import annotations

from typing import Any, cast

import pytest
from fastapi import HTTPException
from gatehouse.core.clock import monotonic, new_call_id, now
from gatehouse.gateway.hooks import LiteLLMHooks
from gatehouse.pipeline.pipeline import Pipeline
from gatehouse.pipeline.scope import CallScope, current_scope


class Read:
    """Stands for the pipeline, and notes which calls it reads."""

    def __init__(self) -> None:
        self.scopes: list[CallScope] = []

    def note_refused(self, scope: CallScope, body: dict[str, Any]) -> None:
        self.scopes.append(scope)


@pytest.mark.parametrize(("status", "is_read"), [(401, False), (429, True), (400, True)])
async def test_what_a_refused_call_asked_is_read_only_where_its_caller_is_known(status: int, is_read: bool) -> None:
    plugin, pipeline = LiteLLMHooks(), Read()
    plugin.pipeline = cast("Pipeline", pipeline)
    scope = CallScope(new_call_id(), "/v1/chat/completions", now(), monotonic())
    token = current_scope.set(scope)
    try:
        await plugin.async_post_call_failure_hook({"model": "m", "messages": []}, HTTPException(status), None)
    finally:
        current_scope.reset(token)
    assert pipeline.scopes == [scope] * is_read
    assert scope.call is not None
