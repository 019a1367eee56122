"""A detector that looks before it runs its patterns never misses what these would have found."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import regex  # type: ignore[import-untyped]
from gatehouse.guards import encoded
from gatehouse.guards.pii import cards, detectors, network
from hypothesis import given, settings
from hypothesis import strategies as st

# By name: the look, and a pattern of what is looked for.
LOOKS: dict[str, tuple[Callable[[str], object], Any]] = {}


def _presidios(name: str, look: Callable[[str], object], patterns: Any) -> None:
    for each in patterns:
        LOOKS[f"{name}: {each.name}"] = look, re.compile(each.regex, re.I | re.M | re.S)


for entity, needed in detectors._NEEDED.items():
    _presidios(entity, needed, detectors._PRESIDIO[entity]().patterns)
for version, look in (("IPv4", network._INSIDE_V4.search), ("IPv6", network._has_groups)):
    _presidios(version, look, [each for each in detectors.presidio.IpRecognizer().patterns if version in each.name])
_presidios(
    "MAC",
    lambda text: any(each.search(text) for each in network._INSIDE_MAC),
    detectors.presidio.MacAddressRecognizer().patterns,
)
for name, look, own in (
    ("IBAN", detectors._has_letters_and_digits, detectors._IBAN),
    ("card", cards._FOUR_DIGITS.search, cards._ALONE),
    ("card in groups", cards._FOUR_DIGITS.search, cards._GROUPED),
    ("base64", encoded._may_hold_a_run, encoded._RUN),
):
    LOOKS[name] = look, re.compile(own.pattern, re.I if own.flags & regex.I else 0)


def test_every_pattern_of_presidios_address_has_its_look() -> None:
    names = [each.name for each in detectors.presidio.IpRecognizer().patterns]
    assert sorted(names) == sorted(each.partition(": ")[2] for each in LOOKS if each.startswith("IPv"))


@pytest.mark.parametrize("name", LOOKS)
def test_what_a_pattern_finds_has_been_looked_for(name: str) -> None:
    look, pattern = LOOKS[name]

    @settings(max_examples=25)
    @given(st.text(max_size=8), st.from_regex(pattern), st.text(max_size=8))
    def holds(before: str, found: str, after: str) -> None:
        for text in (found, before + found + after):
            if pattern.search(text):
                assert look(text), text

    holds()


@given(
    st.lists(
        st.sampled_from([*"09 .:-/@+=_\n\\", "9\u0663", "12", "456", "7890", "ab", "DE", "bc1", "f00d", "::", "\uff11"])
    )
)
def test_so_has_what_it_finds_in_any_text(pieces: list[str]) -> None:
    text = "".join(pieces)
    for name, (look, pattern) in LOOKS.items():
        if pattern.search(text):
            assert look(text), (name, text)
