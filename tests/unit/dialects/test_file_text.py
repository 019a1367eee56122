"""A file that is text is read and masked as text; a picture, a recording and a PDF stay as they are."""

from __future__ import annotations

import base64
import gzip
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from gatehouse.dialects.file_text import file_text

from tests.support.scanned import Scanned, chat

MAIL = "anna.kowalska@example.com"
TOKEN = "ghp_" + "Ab3dE6gH9" * 4
LONG = "fruit,weight,colour\n" + "śliwka,none,purple\n" * 300


def b64(text: str, encoding: str = "utf-8") -> str:
    return base64.b64encode(text.encode(encoding)).decode()


def url(kind: str, text: str) -> str:
    return f"data:{kind};base64,{b64(text)}"


def part(**fields: Any) -> dict[str, Any]:
    return chat({"role": "user", "content": [fields]})


def item(**fields: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": [fields]}]}


def block(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [fields]}]}


def source(data: str, kind: str) -> dict[str, Any]:
    return {"type": "base64", "media_type": kind, "data": data}


PLACES: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "a chat's file": ("acompletion", lambda text: part(type="file", file={"file_data": url("text/plain", text)})),
    "bare base64": ("acompletion", lambda text: part(type="file", file={"file_data": b64(text)})),
    "an item's file": ("aresponses", lambda text: item(type="input_file", file_data=url("text/csv", text))),
    "an item's address": ("aresponses", lambda text: item(type="input_file", file_url=url("application/json", text))),
    "a picture in words": (
        "acompletion",
        lambda text: part(type="image_url", image_url={"url": url("image/svg+xml", f"<svg><text>{text}</text></svg>")}),
    ),
    "a document": (
        "anthropic_messages",
        lambda text: block(type="document", source=source(b64(text), "text/plain")),
    ),
    "a document that calls itself another": (
        "anthropic_messages",
        lambda text: block(type="document", source=source(b64(text), "application/pdf")),
    ),
    "a tool's result": (
        "acompletion",
        lambda text: chat({"role": "tool", "tool_call_id": "c", "content": url("text/html", f"{LONG} {text}")}),
    ),
}


def decoded(body: Any) -> str:
    """Return all texts of a body, with its files decoded."""
    if isinstance(body, dict | list):
        return " ".join(decoded(each) for each in (body.values() if isinstance(body, dict) else body))
    read = file_text(body) if isinstance(body, str) else None
    return read.text if read else str(body)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("around", ["", LONG])
def test_personal_data_in_a_file_of_words_is_masked_inside_it(place: str, around: str) -> None:
    call_type, build = PLACES[place]
    given = build(f"{around} write to {MAIL} today {around}")
    asked = Scanned(call_type, given)
    assert MAIL not in decoded(asked.body)
    assert asked.mask.unmask(decoded(asked.body)) == decoded(given)


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_in_a_file_of_words_is_found(place: str) -> None:
    call_type, build = PLACES[place]
    assert Scanned(call_type, build(f"{LONG} {TOKEN} {LONG}")).screens == {"secrets"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_a_file_may_be_written_in_any_usual_encoding(encoding: str) -> None:
    text = f"Müller, write to {MAIL} about the résumé, please."
    read = file_text(f"data:text/plain;base64,{b64(text, encoding)}")
    assert read is not None
    assert MAIL in read.text
    again = file_text(read.written(read.text.replace(MAIL, "<EMAIL_ADDRESS_1>")))
    assert again is not None
    assert MAIL not in again.text
    assert "<EMAIL_ADDRESS_1>" in again.text


def test_a_file_without_a_finding_keeps_each_byte() -> None:
    data = "\n".join(b64(LONG)[at : at + 76] for at in range(0, len(b64(LONG)), 76))
    given = block(type="document", source=source(data, "text/plain"))
    assert Scanned("anthropic_messages", given).body == given


def binaries() -> dict[str, bytes]:
    draw = random.Random(9)
    return {
        "PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + draw.randbytes(5_000),
        "JPEG": b"\xff\xd8\xff\xe0\0\x10JFIF\0" + draw.randbytes(5_000),
        "PDF": b"%PDF-1.7\n1 0 obj << /Author (anna.kowalska@example.com) >> endobj\n",
        "gzip": gzip.compress(LONG.encode()),
        "sound": bytes(b for at in range(3_000) for b in (at % 256, at // 256)),
        "silence": bytes(3_000),
        "random": draw.randbytes(5_000),
    }


@pytest.mark.parametrize("kind", binaries())
@pytest.mark.parametrize("head", ["", "data:application/octet-stream;base64,"])
def test_what_is_no_text_is_a_file(kind: str, head: str) -> None:
    assert file_text(head + base64.b64encode(binaries()[kind]).decode()) is None


@pytest.mark.parametrize("value", ["", "file_abc123", "abcdefghijklmnop", "https://example.com/a", "data:,x", "README"])
def test_a_word_is_no_file(value: str) -> None:
    assert file_text(value) is None


def test_true_pictures_raise_no_alarm() -> None:
    draw = random.Random(2)
    for size in range(20, 3_000, 60):
        data = base64.b64encode(draw.randbytes(size)).decode()
        body = block(type="image", source=source(data, "image/png"))
        assert Scanned("anthropic_messages", body).clean, json.dumps(body)
