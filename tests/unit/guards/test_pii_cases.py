"""The detectors find what people write, and leave alone what agents work with.

The cases stand in `cases/`, were written before the detectors, and are not changed to suit them.
"""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path

import pytest
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.config import KNOWN_ENTITIES, Mode, PiiConfig
from gatehouse.guards.pii.engine import Engine

CASES = Path(__file__).with_name("cases")


def lines(name: str) -> list[str]:
    text = (CASES / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def marked(line: str) -> tuple[str, list[tuple[int, int]]]:
    """Return the text without its marks, and the places that they show."""
    text, places = "", []
    for part in re.split(r"(\[\[.*?\]\])", line.replace("\\n", "\n")):
        if part.startswith("[[") and part.endswith("]]"):
            places.append((len(text), len(text) + len(part) - 4))
            part = part[2:-2]
        text += part
    return text, places


@cache
def engine(*languages: str, entity: str = "") -> Engine:
    entities = {entity: Mode.MASK} if entity else {}
    return Engine(PiiConfig(languages=languages or ("en",), entities=entities))


def iou(each: Finding, start: int, end: int) -> float:
    return (min(each.end, end) - max(each.start, start)) / (max(each.end, end) - min(each.start, start))


@pytest.mark.parametrize("line", [line for line in lines("personal.txt") if line.partition("|")[0] in KNOWN_ENTITIES])
def test_a_value_is_found_whole(line: str) -> None:
    entity, language, written = line.split("|", 2)
    text, places = marked(written)
    found = engine(language, entity=entity).scan(text)
    assert [(each.entity, each.start, each.end) for each in found] == [(entity, *place) for place in places]


@pytest.mark.parametrize(
    ("name", "entity", "recall", "precision"),
    [("persons.txt", "PERSON", 0.75, 0.8), ("addresses.txt", "ADDRESS", 0.7, 0.9)],
)
def test_names_and_addresses_are_mostly_found(name: str, entity: str, recall: float, precision: float) -> None:
    if entity not in KNOWN_ENTITIES:
        pytest.skip("not looked for yet")
    right = wrong = missed = 0
    mistakes = []
    for line in lines(name):
        text, places = marked(line)
        found = [each for each in engine(entity=entity).scan(text) if each.entity == entity]
        for start, end in places:
            hit = next((each for each in found if iou(each, start, end) >= 0.5), None)
            if hit is None:
                missed += 1
                mistakes.append(f"missed {text[start:end]!r} in {text!r}")
            else:
                right += 1
                found.remove(hit)
        wrong += len(found)
        mistakes += [f"wrong {text[each.start : each.end]!r} in {text!r}" for each in found]
    assert right / (right + missed) >= recall, "\n".join(mistakes)
    assert right / (right + wrong) >= precision, "\n".join(mistakes)


@pytest.mark.parametrize("line", lines("ordinary.txt"))
def test_ordinary_text_stays_as_it_is(line: str) -> None:
    text, _ = marked(line)
    assert _masked(text) == []


def _numbers(seed: int) -> dict[str, list[str]]:
    draw = random.Random(seed)
    below = draw.randrange
    size = lambda: below(10 ** below(1, 7))  # noqa: E731
    thousand = range(1_000)
    return {
        "floats": [repr(draw.random() * 10 ** below(-5, 6)) for _ in thousand],
        "labelled floats": [f"loss: {draw.random()} acc={draw.random() * 100}" for _ in thousand],
        "identifiers of sixteen digits": [str(below(10**15, 10**16)) for _ in thousand],
        "named identifiers": [f'{{"id": {below(10**15, 10**16)}}}' for _ in thousand],
        "identifiers in sentences": [f"processed {below(10**15, 10**16)} in {below(100)} ms" for _ in thousand],
        "versions of four parts": [".".join(str(below(top)) for top in (30, 40, 100, 9_999)) for _ in thousand],
        "rows of three": [f"{size()} {size()} {size()}" for _ in thousand],
        "rows in columns": [f"{size():>8}{size():>8}{size():>8}" for _ in thousand],
        "rows with tabs": [f"{size()}\t{size()}\t{size()}" for _ in thousand],
        "named rows": [f"a{nth} {size()} {size()} {size()}" for nth in thousand],
        "sums": [f"t + {below(10 ** below(7, 16))}" for _ in thousand],
        "dates": [
            f"{below(1, 32):02}.{below(1, 13):02}.{below(1950, 2030)} {below(24):02}:{below(60):02}" for _ in thousand
        ],
        "epochs": [f"ts={1_714_521_600 + below(10**8)} {1_714_521_600_000 + below(10**11)}" for _ in thousand],
        "hashes": [f"{draw.getrandbits(64):x} {draw.getrandbits(160):040x}" for _ in thousand],
        "sizes": [f"-rw-r--r-- 1 root root {size()} Nov {below(30)} 02:55 file{below(99)}.txt" for _ in thousand],
        "places": [f"{draw.uniform(-90, 90):.6f},{draw.uniform(-180, 180):.6f}" for _ in thousand],
    }


@pytest.mark.parametrize("kind", _numbers(0))
def test_of_a_thousand_made_up_numbers_at_most_two_are_altered(kind: str) -> None:
    numbers = _numbers(20_261)[kind]
    assert sum(len(_masked(text)) for text in numbers) <= 2
    assert len(_masked("\n".join(numbers))) <= 2


def _masked(text: str) -> list[tuple[str, str]]:
    masked = [each for each in engine().scan(text) if PiiConfig().mode_of(each.entity) is Mode.MASK]
    return [(each.entity, text[each.start : each.end]) for each in masked]


def test_a_higher_bar_leaves_out_what_only_looks_like_it() -> None:
    strict = Engine(PiiConfig(min_score={"PHONE_NUMBER": 0.8}))
    assert [each.entity for each in strict.scan("201-555-0123")] == []
    assert [each.entity for each in strict.scan("phone: 201-555-0123")] == ["PHONE_NUMBER"]
