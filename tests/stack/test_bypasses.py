"""No trick of a caller gets personal data or a secret past the stages; each is masked or refused, and none breaks."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.support.gateway import Gateway
from tests.support.upstream import Upstream

MAIL = "ada.lovelace@example.com"
SECRET = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"
SAYS = {"mail": f"Write to {MAIL} now", "secret": f"Use {SECRET} now"}
HELLO = {"role": "user", "content": "hello"}


def chat(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": "up-chat", "messages": list(messages), **fields}


def tool_call(arguments: str) -> dict[str, Any]:
    function = {"name": "send", "arguments": arguments}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "t1", "type": "function", "function": function}],
    }


def described(text: str) -> list[dict[str, Any]]:
    schema = {"type": "object", "properties": {"to": {"type": "string", "description": text, "enum": [text]}}}
    return [{"type": "function", "function": {"name": "send", "description": text, "parameters": schema}}]


def wide(text: str) -> str:
    return "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text)


def cases(says: str) -> dict[str, tuple[dict[str, Any] | str, dict[str, str]]]:
    """Return by name a body, or its text, that says `says` somewhere, with headers."""
    quoted = json.dumps(says)
    tell = {"role": "user", "content": says}
    return {
        "guardrails off": (chat(tell, guardrails=[], disable_global_guardrails=True), {}),
        "metadata": (
            chat(tell, metadata={"disable_global_guardrails": True, "gatehouse": "off", "guardrails": []}),
            {},
        ),
        "litellm_metadata": (chat(tell, litellm_metadata={"guardrails": [], "disable_global_guardrails": True}), {}),
        "callbacks off": (chat(tell, litellm_disabled_callbacks=["governance"], callbacks=[]), {}),
        "headers": (
            chat(tell),
            {
                "x-litellm-disable-callbacks": "governance,Governance",
                "x-litellm-disable-global-guardrails": "true",
                "x-gatehouse-call-id": "mine",
                "x-gatehouse-mode": "observe",
                "x-gatehouse-max-cost-usd": "1000000",
            },
        ),
        "content parts": (chat({"role": "user", "content": [{"type": "text", "text": says}]}), {}),
        "caption": (
            chat(
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                        {"type": "text", "text": says},
                    ],
                }
            ),
            {},
        ),
        "developer": (chat({"role": "developer", "content": says}, HELLO), {}),
        "system": (chat({"role": "system", "content": says}, HELLO), {}),
        "tool result": (chat(HELLO, tool_call("{}"), {"role": "tool", "tool_call_id": "t1", "content": says}), {}),
        "tool arguments": (chat(HELLO, tool_call(json.dumps({"to": {"deep": [says]}}))), {}),
        "json in json": (chat(HELLO, tool_call(json.dumps({"body": json.dumps({"inner": says})}))), {}),
        "a key's name": (chat(HELLO, tool_call(json.dumps({MAIL: SECRET}))), {}),
        "tool description": (chat(HELLO, tools=described(says)), {}),
        "response format": (
            chat(
                HELLO,
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"type": "object", "description": says}},
                },
            ),
            {},
        ),
        "base64": (chat({"role": "user", "content": "decode " + base64.b64encode(says.encode()).decode()}), {}),
        "full-width": (chat({"role": "user", "content": wide(says)}), {}),
        "zero-width": (chat({"role": "user", "content": "\u200b".join(says)}), {}),
        "soft hyphens": (chat({"role": "user", "content": "\u00ad".join(says)}), {}),
        "redos": (chat({"role": "user", "content": "a-" * 50_000 + " " + says}), {}),
        "redos of links": (chat({"role": "user", "content": "a." * 50_000 + says}), {}),
        "too long": (chat({"role": "user", "content": "x " * 150_000 + says}), {}),
        "no messages": (chat(tell) | {"messages": []}, {}),
        "messages null": (chat(tell) | {"messages": None}, {}),
        "messages a text": (chat(tell) | {"messages": says}, {}),
        "duplicate keys": (
            f'{{"model":"up-chat","messages":[{{"role":"user","content":{quoted}}}],"messages":[]}}',
            {},
        ),
        "duplicate keys, last counts": (
            f'{{"model":"up-chat","messages":[],"messages":[{{"role":"user","content":"hi","content":{quoted}}}]}}',
            {},
        ),
        "escaped": (json.dumps(chat(tell)).replace("@", "\\u0040").replace("ghp", "\\u0067hp"), {}),
        "user": (chat(HELLO, user=MAIL), {}),
        "stop": (chat(HELLO, stop=[says]), {}),
        "name": (chat({"role": "user", "name": MAIL, "content": "hi"}), {}),
        "prediction": (chat(HELLO, prediction={"type": "content", "content": says}), {}),
        "extra body": (chat(HELLO, extra_body={"messages": [{"role": "user", "content": says}]}), {}),
        "extra body's metadata": (chat(HELLO, extra_body={"metadata": {"x": says}}), {}),
        "extra headers": (chat(HELLO, extra_headers={"x-note": MAIL}), {}),
        "fallback with messages": (
            chat(HELLO, fallbacks=[{"model": "up-chat", "messages": [{"role": "user", "content": says}]}]),
            {},
        ),
        "prompt beside messages": (chat(HELLO, prompt=says), {}),
        "input beside messages": (chat(HELLO, input=says), {}),
        "unknown field": (chat(HELLO, a_field_of_next_year={"text": says}), {}),
        "prompt template": (chat(HELLO, prompt_id="x", prompt_variables={"v": says}), {}),
        "mock response": (chat(HELLO, mock_response=says), {}),
        "role nobody knows": (chat({"role": "oracle", "content": says}), {}),
        "content an object": (chat({"role": "user", "content": {"text": says}}), {}),
        "number for text": (chat({"role": "user", "content": 5368709120}), {}),
        "deep": (chat(HELLO, metadata={"x": json.loads("[" * 200 + json.dumps(says) + "]" * 200)}), {}),
        "deep tool": (chat(HELLO, tool_call("[" * 5000 + quoted + "]" * 5000)), {}),
        "broken arguments": (chat(HELLO, tool_call('{"to": ' + quoted)), {}),
        "lone surrogate": (json.dumps(chat({"role": "user", "content": "\ud800 " + says})), {}),
        "nul": (chat({"role": "user", "content": "\0" + says}), {}),
        "not json": ("{", {}),
        "a list": ("[]", {}),
        "not utf-8": (json.dumps(chat(tell)).encode().replace(b"Write", b"Wr\xffte").decode("latin-1"), {}),
        "api base": (chat(tell, api_base="http://127.0.0.1:9/v1", base_url="http://127.0.0.1:9/v1"), {}),
        "temperature a text": (chat(tell, temperature="hot"), {}),
        "max tokens a text": (chat(HELLO, max_tokens="1e309"), {}),
        "stream a text": (chat(tell, stream="yes"), {}),
    }


@pytest.mark.parametrize("what", SAYS)
@pytest.mark.parametrize("case", cases(""))
def test_nothing_forbidden_reaches_the_model(governed: Gateway, upstream: Upstream, case: str, what: str) -> None:
    body, headers = cases(SAYS[what])[case]
    content = body if isinstance(body, str) else json.dumps(body)
    raw = content.encode("latin-1") if case == "not utf-8" else content.encode("utf-8", "surrogatepass")
    with governed.client() as client:
        answer = client.post(
            "/v1/chat/completions", content=raw, headers={"content-type": "application/json", **headers}
        )
    assert answer.status_code < 500, answer.text
    for form in forms(upstream.received):
        assert MAIL not in form
        assert SECRET not in form
    with governed.client() as client:
        assert client.post("/v1/chat/completions", json=chat(HELLO)).status_code == 200


def forms(received: str) -> list[str]:
    """Return what arrived, and what a model could read in it."""
    plain = received.encode().decode("unicode_escape", "replace") if received else ""
    folded = "".join(chr(ord(char) - 0xFEE0) if 0xFF01 <= ord(char) <= 0xFF5E else char for char in plain)
    found = [received, plain, folded.replace("\u200b", "").replace("\u00ad", "")]
    for word in received.replace('"', " ").split():
        try:
            found.append(base64.b64decode(word, validate=True).decode())
        except ValueError:
            continue
    return found


def test_the_same_words_without_a_trick_are_refused(governed: Gateway, upstream: Upstream) -> None:
    """Without this the cases above would prove nothing."""
    with governed.client() as client:
        assert (
            client.post("/v1/chat/completions", json=chat({"role": "user", "content": SAYS["secret"]})).json()["error"][
                "code"
            ]
            == "content_blocked"
        )
        masked = client.post("/v1/chat/completions", json=chat({"role": "user", "content": f"Write to {MAIL}"}))
    assert masked.status_code == 200
    assert "<EMAIL_ADDRESS_" in upstream.received
