"""Personal data in hexadecimal, in a URL's, HTML's or JSON's escapes is masked where it stands; nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from urllib.parse import quote, quote_plus

import pytest
from gatehouse.guards.deadline import Deadline
from gatehouse.guards.encoded import unescaped
from gatehouse.guards.pii.config import PiiConfig
from gatehouse.guards.pii.engine import Engine

VALUES = {
    "EMAIL_ADDRESS": "anna.kowalska@example.com",
    "CREDIT_CARD": "4111 1111 1111 1111",
    "PHONE_NUMBER": "+1 201 555 0123",
    "IBAN_CODE": "DE89 3704 0044 0532 0130 00",
}
# All of a value, and what in it is no letter and no digit.
WAYS: dict[str, Callable[[str], str]] = {
    "hexadecimal": lambda value: value.encode().hex(),
    "hexadecimal with a mark": lambda value: ("\ufeff" + value).encode().hex().upper(),
    "percent": lambda value: "".join(f"%{byte:02x}" for byte in value.encode()),
    "URL": lambda value: quote(value, safe=""),
    "form": lambda value: quote_plus(value) if "%" in quote_plus(value) else quote(value),
    "twice": lambda value: quote(quote(value, safe=""), safe=""),
    "decimal entities": lambda value: "".join(f"&#{ord(char)};" for char in value),
    "hexadecimal entities": lambda value: "".join(f"&#x{ord(char):X};" for char in value),
    "marks as entities": lambda value: "".join(char if char.isalnum() else f"&#{ord(char)};" for char in value),
    "escaped entities": lambda value: "".join(char if char.isalnum() else f"&amp;#{ord(char)};" for char in value),
    "names": lambda value: value.replace("@", "&commat;").replace(" ", "&nbsp;").replace("+", "&plus;"),
    "JSON": lambda value: "".join(f"\\u{ord(char):04x}" for char in value),
    "marks in JSON": lambda value: "".join(char if char.isalnum() else f"\\u{ord(char):04X}" for char in value),
    "Python": lambda value: "".join(f"\\x{ord(char):02x}" for char in value),
    "JavaScript": lambda value: "".join(f"\\u{{{ord(char):x}}}" for char in value),
}
PROSE = "The quick brown fox jumps over the lazy dog. "


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(PiiConfig())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("entity", VALUES)
def test_personal_data_is_masked_where_it_is_written_in_escapes(engine: Engine, entity: str, way: str) -> None:
    written = WAYS[way](VALUES[entity])
    for before, after in (("", ""), (PROSE, f" and more. {PROSE}"), ('{"a": "', '"}'), ("<p>", "</p>")):
        found = engine.scan(before + written + after)
        assert [each.entity for each in found] == [entity]
        assert (before + written + after)[found[0].start : found[0].end] == written


def test_of_a_text_that_is_all_escapes_only_the_value_is_masked(engine: Engine) -> None:
    text = WAYS["percent"](f"{PROSE} Write to jane@example.com, please. {PROSE}")
    (found,) = engine.scan(text)
    assert text[found.start : found.end] == WAYS["percent"]("jane@example.com")


@pytest.mark.parametrize(
    "text",
    [
        "https://shop.example/a%20b/?q=1%2C2&t=2026-01-02T10%3A00%3A00Z&ids=12345678%2D1234%2C99887766&next=%2Fhome",
        "<td>1&nbsp;234&nbsp;567,00&nbsp;&euro;</td><td>&lt;b&gt; 10&#37; &amp; more &copy;&nbsp;2026</td>",
        r"print('\x1b[31m\u2014 \u00e9t\u00e9\x1b[0m'); path = 'C:\users\x12\u0041bc'; re.compile('\\d{3}\x20\\d')",
        "100% of 50%25 are %d and %s, LIKE '%20%', a & b && c &= d",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 d41d8cd98f00b204e9800998ecf8427e",
    ],
)
def test_ordinary_escapes_are_no_finding(engine: Engine, text: str) -> None:
    assert engine.scan(text) == []


@pytest.mark.parametrize("unit", ["%40", "&#64;", "\\u0040", "a@b%2E", "&amp;", "%", "a" * 39 + "%41", "&#64;b.co "])
def test_what_is_undone_is_the_text_once_whatever_it_is(unit: str) -> None:
    text = unit * 5_000
    for around in (0, 60):
        stretches = list(unescaped(text, Deadline(monotonic() + 60), around=around))
        assert sum(len(each.text) for each in stretches) <= len(text) + 2 * around * len(stretches)
        for each in stretches:
            assert len(each.text) == len(each.starts) == len(each.ends)
