"""LiteLLM gets keyed hashes in the place of names that are more than names."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from gatehouse.core.clock import new_call_id, now
from gatehouse.core.errors import ModelNotFound
from gatehouse.core.keys import InstallationKeys, Purpose
from gatehouse.core.names import hidden
from gatehouse.gateway.edge import Edge
from gatehouse.gateway.request_body import BodyReader
from gatehouse.guards.pii.config import PiiConfig
from gatehouse.guards.scan import NOTHING
from gatehouse.pipeline.in_force import PolicyInForce
from gatehouse.pipeline.recorded_names import RecordedNames
from gatehouse.pipeline.scope import CallScope
from gatehouse.proxy.control_fields import control_fields

KEY = InstallationKeys("a-test-installation-secret-0123456789").key(Purpose.RECORDS)
MAIL = "ada@example.com"
KEPT = hidden(MAIL, KEY)
CHAT = "/v1/chat/completions"


class Scanner:
    """Finds nothing: these tests hide names by their shape."""

    async def scan(self, texts: list[str], _caller: str = "unnamed") -> list[Any]:
        return [NOTHING] * len(texts)


def made_up(model: str) -> bool:
    return model.startswith("ollama/") or "@" in model


def masking(*, on: bool = True) -> Edge:
    governance = SimpleNamespace(scanner=Scanner() if on else None, pii=PiiConfig() if on else None)
    names = RecordedNames(KEY, lambda: cast(PolicyInForce, governance))
    return Edge(
        BodyReader(100_000),
        control_fields(),
        names=names,
        made_up=lambda model: model.startswith("ollama/") or "@" in model,
    )


async def taken(
    body: dict[str, Any] | bytes, path: str = CHAT, edge: Edge | None = None, **headers: str
) -> tuple[CallScope, dict[str, Any], bytes]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    call = CallScope(new_call_id(), path, now(), 0.0)
    scope: dict[str, Any] = {
        "path": path,
        "raw_path": path.encode(),
        "headers": [(b"content-type", b"application/json")]
        + [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()],
    }
    got = await (edge or masking()).take(call, scope, receive)
    return call, scope, got.body


async def test_litellm_gets_hashes_and_rules_get_what_was_said() -> None:
    body = {
        "model": "demo",
        "messages": [],
        "user": MAIL,
        "tags": ["a", MAIL],
        "metadata": {"user_id": MAIL, "n": MAIL},
    }
    call, scope, sent = await taken(body, x_gatehouse_agent=MAIL, x_gatehouse_session="s-1", x_gatehouse_x=MAIL)
    assert json.loads(sent) == body | {"user": KEPT, "tags": ["a", KEPT], "metadata": {"user_id": KEPT, "n": MAIL}}
    given = dict(scope["headers"])
    assert given[b"x-gatehouse-agent"] == KEPT.encode()
    assert given[b"x-gatehouse-session"] == b"s-1"
    assert b"x-gatehouse-x" not in given
    assert given[b"content-length"] == str(len(sent)).encode()
    assert call.hidden == {KEPT: MAIL}


async def test_a_body_of_plain_names_is_passed_on_byte_for_byte() -> None:
    body = b'{ "model":"demo", "messages": [ ],"user" : "ada" }'
    assert (await taken(body))[2] == body


async def test_where_nothing_is_looked_for_a_request_stays_as_it_is() -> None:
    body = json.dumps({"model": "demo", "messages": [], "user": MAIL}).encode()
    call, scope, sent = await taken(body, edge=masking(on=False), x_gatehouse_agent=MAIL)
    assert sent == body
    assert (b"x-gatehouse-agent", MAIL.encode()) in scope["headers"]
    assert call.hidden == {}


async def test_names_in_the_headers_of_a_request_that_is_refused_are_hashes_too() -> None:
    call, scope, sent = await taken(b"not JSON", x_gatehouse_agent=MAIL)
    assert call.incoming.fault is not None
    assert sent == b"{}"
    assert (b"x-gatehouse-agent", KEPT.encode()) in scope["headers"]


async def test_a_model_that_a_caller_made_up_is_refused_where_it_is_more_than_a_name() -> None:
    call, _, sent = await taken({"model": "ollama/Ada Lovelace", "messages": []})
    assert isinstance(call.incoming.fault, ModelNotFound)
    assert sent == b"{}"
    for plain in ("ollama/llama3.2:3b", "Ada Lovelace"):  # the other may be a key's own name for a model
        call, _, _ = await taken({"model": plain, "messages": []})
        assert call.incoming.fault is None


@pytest.mark.parametrize(("model", "refused"), [("ada example@com 1", True), ("Ada Lovelace", False)])
async def test_a_model_in_a_path_is_kept_out_of_the_records(model: str, *, refused: bool) -> None:
    path = f"/engines/{model}/chat/completions"
    call, scope, _ = await taken({"messages": []}, path)
    assert call.route == f"/engines/{hidden(model, KEY)}/chat/completions"
    assert isinstance(call.incoming.fault, ModelNotFound) is refused
    assert (scope["path"] == call.route) is refused
    assert (scope["raw_path"] == call.route.encode()) is refused


async def test_a_plain_model_in_a_path_stays() -> None:
    path = "/openai/deployments/gpt-4o/chat/completions"
    call, scope, _ = await taken({"messages": []}, path)
    assert (call.route, scope["path"], call.incoming.fault) == (path, path, None)
