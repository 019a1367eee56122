"""JSON that two readers could read as two things is refused."""

from __future__ import annotations

import json

import pytest
from gatehouse.core.strict_json import RepeatedName, decode, decode_answer


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "c": 2, "a": 3}}]', '{"a": 1, "\\u0061": 2}'])
def test_a_name_that_is_there_twice_is_refused(text: str) -> None:
    with pytest.raises(RepeatedName, match="twice"):
        decode(text)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "-1e999", "", "{", "[1,]"])
def test_what_only_some_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # of json's own kinds
        decode(text)


@pytest.mark.parametrize(
    "text", ['{"a": [1, 2.5, null, true, "\\u00e9"], "b": {"a": 1}}', "12345678901234567890", '""']
)
def test_what_everybody_reads_alike_is_read(text: str) -> None:
    assert decode(text) == decode(text.encode()) == decode_answer(text) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ('{"a": 1, "a": 1}', False),
        ('{"a": null, "a": null}', False),
        ('{"a": 1, "a": 1.0}', True),
        ('{"a": 1, "a": true}', True),
        ('{"a": [], "a": []}', True),
        ('{"a": 1, "a": 2}', True),
    ],
)
def test_of_an_answer_two_entries_may_be_the_same_plain_value(text: str, refused: bool) -> None:
    if refused:
        with pytest.raises(RepeatedName):
            decode_answer(text)
    else:
        assert decode_answer(text) == json.loads(text)
