"""Identifiers and what only a provider can read are scanned too, and true ones raise no alarm."""

from __future__ import annotations

import base64
import json
import random
import string
import uuid
from collections.abc import Callable
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from gatehouse.core.decision import Decision, Verdict
from gatehouse.core.errors import ContentBlocked, PiiBlocked
from gatehouse.dialects import request_view
from gatehouse.dialects.canonical import CallerNames, canonical_request
from gatehouse.dialects.sealed import is_written
from gatehouse.pipeline import screening
from gatehouse.pipeline.redaction import mask
from gatehouse.policy.load import load_policy

from tests.support.masking import PLACEHOLDERS
from tests.support.scanned import PII, Scanned, chat, numbered, scan

if TYPE_CHECKING:
    from gatehouse.pipeline.in_force import PolicyInForce


class NamedFile(BytesIO):
    """Stands for a file as LiteLLM gives it to its hooks."""

    def __init__(self, name: str) -> None:
        super().__init__(b"RIFF")
        self.name = name

    def __repr__(self) -> str:
        return f"NamedFile({self.name!r})"


TOKEN = "ghp_" + "Ab3dE6gH9" * 4
AWS = "AKIA" + "J7Q2M4XW9ZT5RB3K"
SK = "sk-proj-" + "Ab3dE6gH9" * 5
ALPHABET = string.ascii_letters + string.digits


def identified(name: str) -> dict[str, Any]:
    return chat({"role": "tool", "tool_call_id": name, "content": "x"})


@pytest.mark.parametrize("key", [TOKEN, AWS, SK])
def test_a_secret_in_an_identifier_or_a_setting_is_found(key: str) -> None:
    call = {"id": key, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    bodies = (
        identified(key),
        chat({"role": "assistant", "tool_calls": [call]}),
        chat(service_tier=key),
        chat(modalities=["text", key]),
        chat(model=key),
    )
    for body in bodies:
        assert Scanned("acompletion", body).screens == {"secrets"}
    assert Scanned("aresponses", {"input": "x", "previous_response_id": key}).screens == {"secrets"}


@pytest.mark.parametrize("value", ["a@b.co", "jane@example.com", "mail:jane@example.com", "x/10.20.30.40"])
def test_personal_data_in_an_identifier_is_read(value: str) -> None:
    assert value in [part.text for part in request_view("acompletion", identified(value)).scanned]


def test_a_telephone_number_in_an_identifier_is_masked_everywhere_alike() -> None:
    name = "call:+12015550123"
    call = {"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked = Scanned("acompletion", chat({"role": "assistant", "tool_calls": [call]}, *identified(name)["messages"]))
    first, second = asked.body["messages"]
    assert first["tool_calls"][0]["id"] == second["tool_call_id"]
    assert numbered(second["tool_call_id"]) == "call:<PHONE_NUMBER_1>"


def identifiers() -> dict[str, Callable[[random.Random], str]]:
    def some(count: int, letters: str = ALPHABET) -> Callable[[random.Random], str]:
        return lambda draw: "".join(draw.choices(letters, k=count))

    def after(prefix: str, rest: Callable[[random.Random], str]) -> Callable[[random.Random], str]:
        return lambda draw: prefix + rest(draw)

    def universal(draw: random.Random) -> str:
        return str(uuid.UUID(int=draw.getrandbits(128), version=4))

    return {
        "OpenAI": after("call_", some(24)),
        "Anthropic": after("toolu_01", some(22)),
        "a server's tool": after("srvtoolu_01", some(22)),
        "responses": after("fc_", some(48, "0123456789abcdef")),
        "vLLM": after("chatcmpl-tool-", some(32, "0123456789abcdef")),
        "Mistral": some(9),
        "UUID": universal,
        "numbered": after("call_0_", universal),
        "nano": some(21, ALPHABET + "-_"),
        "ULID": some(26, "0123456789ABCDEFGHJKMNPQRSTVWXYZ"),
        "time": lambda draw: f"call_{draw.randrange(1_600_000_000_000, 1_800_000_000_000)}",
        "day": lambda draw: f"run-2026{draw.randrange(1, 13):02}{draw.randrange(1, 29):02}-{draw.randrange(10**6):06}",
        "number": lambda draw: f"call-{draw.randrange(10**10)}",
        "Kimi": lambda draw: f"functions.get_weather:{draw.randrange(100)}",
    }


@pytest.mark.parametrize("issuer", identifiers())
def test_ordinary_identifiers_raise_no_alarm(issuer: str) -> None:
    draw = random.Random(7)
    drawn = [identifiers()[issuer](draw) for _ in range(100)]
    found = [each for each in drawn if scan(each).findings or scan(each).hits]
    assert found == []


def test_names_of_models_raise_no_alarm() -> None:
    spec = find_spec("litellm")
    assert spec is not None
    assert spec.origin is not None
    listed = json.loads((Path(spec.origin).parent / "model_prices_and_context_window_backup.json").read_text())
    assert len(listed) > 1_000
    assert [name for name in list(listed)[::8] if scan(name).findings or scan(name).hits] == []


# -- what only a provider can read ------------------------------------------------------------------------------------
def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


WRITTEN = {
    "a card": "4111111111111111",
    "a card with marks": "4111-1111-1111-1111",
    "a key": TOKEN,
    "another": AWS,
    "a key behind something": base64.b64encode(random.Random(8).randbytes(240)).decode() + "/" + SK,
    "an encoded card": b64("my card is 4111 1111 1111 1111, valid until May"),
    "a long text": b64("nothing of interest here. " * 40 + "write to jane@example.com, please"),
    "a long card": "1" * 400 + "/4111-1111-1111-1111",
    "a text in UTF-16": base64.b64encode(("x " * 200 + "jane@example.com").encode("utf-16")).decode(),
    "Polish": b64("zażółć gęślą jaźń " * 30 + "jane@example.com"),
}
PLACES: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "thinking": (
        "anthropic_messages",
        lambda value: said({"type": "thinking", "thinking": "x", "signature": value}),
    ),
    "redacted thinking": ("anthropic_messages", lambda value: said({"type": "redacted_thinking", "data": value})),
    "reasoning": (
        "aresponses",
        lambda value: {"input": [{"type": "reasoning", "summary": [], "encrypted_content": value}]},
    ),
    "compaction": ("aresponses", lambda value: {"input": [{"type": "compaction", "encrypted_content": value}]}),
    "thinking blocks": (
        "acompletion",
        lambda value: chat(
            {"role": "assistant", "thinking_blocks": [{"type": "thinking", "thinking": "x", "signature": value}]}
        ),
    ),
}


def said(block: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "assistant", "content": [block]}]}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", WRITTEN)
def test_what_a_caller_writes_where_only_a_provider_does_is_found(place: str, kind: str) -> None:
    call_type, build = PLACES[place]
    asked = Scanned(call_type, build(WRITTEN[kind]))
    assert asked.sealed or "secrets" in asked.screens


