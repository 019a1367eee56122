"""The labelled texts for personal data: in many languages, with national identifiers, and with hard negatives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import yaml

from evaluation.frozen.values import Values
from evaluation.samples import Sample

SEED = 20_261_130
_TEXTS = Path(__file__).with_name("people.yaml")
# How often each text is filled.
_TIMES, _TIMES_NATIONAL = {"en": 6}, 5
_TIMES_OTHERS = 4


def _read() -> Any:
    return yaml.safe_load(_TEXTS.read_text())


def people(seed: int = SEED) -> Iterator[Sample]:
    """Yield the texts with personal data of every country, language by language."""
    for language, templates in _read()["texts"].items():
        values = Values(language, seed)
        for _ in range(_TIMES.get(language, _TIMES_OTHERS)):
            yield from (values.fill(template) for template in templates)


def national(seed: int = SEED) -> Iterator[Sample]:
    """Yield the texts with one country's identifiers."""
    for entity, each in _read()["national"].items():
        values = Values(each["language"], seed)
        for _ in range(_TIMES_NATIONAL):
            yield from (values.fill(template, entity) for template in each["texts"])


def negatives(seed: int = SEED) -> Iterator[Sample]:
    """Yield the texts in which nothing is personal data; in turn, each language looks for its numbers in them."""
    read = _read()
    languages = cycle(read["texts"])
    values = Values("en", seed + 1)
    for _ in range(_TIMES_OTHERS):
        for template in read["negatives"]:
            yield replace(values.fill(template), language=next(languages))
