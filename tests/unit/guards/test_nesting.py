"""A value that is put into JSON leaves it valid, in as many strings of JSON as it stands in, wherever it is cut."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.pii.masking import Mask
from gatehouse.guards.pii.nesting import Nesting
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.masking import PLACEHOLDERS, new_mask

CONFIG = PiiConfig(entities={"A": Mode.MASK})
VALUES = [
    '"jane doe"@example.com',
    "a\\b",
    "\\",
    '"',
    "caf\u00e9",
    "\n\t",
    "plain",
    "\u007f\u2028",
    "\U0001f600",
    "\\u0041",
]


def masking(value: str) -> tuple[Mask, str]:
    mask = new_mask()
    mask.mask([(value, [Finding("A", 0, len(value), 1.0)])], CONFIG)
    return mask, PLACEHOLDERS.of("A", value)


def fed(mask: Mask, text: str, cuts: list[int]) -> str:
    unmasker = mask.unmasker(inside_json=True)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return "".join(unmasker.push(text[a:b]) for a, b in pairwise(edges)) + unmasker.flush()


def nested(value: Any, times: int, *, ensure_ascii: bool, indent: int | None) -> str:
    """Return JSON in a string of JSON, so many times."""
    text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)
    for number in range(times):
        text = json.dumps({"n": number, "of": [1.10, text], "to": None}, ensure_ascii=ensure_ascii, indent=indent)
    return text


def opened(text: str, times: int) -> Any:
    value = json.loads(text)
    for _ in range(times):
        value = json.loads(value["of"][1])
    return value


# What a tool's arguments hold beside a value: strings that hold or end with what JSON escapes, and JSON's own signs.
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        ["", "x", "\\", "\\\\", '"', '\\"', "{", "[", '{"', '["a', "]", "\n", "\u00e9", "a: b", "<A_", "{not json"]
    ),
    st.text(max_size=6),
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150)
@given(st.sampled_from(VALUES), JSON, JSON, st.integers(0, 3), st.booleans(), st.sampled_from([None, 2]), st.data())
def test_a_value_comes_back_in_any_json_inside_json_wherever_it_is_cut(
    value: str, before: Any, behind: Any, times: int, ensure_ascii: bool, indent: int | None, data: st.DataObject
) -> None:
    mask, placeholder = masking(value)
    arguments = nested(
        [before, placeholder, {f"to {placeholder}": placeholder}, behind],
        times,
        ensure_ascii=ensure_ascii,
        indent=indent,
    )
    meant = [before, value, {f"to {value}": value}, behind]
    cuts = data.draw(st.lists(st.integers(0, len(arguments)), max_size=20))
    assert opened(mask.unmask_json(arguments), times) == meant
    assert (
        fed(mask, arguments, cuts) == fed(mask, arguments, list(range(len(arguments)))) == mask.unmask_json(arguments)
    )


@given(st.sampled_from(VALUES), JSON, st.integers(1, 2))
def test_a_string_that_is_json_stays_json_and_any_other_gets_the_value_as_it_is(
    value: str, before: Any, times: int
) -> None:
    mask, placeholder = masking(value)
    text = nested([before, placeholder], times, ensure_ascii=False, indent=None)
    assert opened(mask.unmask_argument(text), times) == [before, value]
    for said in (
        "write {}",
        "echo '{}' > x",
        '"{}"',
        'say "{}"',
        "{{ print({}) }}",
        '{{ print("{}") }}',
        '[x] "{}"',
        "[1] {}",
    ):
        assert mask.unmask_argument(said.format(placeholder)) == said.format(value)


@pytest.mark.parametrize(
    ("text", "escapes"),
    [
        ("", 0),
        ("{", 0),
        ('{"', 1),
        ('{"a"', 0),
        ('{"a": "b', 1),
        ('{"a": "\\"', 1),
        ('{"a": "\\\\"', 0),
        ('{"a": "{', 1),
        ('{"a": "{\\"', 2),
        ('{"a": "{\\n\\t \\"', 2),
        ('{"a": "[1.5, -2e3, true, null, {\\"', 2),
        ('{"a": "[say \\"', 1),
        ('{"a": "{\\"b\\"', 1),
        ('{"a": "{\\"b\\": \\"c\\\\\\\\\\"', 1),
        ('{"a": "{\\"b\\": \\"c\\\\\\"', 2),
        ('{"a": "{\\"b\\": \\"[\\\\\\"', 3),
        ('{"a": "{\\"b\\": \\"[\\\\\\"", "c": "', 1),
        ('said: "', 0),
        (' [\n [ [ "', 1),
        ("{" + " " * 300 + '"', 0),
        ('{"a": "' + "x" * 300 + '{\\"', 1),
    ],
)
def test_the_depth_of_a_place_is_that_of_the_strings_around_it(text: str, escapes: int) -> None:
    for cut in range(len(text) + 1):
        nesting = Nesting(is_json=False)
        nesting.read(text[:cut])
        nesting.read(text[cut:])
        assert nesting.escapes == escapes
    known = Nesting(is_json=True)
    for char in text:
        known.read(char)
    assert known.escapes == max(1, escapes) or not text.lstrip().startswith(("{", "["))


def test_slashes_and_quotes_without_end_are_read_once() -> None:
    nesting = Nesting(is_json=True)
    for _ in range(1_000):
        nesting.read("\\" * 1_000)
    nesting.read('"' * 200_000 + "\\" * 500_000 + "x")
    assert nesting.escapes == 1