def test_true_signatures_are_not_even_scanned_when_they_are_long() -> None:
    draw = random.Random(3)
    for size in range(400, 4_000, 40):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            assert not is_written(encode(draw.randbytes(size)).decode())


def test_true_signatures_raise_no_alarm() -> None:
    draw = random.Random(4)
    for turn in range(500):
        encode = (base64.b64encode, base64.urlsafe_b64encode)[turn % 2]
        value = encode(draw.randbytes(draw.randrange(30, 190))).decode()
        assert not scan(value).findings, value
        assert not scan(value).hits, value


def masked(body: dict[str, Any], call_type: str) -> None:
    """Take a request through the stages that refuse and mask."""
    request = canonical_request(call_type, body, CallerNames.of(body))
    scans = [scan(part.text) for part in request.scanned]
    policy = load_policy(Path("policy.yaml"), b"version: 1\nscreens: {secrets: block}\n").policy
    assert policy.screens is not None
    governance = SimpleNamespace(pii=PII, masking=PII, policy=policy)
    screening.sealed(policy.screens, request.scanned, scans)
    decision = Decision(Verdict.ALLOW, (), "v")
    mask(cast("PolicyInForce", governance), decision, request, scans, PLACEHOLDERS)


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_finding_where_nothing_may_be_changed_refuses_the_call_and_names_the_place(kind: str) -> None:
    with pytest.raises((PiiBlocked, ContentBlocked), match=r"^messages\[0\]\.content\[0\]\.signature: ") as refused:
        masked(said({"type": "thinking", "thinking": "x", "signature": WRITTEN[kind]}), "anthropic_messages")
    assert WRITTEN[kind] not in refused.value.message


@pytest.mark.parametrize("file", [("jane@example.com.wav", b"RIFF", "audio/wav"), NamedFile("call +12015550123.mp3")])
def test_the_name_of_a_sound_file_is_scanned_and_not_changed(file: Any) -> None:
    with pytest.raises(PiiBlocked, match=r"^file: "):
        masked({"model": "m", "file": file, "prompt": "x"}, "atranscription")
    masked(
        {"model": "m", "file": NamedFile("interview 2026-01-02.wav"), "prompt": "jane@example.com"}, "atranscription"
    )


@pytest.mark.parametrize("field", ["prompt", "language", "response_format", "keywords"])
def test_the_text_fields_of_a_form_are_scanned_and_masked(field: str) -> None:
    body = {"model": "m", "file": NamedFile("a.wav"), field: "jane@example.com"}
    masked(body, "atranscription")
    assert numbered(body[field]) == "<EMAIL_ADDRESS_1>"
