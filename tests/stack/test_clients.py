"""What the clients of docs/clients.md show of a refusal: the exception, its code and its place. None asks again."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import anthropic
import httpx
import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.support.gateway import Gateway
from tests.support.process import wait_until
from tests.support.upstream import Upstream

SECRET = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"
ASKED = f"my token is {SECRET}"


def openai_chat(gateway: Gateway, key: str, text: str, stream: bool) -> Any:
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key)
    return client.chat.completions.create(model="up-chat", messages=[{"role": "user", "content": text}], stream=stream)


def openai_responses(gateway: Gateway, key: str, text: str, stream: bool) -> Any:
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key)
    return client.responses.create(model="up-chat", input=text, stream=stream)


def anthropic_messages(gateway: Gateway, key: str, text: str, stream: bool) -> Any:
    client = anthropic.Anthropic(base_url=gateway.url, api_key=key)
    messages: Any = [{"role": "user", "content": text}]
    return client.messages.create(model="up-claude", max_tokens=20, messages=messages, stream=stream)


def langchain(gateway: Gateway, key: str, text: str, stream: bool) -> Any:
    model = ChatOpenAI(model="up-chat", base_url=f"{gateway.url}/v1", api_key=SecretStr(key))
    return list(model.stream(text)) if stream else model.invoke(text)


Client = Callable[[Gateway, str, str, bool], Any]
CLIENTS: list[tuple[Client, type[Exception], type[Exception]]] = [
    (openai_chat, openai.PermissionDeniedError, openai.AuthenticationError),
    (openai_responses, openai.PermissionDeniedError, openai.AuthenticationError),
    (anthropic_messages, anthropic.BadRequestError, anthropic.AuthenticationError),
    (langchain, openai.PermissionDeniedError, openai.AuthenticationError),
]
each_client = pytest.mark.parametrize(
    ("ask", "refusal", "unknown"), CLIENTS, ids=lambda value: getattr(value, "__name__", "")
)


def inner(error: Any) -> dict[str, Any]:
    """The error of the body, which Anthropic's client shows with what is around it."""
    body: dict[str, Any] = error.body
    found: dict[str, Any] = body.get("error", body)
    return found


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@each_client
def test_a_refusal_is_raised_once_with_its_code_and_its_place(
    governed: Gateway, upstream: Upstream, ask: Client, refusal: Any, unknown: Any, stream: bool
) -> None:
    alias = f"client-{secrets.token_hex(4)}"
    key = governed.new_key(key_alias=alias)
    with pytest.raises(refusal) as raised:
        ask(governed, key, ASKED, stream)
    error: Any = raised.value
    assert "Blocked by secrets" in str(error)
    assert inner(error)["code"] == "content_blocked"
    assert inner(error)["gatehouse"]["where"].startswith(("messages[0].content", "input"))
    assert SECRET not in str(error)
    assert upstream.requests == []
    wait_until(lambda: len(calls(governed, alias)) == 1, "the refusal is sealed")


@each_client
def test_an_unknown_key_is_an_authentication_error(governed: Gateway, ask: Client, refusal: Any, unknown: Any) -> None:
    with pytest.raises(unknown):
        ask(governed, "sk-nobody", "hello", False)


@each_client
def test_the_bodys_request_id_finds_the_call(governed: Gateway, ask: Client, refusal: Any, unknown: Any) -> None:
    with pytest.raises(refusal) as raised:
        ask(governed, governed.new_key(), ASKED, False)
    response: httpx.Response = raised.value.response  # type: ignore[attr-defined]
    call_id = response.headers["x-gatehouse-call-id"]
    assert inner(raised.value)["gatehouse"]["call_id"] == call_id
    wait_until(lambda: governed.lines_of(call_id) != [], "the refusal's line")


@each_client
def test_over_a_limit_the_message_says_so(governed: Gateway, ask: Client, refusal: Any, unknown: Any) -> None:
    key = governed.new_key(metadata={"gatehouse": {"max_tokens_per_request": 3}})
    with pytest.raises((openai.APIStatusError, anthropic.BadRequestError)) as raised:
        ask(governed, key, "How long may this be?", False)
    error: Any = raised.value
    assert error.status_code == (400 if ask is anthropic_messages else 413)
    assert inner(error)["code"] == "limit_exceeded"
    assert "the key allows" in str(error)


def calls(gateway: Gateway, alias: str) -> list[str]:
    """The calls of a key, by its alias."""
    return [
        call_id
        for call_id, row in gateway.calls().items()
        if ((row["request"] or {}).get("caller") or {}).get("key_alias") == alias
    ]
