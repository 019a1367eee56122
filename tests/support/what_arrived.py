"""Checks a made-up request: what a provider saw of it, and how it was answered."""

from __future__ import annotations

import email
import json
from collections.abc import Iterator, Sequence
from typing import Any

from tests.support.caller_requests import WORD, Case
from tests.support.raw_client import RawAnswer
from tests.support.upstream import Arrival

# What a provider is told by LiteLLM's own clients, whatever a caller says.
_KEY = "sk-upstream"


def codes(arrival: Arrival) -> set[str]:
    """Return the cases whose marks are in what arrived."""
    return {match[1].decode().lower() for match in WORD.finditer(arrival.everything)}


def faults(case: Case, answer: RawAnswer, arrivals: Sequence[Arrival]) -> Iterator[str]:
    """Describe what must not have happened."""
    status = answer.status
    if status >= 500 and not (case.fails and arrivals):
        yield f"it is answered {status}"
    if status < 500 and status not in range(400, 500) and status != 200:
        yield f"it is answered {status}"
    if case.refused and (arrivals or not 400 <= status < 500):
        yield f"it is not refused ({status}), though there is {case.refused}"
    if 400 <= status < 500 and arrivals:
        yield "it is refused, and was sent"
    if case.ordinary and status != 200 and not case.fails:
        yield f"it is ordinary, and refused with {status}"
    if case.named and 400 <= status < 500 and not any(name in answer.text for name in case.named):
        yield f"the refusal names none of {sorted(case.named)}"
    if len(arrivals) > 1:  # the gateway of these tests tries nothing twice
        yield f"the provider is called {len(arrivals)} times"
    if case.decides and status == 200:
        body = json.loads(answer.body)["body"]
        yield from _in_body(case, body, json.dumps(body).encode())
    for arrival in arrivals:
        yield from _of(case, arrival)


def _of(case: Case, arrival: Arrival) -> Iterator[str]:
    route, headers = case.route, dict(arrival.headers)
    if (arrival.method, arrival.target) != ("POST", route.arrives):
        yield f"it arrives as {arrival.method} {arrival.target}"
    credentials = [(name, value) for name, value in arrival.headers if "key" in name or "auth" in name]
    expected = [("x-api-key", _KEY)] if route.arrives == "/v1/messages" else [("authorization", f"Bearer {_KEY}")]
    if credentials != expected:
        yield f"its credentials are {credentials}"
    if not headers.get("host", "").startswith("127.0.0.1:"):
        yield "its host is another"
    for name, value in arrival.headers:
        for mark in _marks(case, f"{name}: {value}".encode()):
            if case.marks[mark].top != f"header {name}" or case.marks[mark].kind != "word":
                yield f"{case.marks[mark]} arrives in the header {name}"
    body = _decoded(arrival)
    if body.get("model") != route.model:
        yield f"it arrives for the model {body.get('model')!r}"
    yield from _in_body(case, body, arrival.body)


def _in_body(case: Case, body: dict[str, Any], raw: bytes) -> Iterator[str]:
    for word in _marks(case, raw) | _marks(case, json.dumps(body).encode()):
        mark = case.marks[word]
        if mark.kind != "word":
            yield f"{mark} arrives as it is"
        elif mark.top is None or mark.top.startswith("header "):
            yield f"{mark} arrives"
    if case.route.translated and not case.decides:
        return
    for name, value in body.items():
        for word in _marks(case, json.dumps({name: value}).encode()):
            top = case.marks[word].top
            if top is not None and top != name and not _may_be_elsewhere(case, name, top):
                yield f"{case.marks[word]} arrives in {name!r}"


def _may_be_elsewhere(case: Case, name: str, top: str) -> bool:
    """Tell whether a mark may stand elsewhere: a name may be masked, and library mode moves `extra_body` back."""
    return "@" in top or (name == "extra_body" and case.decides)


def _marks(case: Case, raw: bytes) -> set[str]:
    found = {match[0].decode().lower() for match in WORD.finditer(raw)}
    return {word for word in found if word in case.marks}


def _decoded(arrival: Arrival) -> dict[str, Any]:
    """Return the fields of a body that arrived, also of a form."""
    if not arrival.body.startswith(b"{"):
        kind = next((value for name, value in arrival.headers if name == "content-type"), "")
        form = email.message_from_bytes(f"content-type: {kind}\r\n\r\n".encode() + arrival.body)
        parts = form.get_payload() if form.is_multipart() else []
        fields: dict[str, Any] = {}
        for part in parts:
            assert isinstance(part, email.message.Message)
            name = str(part.get_param("name", header="content-disposition"))
            payload = part.get_payload(decode=True)
            fields[name] = str(part["content-disposition"]) + str(payload) if part.get_filename() else _text(payload)
        return fields
    found = json.loads(arrival.body)
    return found if isinstance(found, dict) else {}


def _text(payload: object) -> str:
    return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else str(payload)


def fields(raw: bytes) -> dict[str, bytes]:
    """Return the bytes of each field of a JSON object."""
    text, found = raw.decode(), {}
    at = _blanks(text, text.index("{") + 1)
    while text[at] != "}":
        name, end = _DECODER.raw_decode(text, at)
        start = _blanks(text, _blanks(text, end) + 1)
        _, at = _DECODER.raw_decode(text, start)
        found[str(name)] = text[start:at].encode()
        at = _blanks(text, at)
        at = _blanks(text, at + 1) if text[at] == "," else at
    return found


def elements(raw: bytes) -> list[bytes]:
    """Return the bytes of each element of a JSON array."""
    text, found = raw.decode(), []
    at = _blanks(text, 1)
    while text[at] != "]":
        _, end = _DECODER.raw_decode(text, at)
        found.append(text[at:end].encode())
        at = _blanks(text, end)
        at = _blanks(text, at + 1) if text[at] == "," else at
    return found


_DECODER = json.JSONDecoder()


def _blanks(text: str, at: int) -> int:
    return at + len(text[at:]) - len(text[at:].lstrip())
