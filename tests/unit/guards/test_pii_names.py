"""With `ner: true` names are found, never instead of something better known; without the model nothing starts."""

from __future__ import annotations

import asyncio
import sys
from itertools import pairwise

import pytest
from gatehouse.core.errors import SetupError
from gatehouse.guards.findings import ScanFailed
from gatehouse.guards.pii import names
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.pii.engine import Engine
from gatehouse.guards.scan import ScanConfig
from gatehouse.guards.worker_pool import Scanner

TEXT = "Hi, Jane Doe from Berlin works at Siemens AG, mail jane@example.com."


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(PiiConfig(ner=True))


def found(engine: Engine, text: str) -> list[tuple[str, str]]:
    return [(each.entity, text[each.start : each.end]) for each in engine.scan(text)]


def test_names_are_found_beside_what_is_found_without_the_model(engine: Engine) -> None:
    assert found(engine, TEXT) == [
        ("PERSON", "Jane Doe"),
        ("LOCATION", "Berlin"),
        ("EMAIL_ADDRESS", "jane@example.com"),
    ]
    assert found(Engine(PiiConfig()), TEXT) == [("PERSON", "Jane Doe"), ("EMAIL_ADDRESS", "jane@example.com")]


def test_only_the_names_that_are_asked_for() -> None:
    assert found(Engine(PiiConfig(ner=True, entities={"PERSON": Mode.BLOCK})), TEXT) == [("PERSON", "Jane Doe")]
    assert found(Engine(PiiConfig(ner=True, entities={"ORGANIZATION": None})), TEXT) == [("ORGANIZATION", "Siemens AG")]


def test_a_name_is_found_wherever_the_text_is_cut_for_the_model(engine: Engine) -> None:
    text = "".join(f"Line {number} has some words in it.\n" for number in range(400)) + TEXT
    spans = engine.scan(text)
    assert ("PERSON", "Jane Doe") in found(engine, text)
    assert all(first.end <= second.start for first, second in pairwise(spans))


def test_a_name_never_covers_what_is_better_known(engine: Engine) -> None:
    assert found(engine, "Jane.Doe@Example.com wrote to Jane")[0][0] == "EMAIL_ADDRESS"


def test_fields_of_logs_are_no_names(engine: Engine) -> None:
    assert found(engine, "request_id=5ea16e6f-547d trace_id=54f7f0959 wlan0: STA up, Mozilla/5.0 x86_64") == []


def test_the_time_limit_holds_for_the_model_too() -> None:
    with pytest.raises(ScanFailed, match="timeout"):
        Engine(PiiConfig(ner=True, timeout_s=0.3)).scan(TEXT * 1_000)


def test_the_model_forgets_what_it_read(engine: Engine) -> None:
    engine.scan(TEXT)
    before = len(names._model().vocab.strings)
    engine.scan(" ".join(f"Xq{number}zz met Yw{number}kk." for number in range(300)))
    assert len(names._model().vocab.strings) == before


def test_a_model_that_is_not_installed_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    names._model.cache_clear()
    monkeypatch.setattr(names, "_MODELS", ("no_such_model",))
    with pytest.raises(SetupError, match=r"Install gatehouse\[ner\]"):
        Engine(PiiConfig(ner=True))
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(SetupError, match=r"Install gatehouse\[ner\]"):
        Engine(PiiConfig(ner=True))
    Engine(PiiConfig())


def test_the_scanner_processes_find_names() -> None:
    async def run() -> list[str]:
        scanner = Scanner(ScanConfig(PiiConfig(ner=True)), workers=1)
        await scanner.start()
        try:
            [scan] = await scanner.scan([TEXT])
            return [each.entity for each in scan.findings]
        finally:
            await scanner.close()

    assert asyncio.run(run()) == ["PERSON", "LOCATION", "EMAIL_ADDRESS"]
