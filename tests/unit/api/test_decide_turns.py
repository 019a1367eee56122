"""Library mode scans a caller's texts in the caller's own turns, as the gateway does in a call through it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from gatehouse.api import decide
from gatehouse.core.errors import PolicyDenied
from gatehouse.core.http import SENDER, Receive, Scope, Send
from gatehouse.pipeline.scope import CallScope
from gatehouse.proxy.litellm_api import UserAPIKeyAuth

KEY_HASH = "a" * 64
BODY = {"model": "demo", "user": "ada", "messages": [{"role": "user", "content": "hello"}]}


class Refusing:
    """Refuses every call, once its names have been looked at."""

    async def decide(self, *_: Any) -> None:
        raise PolicyDenied("no")

    def refused(self, scope: CallScope) -> None:
        pass


async def test_names_are_scanned_in_the_senders_turns_and_then_in_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []

    async def hide_names(names: object, scope: CallScope, said: object) -> dict[str, str]:
        turns.append(scope.sender)
        return {}

    async def hide_other_names(names: object, scope: CallScope, key: object, data: object) -> None:
        turns.append(scope.sender)

    async def authenticated(request: object, path: str, body: bytes) -> UserAPIKeyAuth:
        return UserAPIKeyAuth(api_key=KEY_HASH)

    monkeypatch.setattr(decide, "hide_names", hide_names)
    monkeypatch.setattr(decide, "hide_other_names", hide_other_names)
    monkeypatch.setattr(decide, "authenticated", authenticated)
    monkeypatch.setattr(decide, "model_meant", lambda key, model: model)
    api = FastAPI()
    api.state.gatehouse = SimpleNamespace(library=Refusing(), names=None)
    api.include_router(decide.router)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope[SENDER] = "address 10.0.0.1"
        await api(scope, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway") as client:
        asked = {"route": "/v1/chat/completions", "body": BODY}
        answer = await client.post("/governance/v1/decide", json=asked)
    assert answer.status_code == 403, answer.text
    assert turns == ["address 10.0.0.1", KEY_HASH]
