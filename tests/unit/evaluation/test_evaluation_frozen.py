"""The frozen sets stay as they were written, so that figures of one day compare with those of another."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable

import pytest

from evaluation.frozen.generated import LINES, numbers
from evaluation.frozen.national import NATIONAL, luhn
from evaluation.frozen.people import national, negatives, people
from evaluation.frozen.secret_kinds import no_secret_texts, secret_texts
from evaluation.frozen.traffic import traffic
from evaluation.frozen.values import DOMAINS
from evaluation.samples import Sample


def digest(samples: Iterable[Sample]) -> str:
    """Return what changes with any text, place or language."""
    return hashlib.sha256(repr([(each.text, each.spans, each.language) for each in samples]).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("samples", "frozen"),
    [
        (people(), "a7f3f4e46d8a4d5c"),
        (national(), "5975ff6395e7cfe3"),
        (negatives(), "59a01dfbc2efd2db"),
        (secret_texts(), "657496b09e061543"),
        (no_secret_texts(), "d669019d17ad04d6"),
        ((sample for _, sample in traffic()), "e886af3f5ea4125c"),
        ((sample for _, sample in numbers()), "fb1ee519b1ff4f71"),
    ],
    ids=["people", "national", "negatives", "secrets", "no secrets", "traffic", "numbers"],
)
def test_a_frozen_set_is_the_one_whose_figures_are_published(samples: Iterable[Sample], frozen: str) -> None:
    assert digest(samples) == frozen


def test_there_is_enough_of_each_entity_and_language() -> None:
    found = Counter(entity for sample in people() for entity, _, _ in sample.spans)
    assert len({sample.language for sample in people()}) == 19
    assert all(
        found[entity] >= 80 for entity in ("CREDIT_CARD", "EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "MAC_ADDRESS")
    )
    assert all(found[entity] >= 140 for entity in ("ADDRESS", "DATE_OF_BIRTH", "PERSON", "PHONE_NUMBER"))
    assert {entity for sample in national() for entity, _, _ in sample.spans} >= NATIONAL.keys()
    assert not any(sample.spans for sample in negatives())
    assert len({kind for sample in secret_texts() for kind, _, _ in sample.spans}) == 132


def test_every_slot_is_filled_and_every_value_stands_where_its_span_says() -> None:
    for sample in [*people(), *national(), *negatives(), *secret_texts()]:
        assert "{{value}}" not in sample.text
        assert all(
            0 <= start < end <= len(sample.text) and sample.text[start:end].strip() for _, start, end in sample.spans
        )


def test_cards_and_ibans_have_their_check_digits() -> None:
    for sample in people():
        for entity, start, end in sample.spans:
            value = "".join(char for char in sample.text[start:end] if char.isalnum())
            if entity == "CREDIT_CARD":
                assert luhn([int(char) for char in value[:-1]]) == int(value[-1])
            if entity == "IBAN_CODE":
                assert int("".join(str(int(char, 36)) for char in value[4:] + value[:4])) % 97 == 1


def test_the_corpus_of_traffic_has_enough_artefacts_of_enough_kinds() -> None:
    artefacts = [*traffic()]
    assert len(artefacts) >= 300
    assert len({kind for kind, _ in artefacts}) >= 30
    assert sum(len(sample.text) for _, sample in artefacts) >= 1_000_000
    assert all(len(sample.text.splitlines()) == LINES for _, sample in numbers())


def test_the_corpus_names_only_people_who_are_made_up() -> None:
    """Each address is one of those that are made up."""
    addresses = re.compile(r"[\w.+-]+@(?:[\w-]+\.)+(?:com|org|net|edu|example|io|dev)\b")
    for kind, sample in traffic():
        assert "\u27e6" not in sample.text, kind
        for found in addresses.finditer(sample.text):
            assert found[0].partition("@")[2] in DOMAINS, found[0]
