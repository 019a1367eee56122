"""Texts are written where they were read; JSON inside a string changes there and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from gatehouse.dialects.parts import FILE, JSON, KEY, UnknownShape
from gatehouse.dialects.writing import write_back

SPACED = '{ "a" : [ 1.50 , "x" , { "b":"y" } ],\t"c":{ } ,\n"d" : "\\u0041\\n\\ud83d\\ude00z" , "\\u00e9 f":true}'


@pytest.mark.parametrize(
    ("path", "new", "written"),
    [
        (("a", 0), "<N>", SPACED.replace("1.50", '"<N>"')),
        (("a", 1), "<X>", SPACED.replace('"x"', '"<X>"')),
        (("a", 2, "b"), "<Y>", SPACED.replace('"y"', '"<Y>"')),
        (("d",), "A\n\U0001f600<Z>", SPACED.replace('00z"', '00<Z>"')),
        (("d",), "B\n\U0001f600z", SPACED.replace("\\u0041", "B")),
        (("d",), "A!\U0001f600z", SPACED.replace("\\n\\ud83d", "!\\ud83d")),
        (("d",), "A\nz", SPACED.replace("\\ud83d\\ude00", "")),
        (("d",), "A\n\U0001f600z", SPACED),
        (("a", KEY), "k", SPACED.replace('"a"', '"k"')),
        (("a", 2, "b", KEY), "k", SPACED.replace('"b"', '"k"')),
        (("\u00e9 f", KEY), "\u00e9 g", SPACED.replace("9 f", "9 g")),
        (("d",), 'say "\\"', SPACED.replace('"\\u0041\\n\\ud83d\\ude00z"', '"say \\"\\\\\\""')),
        (("d",), "\ud800", SPACED.replace('"\\u0041\\n\\ud83d\\ude00z"', '"\\ud800"')),
        (("d",), "\u00e9", SPACED.replace('"\\u0041\\n\\ud83d\\ude00z"', '"\u00e9"')),
    ],
)
def test_json_in_a_string_changes_where_its_text_does_and_nowhere_else(
    path: tuple[Any, ...], new: str, written: str
) -> None:
    for blanks in ("", " \n"):
        body = {"arguments": blanks + SPACED + blanks}
        write_back(body, {("arguments", JSON, *path): new})
        assert body == {"arguments": blanks + written + blanks}


def test_many_places_of_one_json_are_written_at_once() -> None:
    body = {"arguments": '{"a": {"b": "1", "c": ["2","3"]}, "d": "4"}'}
    at = ("arguments", JSON)
    changes = {(*at, "d"): "IV", (*at, "a", KEY): "A", (*at, "a", "c", 1): "III", (*at, "a", "b"): "I"}
    write_back(body, changes)
    assert body == {"arguments": '{"A": {"b": "I", "c": ["2","III"]}, "d": "IV"}'}


@pytest.mark.parametrize(
    ("text", "new", "written"), [(' "x" ', "y", ' "y" '), ("7", "<N>", '"<N>"'), ('"x"', "x", '"x"')]
)
def test_json_that_is_one_text_or_number_is_replaced_whole(text: str, new: str, written: str) -> None:
    body = {"arguments": text}
    write_back(body, {("arguments", JSON): new})
    assert body == {"arguments": written}


def test_json_inside_json_is_written_where_it_stands() -> None:
    body = {"arguments": '{"a": "{ \\"to\\":\\"x\\" }", "b": [ ]}'}
    write_back(body, {("arguments", JSON, "a", JSON, "to"): "y"})
    assert body == {"arguments": '{"a": "{ \\"to\\":\\"y\\" }", "b": [ ]}'}


@pytest.mark.parametrize(
    ("value", "path", "says"),
    [
        ("{", ("a",), "there is no JSON to replace"),
        ("{} x", ("a",), "there is no JSON to replace"),
        (7, ("a",), "there is no JSON to replace"),
        ("{}", ("a",), "there is nothing to replace"),
        ('{"b": 1}', ("a",), "there is nothing to replace"),
        ("[]", (0,), "there is nothing to replace"),
        ('["x"]', (1,), "there is nothing to replace"),
        ('["x"]', (-1,), "there is nothing to replace"),
        ('["x"]', ("x",), "there is nothing to replace"),
        ('{"a": {"b": {}}}', ("a",), "there is no text to replace"),
        ('{"a": null}', ("a",), "there is no text to replace"),
        ('{"a": "x"}', ("a", "b"), "there is nothing to replace"),
        ('{"a": "x", "b": "y"}', ("a", KEY), "two names would become one"),
    ],
)
def test_a_path_into_json_that_leads_nowhere_is_refused(value: Any, path: tuple[Any, ...], says: str) -> None:
    body = {"arguments": value}
    with pytest.raises(UnknownShape, match=says):
        write_back(body, {("arguments", JSON, *path): "b"})
    assert body == {"arguments": value}


@pytest.mark.parametrize(
    ("value", "path"),
    [(7, ()), (None, ()), ("a word", ()), ("data:text/plain;base64,YSB3b3Jk", ("a",)), ("a word", ("a",))],
)
def test_a_path_into_a_file_that_leads_nowhere_is_refused(value: Any, path: tuple[Any, ...]) -> None:
    body = {"file": value}
    with pytest.raises(UnknownShape, match="there is no file to replace"):
        write_back(body, {("file", FILE, *path): "b"})
    assert body == {"file": value}


def test_a_refusal_names_the_place() -> None:
    body = {"m": [{"arguments": '{"a": {"b": ["x"]}, "c": 1}', "n": {"x": 1, "y": 2}, "t": None}]}
    for path, where in (
        (("m", 0, "arguments", JSON, "a", "b", 7), r"m\[0\]\.arguments.*a.*b"),
        (("m", 0, "arguments", JSON, "a", "d"), r"m\[0\]\.arguments.*a"),
        (("m", 0, "n", "x", KEY), r"m\[0\]\.n"),
        (("m", 0, "n", "z", KEY), r"m\[0\]\.n"),
        (("m", 0, "n", "z"), r"m\[0\]\.n\.z"),
        (("m", 0, "t"), r"m\[0\]\.t"),
        (("m", 0, "t", "u"), r"m\[0\]\.t"),
        (("m", 1), r"m\[1\]"),
        (("m", 0, "n", JSON), r"m\[0\]\.n"),
    ):
        with pytest.raises(UnknownShape, match=where):
            write_back(body, {path: "y"})


def test_names_are_replaced_in_their_order_with_what_stands_below() -> None:
    body: dict[str, Any] = {"o": {"a": {"x": "1"}, "b": 2, "c": "3"}}
    write_back(body, {("o", "a", KEY): "A", ("o", "a", "x"): "I", ("o", "c", KEY): "c", ("o", "b"): "II"})
    assert body == {"o": {"A": {"x": "I"}, "b": "II", "c": "3"}}
    assert list(body["o"]) == ["A", "b", "c"]
    with pytest.raises(UnknownShape, match="there is no name to replace"):
        write_back({"o": ["x"]}, {("o", 0, KEY): "y"})


@pytest.mark.parametrize("number", [4111111111111111, 4111111111111111.0])
def test_a_number_that_is_written_as_it_was_read_stays_a_number(number: float) -> None:
    for body in ({"n": number}, {"n": f'{{"n": {number} }}'}):
        before = dict(body)
        path = ("n",) if body["n"] is number else ("n", JSON, "n")
        write_back(body, {path: "4111111111111111"})
        assert body == before
        write_back(body, {path: "<N>"})
        assert body == ({"n": "<N>"} if len(path) == 1 else {"n": '{"n": "<N>" }'})


def test_nothing_to_write_changes_nothing() -> None:
    body = {"a": 1}
    write_back(body, {})
    write_back(body, {("a", KEY): "a"})
    assert body == {"a": 1}
