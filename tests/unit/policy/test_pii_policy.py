"""The `pii` section of policy.yaml becomes what the scanner takes, and its mistakes are named by where they stand."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from gatehouse.core.errors import SetupError
from gatehouse.guards.pii import detectors
from gatehouse.guards.pii.config import KNOWN_ENTITIES, CustomPattern, CustomRecognizer, Mode, PiiConfig
from gatehouse.guards.pii.engine import Engine
from gatehouse.policy.document import parse_document
from gatehouse.policy.model import PatternPolicy, PiiPolicy, Policy, RecognizerPolicy
from gatehouse.policy.pii_section import pii_config, pii_problems

WHOLE = {
    "mode": "block",
    "entities": {"EMAIL_ADDRESS": "mask", "PHONE_NUMBER": None, "STAFF_ID": "observe", "URL": "off"},
    "languages": ["en", "de"],
    "recognizers": [
        {
            "entity": "STAFF_ID",
            "patterns": [{"regex": r"\bE\d{5}\b", "score": 0.3}],
            "deny_list": ["E-BOARD"],
            "context": ["badge"],
        }
    ],
    "allow_list": ["Support@example.com"],
    "ner": True,
    "on_error": "allow",
}


def policy(**section: object) -> PiiPolicy:
    return PiiPolicy.model_validate(section)


def test_every_key_of_the_section_arrives() -> None:
    assert pii_config(policy(**WHOLE)) == PiiConfig(
        mode=Mode.BLOCK,
        entities={"EMAIL_ADDRESS": Mode.MASK, "PHONE_NUMBER": None, "STAFF_ID": Mode.OBSERVE, "URL": Mode.OFF},
        languages=("en", "de"),
        recognizers=(CustomRecognizer("STAFF_ID", (CustomPattern(r"\bE\d{5}\b", 0.3),), ("E-BOARD",), ("badge",)),),
        allow_list=("Support@example.com",),
        ner=True,
    )


def test_a_new_key_of_the_section_is_not_forgotten() -> None:
    """This fails when the model has a key that `pii_config` does not map. The other four belong to the pipeline."""
    known = {each.name for each in fields(PiiConfig)} | {"on_error", "remember", "scope", "unmask_links"}
    assert set(PiiPolicy.model_fields) <= known
    assert set(RecognizerPolicy.model_fields) == {each.name for each in fields(CustomRecognizer)}
    assert set(PatternPolicy.model_fields) <= {each.name for each in fields(CustomPattern)}


def test_an_empty_section_is_the_configuration_by_default() -> None:
    assert pii_config(policy()) == PiiConfig()


@pytest.mark.parametrize(
    ("section", "where", "says"),
    [
        ({"entities": ["EMAIL_ADRESS"]}, ("entities", "EMAIL_ADRESS"), "did you mean EMAIL_ADDRESS?"),
        ({"entities": ["ZZZZ"]}, ("entities", "ZZZZ"), "known are ABA_ROUTING_NUMBER"),
        ({"entities": {"LOCATION": "mask"}}, ("entities", "LOCATION"), "add `ner: true`"),
        ({"min_score": {"EMAIL_ADRESS": 0.5}}, ("min_score", "EMAIL_ADRESS"), "did you mean EMAIL_ADDRESS?"),
        ({"ner": True, "languages": ["de"]}, ("ner",), "`languages` has no 'en'"),
        ({"entities": ["ES_NIF"]}, ("entities", "ES_NIF"), "`languages` has 'es'"),
        ({"languages": ["en", "xx"]}, ("languages", 1), "'xx' is not a known language"),
        (
            {"recognizers": [{"entity": "X", "patterns": [{"regex": "x"}, {"regex": "(a"}]}]},
            ("recognizers", 0, "patterns", 1, "regex"),
            "Correct the regular expression",
        ),
        (
            {"recognizers": [{"entity": "X", "patterns": [{"regex": "a*"}]}]},
            ("recognizers", 0, "patterns", 0, "regex"),
            "matches the empty text",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(section: dict[str, object], where: tuple[object, ...], says: str) -> None:
    [(place, what)] = pii_problems(policy(**section))
    assert place == where
    assert says in what
    with pytest.raises(SetupError, match="pii." + r"\.".join(str(part) for part in where)) as caught:
        pii_config(policy(**section))
    assert says in str(caught.value)


def test_an_entity_of_ones_own_is_known_also_in_a_suggestion() -> None:
    own = [{"entity": "STAFF_ID", "deny_list": ["E-BOARD"]}]
    assert not list(pii_problems(policy(entities=["STAFF_ID"], recognizers=own)))
    [(_, what)] = pii_problems(policy(entities=["STAFF_IDS"], recognizers=own))
    assert what.endswith("did you mean STAFF_ID?")


def test_what_is_switched_off_may_be_of_another_language() -> None:
    assert not list(pii_problems(policy(entities={"ES_NIF": "off"})))


def test_off_needs_no_quotes() -> None:
    text = b"version: 1\npii: {mode: off, entities: {URL: off, CRYPTO: mask}}\nscreens: {secrets: off}\n"
    read = parse_document(Path("policy.yaml"), text).validated(Policy)
    assert read.pii is not None
    config = pii_config(read.pii)
    assert (config.mode, config.mode_of("URL"), config.mode_of("CRYPTO")) == (Mode.OFF, Mode.OFF, Mode.MASK)
    assert read.screens is not None
    assert read.screens.secrets == "off"


def test_every_known_entity_has_a_detector_and_every_detector_is_known() -> None:
    assert {*detectors._PRESIDIO, *detectors._OWN, "PHONE_NUMBER"} == set(KNOWN_ENTITIES)
    languages = tuple(dict.fromkeys(filter(None, KNOWN_ENTITIES.values())))
    assert pii_config(policy(entities=list(KNOWN_ENTITIES), languages=languages)).wanted == tuple(
        sorted(KNOWN_ENTITIES)
    )
    assert all(detectors.built_in(entity, languages) is not None for entity in KNOWN_ENTITIES)


def test_what_the_policy_says_is_what_the_engine_finds() -> None:
    engine = Engine(pii_config(policy(**WHOLE)))
    text = "badge E12345, e-board, jane@example.com, support@EXAMPLE.com, https://example.com, 4111 1111 1111 1111"
    assert [each.entity for each in engine.scan(text)] == ["STAFF_ID", "STAFF_ID", "EMAIL_ADDRESS"]


def test_checking_a_policy_loads_no_recognizer() -> None:
    code = "import sys, gatehouse.policy.pii_section; print('presidio_analyzer' in sys.modules, 'spacy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
