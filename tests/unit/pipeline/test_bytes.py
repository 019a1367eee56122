"""A finding changes its own bytes and nothing else, in every JSON text that agents send, and the values come back."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any, cast

import pytest
from gatehouse.dialects.canonical import CallerNames, CanonicalRequest, canonical_request
from gatehouse.dialects.parts import JSON, KEY
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.masking import Mask
from gatehouse.pipeline.redaction import masked
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.masking import PLACEHOLDERS

UNITS = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....|\\.|[^\\]", re.S)
NUMBER = re.compile(r"-?[0-9.]+(?:[eE][+-]?[0-9]+)?")
# What a scan finds in JSON that is read as text does not reach beyond its string.
WORD = re.compile(r"[A-Za-z@.-]{4,}(?=[A-Za-z0-9@. -]*\")")
PLACEHOLDER = re.compile(r"<(?:A|LITERAL)_[0-9A-Z]{8,10}>")


def result(text: str) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "tool", "tool_call_id": "c", "content": text}]}


def arguments(text: str) -> dict[str, Any]:
    call = {"id": "c", "type": "function", "function": {"name": "write", "arguments": text}}
    return {"model": "m", "messages": [{"role": "assistant", "tool_calls": [call]}]}


def content(body: dict[str, Any]) -> str:
    message = body["messages"][0]
    return cast(str, message["content"] if "content" in message else message["tool_calls"][0]["function"]["arguments"])


def read(body: dict[str, Any]) -> CanonicalRequest:
    return canonical_request("acompletion", body, CallerNames.of(body))


def drawn(request: CanonicalRequest, text: str, draw: random.Random) -> list[list[Finding]]:
    """Return findings at drawn places of some texts of the tool's; names keep their letters, so they stay different."""
    found: list[list[Finding]] = []
    for part in request.scanned:
        spans: list[tuple[int, int]] = []
        if part.text == text or (JSON in part.path and part.text.lstrip().startswith(("{", "["))):
            spans = [match.span() for match in WORD.finditer(part.text) if draw.random() < 0.2]
        elif JSON in part.path and KEY not in part.path and not NUMBER.fullmatch(part.text) and draw.random() < 0.3:
            spans = _anywhere(part.text, draw)
        found.append([Finding("A", start, end, 1.0) for start, end in spans])
    return found


def _anywhere(text: str, draw: random.Random) -> list[tuple[int, int]]:
    places = range(len(text) + 1)
    cuts = sorted(draw.sample(places, min(len(places), 2 * draw.randint(1, 3))))
    return list(zip(cuts[::2], cuts[1::2], strict=False))


def hide(body: dict[str, Any], seed: int) -> tuple[str, Mask]:
    """Return the text as it is after masking, and the way back."""
    request, text = read(body), content(body)
    changes, mask = masked(request.scanned, drawn(request, text, random.Random(seed)), PLACEHOLDERS)
    request.masked(changes)
    return content(body), mask


def check(before: str, after: str, mask: Mask) -> None:
    """Check that what stands between the placeholders is what stood between the values, byte for byte."""
    pieces = re.split(f"({PLACEHOLDER.pattern})", after)
    here = 0
    for kept, placeholder in zip(pieces[::2], [*pieces[1::2], ""], strict=True):
        assert before.startswith(kept, here), (before[here : here + 80], kept[:80])
        here += len(kept)
        here += _spelled(before, here, mask.originals.get(placeholder, placeholder))
    assert here == len(before)


def _spelled(text: str, at: int, value: str) -> int:
    """Return how many characters of a text write a value, with escapes or without."""
    units = UNITS.finditer(text, at)
    spelled = ""
    while len(_plain(spelled)) < len(value):
        spelled += next(units)[0]
    assert _plain(spelled) == value
    return len(spelled)


def _plain(spelled: str) -> str:
    return cast(str, json.loads(f'"{spelled}"', strict=False))


# -- real files --------------------------------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[3]
MOST = 60_000


def files() -> list[Path]:
    """Return a sample of the JSON files that lie here, of every kind and size up to a bound: always the same ones."""
    found = [ROOT / "tests" / "agents" / "package-lock.json"]
    for module in ("litellm", "presidio_analyzer", "jsonschema_specifications", "botocore"):
        folder = next(iter((ROOT / ".venv").glob(f"lib/python*/site-packages/{module}")), None)
        if folder is not None:
            some = [each for each in folder.rglob("*.json") if 2 < each.stat().st_size <= MOST]
            found += random.Random(module).sample(sorted(some), min(6, len(some)))
    return found


def readable(path: Path) -> str:
    text = path.read_text("utf-8")[:MOST]
    try:
        json.loads(text)
    except ValueError:  # it was cut
        text = json.dumps({"file": text}, indent=2)
    return text


