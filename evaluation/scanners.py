"""What is compared: Gatehouse as shipped, and Presidio as its own image configures it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Protocol

from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.config import DEFAULT_ENTITIES, KNOWN_ENTITIES, REGIONS_BY_LANGUAGE, Mode, PiiConfig
from gatehouse.guards.pii.engine import Engine

from evaluation.presidio import engine as presidio_engine

# Presidio reports every guess, down to a score of 0.01. Without a bar, nearly every number is a finding.
_BAR = 0.4


class Scanner(Protocol):
    """Find personal data in a text of a language."""

    name: str

    def find(self, text: str, language: str) -> list[Finding]:
        """Return every finding."""

    def altered(self, text: str) -> list[Finding]:
        """Return the findings that change an English text as the scanner is shipped."""


class Ours:
    """Scan with the entities that are shipped, in the text's own language where it is offered.

    Args:
        more: entities that are looked for beside those.
        ner: also with the language model.
    """

    def __init__(self, more: Iterable[str] = (), *, ner: bool = False) -> None:
        self.name = "Gatehouse + model" if ner else "Gatehouse"
        self._more = tuple(name for name in more if name in KNOWN_ENTITIES)
        self._ner = ner
        self._engine = cache(self._made)

    def _config(self, language: str) -> PiiConfig:
        entities = dict.fromkeys((*DEFAULT_ENTITIES, *self._more)) if self._more else {}
        languages = (language if language in REGIONS_BY_LANGUAGE else "en",)
        return PiiConfig(entities=entities, languages=languages, ner=self._ner)

    def _made(self, language: str) -> Engine:
        engine = Engine(self._config(language))
        engine.warm()
        return engine

    def find(self, text: str, language: str) -> list[Finding]:
        return self._engine(language).scan(text)

    def altered(self, text: str) -> list[Finding]:
        mode_of = self._config("en").mode_of
        return [each for each in self.find(text, "en") if mode_of(each.entity) in (Mode.MASK, Mode.BLOCK)]


class Presidio:
    """Scan with Presidio's analyzer, which as shipped knows English.

    Args:
        names: also with the small English model of spaCy.
        more: entities that are looked for beside `entities`.
    """

    entities = (
        "CREDIT_CARD",
        "CRYPTO",
        "EMAIL_ADDRESS",
        "IBAN_CODE",
        "IP_ADDRESS",
        "MAC_ADDRESS",
        "PHONE_NUMBER",
        "US_ITIN",
        "US_SSN",
    )
    """What is asked of it: the entities that Gatehouse looked for when this comparison began."""

    def __init__(self, more: Iterable[str] = (), *, names: bool = False) -> None:
        self.name = "Presidio + model" if names else "Presidio"
        self._engine = presidio_engine(names=names)
        known = {*self._engine.get_supported_entities("en")}
        self._entities = [each for each in (*self.entities, *more, *(("PERSON",) if names else ())) if each in known]

    def find(self, text: str, language: str) -> list[Finding]:
        found: list[Any] = self._engine.analyze(text, "en", self._entities, score_threshold=_BAR)
        return [Finding(each.entity_type, each.start, each.end, each.score) for each in found]

    def altered(self, text: str) -> list[Finding]:
        return self.find(text, "en")