@pytest.mark.parametrize("path", files(), ids=lambda each: each.name)
def test_a_real_file_changes_only_where_something_was_found(path: Path) -> None:
    text = readable(path)
    # Written as people and programs write it, and each time with backslashes, so that its strings are read alone.
    spelled = {
        "as it is": text,
        "escaped": text.replace("{", '{"\\u00e9\\/": "\\u00e9\\/\\u0041", ', 1) if text.startswith('{"') else text,
        "ascii": json.dumps(json.loads(text), indent="\t"),
        "one line": json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":")),
        "in a string": json.dumps({"path": "a.json", "content": text}),
    }
    for number, (name, written) in enumerate(spelled.items()):
        for make in (result, arguments) if name != "in a string" else (arguments,):
            hidden, mask = hide(make(written), number)
            if name != "in a string":
                check(written, hidden, mask)
                assert json.loads(mask.unmask_json(hidden)) == json.loads(written)
            else:
                inner, outer = json.loads(hidden), json.loads(written)
                check(outer["content"], inner["content"], mask)
                assert json.loads(json.loads(mask.unmask_json(hidden))["content"]) == json.loads(outer["content"])


NOTEBOOK = """{
 "cells": [\r
  {
   "cell_type": "code",
   "metadata": {"scrolled": true},
   "source": ["print(\\"caf\\u00e9 \\u2013 na\u00efve\\")\\n", "x = 1.10  # \\/ and \\ud83d\\ude00"],
   "outputs": [{"data": {"text/html": ["<b>1.10<\\/b>"]}, "execution_count": 1e3}]
  }
 ],
 "nbformat": 4.0, "nbformat_minor": 5,   "big": 12345678901234567890, "price": 1.10, "small": -0.0
}
"""


@pytest.mark.parametrize("seed", range(12))
def test_a_notebook_keeps_its_numbers_escapes_and_blanks(seed: int) -> None:
    for make in (result, arguments):
        hidden, mask = hide(make(NOTEBOOK), seed)
        check(NOTEBOOK, hidden, mask)
        assert json.loads(mask.unmask_json(hidden)) == json.loads(NOTEBOOK)


def test_a_number_that_was_found_becomes_a_string_and_no_other_byte_changes() -> None:
    body = result(NOTEBOOK)
    request = read(body)
    findings = [[Finding("A", 0, len(part.text), 1.0)] if part.path[-1] == "big" else [] for part in request.scanned]
    request.masked(masked(request.scanned, findings, PLACEHOLDERS)[0])
    number = "12345678901234567890"
    assert content(body) == NOTEBOOK.replace(number, f'"{PLACEHOLDERS.of("A", number)}"')


def test_two_findings_of_one_string_leave_what_stands_between_them_as_it_was() -> None:
    text = r'{"note": "A1 \u00e9\/\u0042 A2 \ud83d\ude00 A3", "price": 1.10}'
    body = result(text)
    request = read(body)
    findings = [
        [Finding("A", match.start(), match.end(), 1.0) for match in re.finditer(r"A\d", part.text)]
        if part.path[-1] == "note"
        else []
        for part in request.scanned
    ]
    changes, mask = masked(request.scanned, findings, PLACEHOLDERS)
    request.masked(changes)
    one, two, three = (PLACEHOLDERS.of("A", f"A{number}") for number in (1, 2, 3))
    assert content(body) == rf'{{"note": "{one} \u00e9\/\u0042 {two} \ud83d\ude00 {three}", "price": 1.10}}'
    assert mask.unmask_json(content(body)) == text


def test_findings_in_json_inside_json_leave_both_as_they_were_spelled() -> None:
    text = r'{"s": "{\"a\": \"A1 \\u00e9 A2\", \"b\": \"\u00e9\/\", \"c\": \"\u0041 A3\" }", "price": 1.10}'
    body = arguments(text)
    request = read(body)
    findings = [
        [Finding("A", match.start(), match.end(), 1.0) for match in re.finditer(r"A\d", part.text)]
        if part.path.count(JSON) == 2
        else []
        for part in request.scanned
    ]
    request.masked(masked(request.scanned, findings, PLACEHOLDERS)[0])
    expected = re.sub(r"A\d", lambda match: PLACEHOLDERS.of("A", match[0]), text)
    assert content(body) == expected


# -- made-up ones ------------------------------------------------------------------------------------------------------

STRINGS = st.lists(
    st.sampled_from(
        ["a", "\u00e9", "\u2028", "\U0001f600", "\\", '"', "/", "\n", "\x7f", "<A_", "{", "[1", '{"a": "b"}']
    ),
    max_size=6,
).map("".join)
NUMBERS = st.sampled_from(
    ["0", "-0.0", "1.10", "1e3", "1E+2", "12345678901234567890", "0.1e-7", "2015550123", "4111111111111111.0"]
)


@st.composite
def spelled_string(draw: st.DrawFn) -> str:
    """Draw a JSON string in which each character is spelled in one of its ways."""
    out = []
    for char in draw(STRINGS):
        plain = json.dumps(char, ensure_ascii=False)[1:-1]
        escaped = "".join(f"\\u{unit:04x}" for unit in _units(char))
        out.append(draw(st.sampled_from([plain, escaped, json.dumps(char)[1:-1], "\\/" if char == "/" else plain])))
    return f'"{"".join(out)}"'


def _units(char: str) -> list[int]:
    raw = char.encode("utf-16-be")
    return [int.from_bytes(raw[at : at + 2]) for at in range(0, len(raw), 2)]


BLANKS = st.sampled_from(["", "", " ", "\n  ", "\t", "\r\n"])


@st.composite
def spelled_json(draw: st.DrawFn, depth: int = 2) -> str:
    """Draw a JSON text with blanks, numbers and escapes as some program writes them."""
    blank = draw(BLANKS)
    kind = draw(st.sampled_from(["object", "array", "string", "string", "number", "word", "nested"]))
    if depth == 0 or kind == "string":
        return draw(spelled_string())
    if kind == "number":
        return draw(NUMBERS)
    if kind == "word":
        return draw(st.sampled_from(["true", "false", "null"]))
    inner = [draw(spelled_json(depth - 1)) for _ in range(draw(st.integers(0, 3)))]
    if kind == "nested":
        return json.dumps("{" + f'"a": [{",".join(inner)}]' + "}", ensure_ascii=draw(st.booleans()))
    if kind == "array":
        return f"[{blank}{f'{blank},{blank}'.join(inner)}{blank}]"
    names = [f'"n{number}\\u00e9"{blank}:{blank}{each}' for number, each in enumerate(inner)]
    return f"{{{blank}{f'{blank},{blank}'.join(names)}{blank}}}"


@settings(max_examples=300)
@given(spelled_json(3), spelled_json(2), st.integers(0, 1_000), st.booleans())
def test_a_made_up_text_changes_only_where_something_was_found(first: str, second: str, seed: int, call: bool) -> None:
    text = f'{{ "a":{first} , "b" : {second}, "\\u0063":1.10}}'
    hidden, mask = hide(arguments(text) if call else result(text), seed)
    assert _opened(mask.unmask_json(hidden)) == _opened(text)
    if not any(JSON in part.path[-4:-1] for part in read(result(text)).texts):
        check(text, hidden, mask)


def _opened(text: str) -> Any:
    """Return JSON with the JSON in its strings read too: how a value was spelled there is not remembered."""

    def inside(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: inside(each) for name, each in value.items()}
        if isinstance(value, list):
            return [inside(each) for each in value]
        return _opened(value) if isinstance(value, str) and value.startswith('{"a": [') else value

    try:
        return inside(json.loads(text))
    except ValueError:
        return text


FILES = {
    "with a name said twice": '{"a": "x\\n", "a": "y"}',
    "with more texts than a request may have": json.dumps(
        {"\n": "", **{f"n{number}": "x" for number in range(26_000)}}
    ),
    "deeper than a request may be": '["\\n", ' * 120 + "1" + "]" * 120,
    "deeper than it can be decoded": '["\\n", ' * 5_000 + "1" + "]" * 5_000,
}


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_a_file_that_cannot_be_read_as_json_is_read_as_text_and_ends_no_session(text: str) -> None:
    for body in (result(text), arguments(json.dumps({"content": text})), result(json.dumps({"stdout": text}))):
        assert any(text[:20] in part.text for part in read(body).texts)


def test_large_files_leave_room_for_what_comes_behind_them() -> None:
    text = json.dumps({"\n": "", **{f"n{number}": "x" for number in range(12_000)}})
    bodies = {"model": "m", "messages": [result(text)["messages"][0]] * 5 + [{"role": "user", "content": "Hello"}]}
    parts = read(bodies).texts
    assert parts[-1].text == "Hello"
    assert [part.text == text for part in parts].count(True) == 4


def test_what_is_sent_and_noted_are_plain_texts() -> None:
    body = result("to A1, and A2")
    request = read(body)
    findings = [
        [Finding("A", match.start(), match.end(), 1.0) for match in re.finditer(r"A\d", part.text)]
        for part in request.scanned
    ]
    changed = request.masked(masked(request.scanned, findings, PLACEHOLDERS)[0])
    assert type(content(body)) is str
    assert {type(part.text) for part in changed.scanned} == {str}
