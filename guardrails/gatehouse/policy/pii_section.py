"""Turns the `pii` section of policy.yaml into the scanner's configuration, and names the place of every mistake.

The scanner must do all that the section asks for: an entity without a recognizer, an unknown language and a pattern out
of bounds are mistakes. It loads no recognizer, so that checking a policy is fast.
"""

from __future__ import annotations

from collections.abc import Iterator

from gatehouse.core.errors import SetupError
from gatehouse.guards.pii.config import (
    KNOWN_ENTITIES,
    NER_ENTITIES,
    REGIONS_BY_LANGUAGE,
    CustomPattern,
    CustomRecognizer,
    Mode,
    PiiConfig,
)
from gatehouse.policy.document import did_you_mean
from gatehouse.policy.model import PiiPolicy, RecognizerPolicy

Location = tuple[int | str, ...]


def pii_config(policy: PiiPolicy) -> PiiConfig:
    """Return the section as the scanner's configuration, without `on_error`, which the caller must obey.

    Raises:
        SetupError: it names the first mistake.
    """
    for where, what in pii_problems(policy):
        stop = "" if what.endswith("?") else "."
        raise SetupError(f"{'.'.join(str(part) for part in ('pii', *where))}: {what}{stop} Correct policy.yaml.")
    config = PiiConfig(
        mode=Mode(policy.mode),
        entities={name: mode and Mode(mode) for name, mode in policy.entities.items()},
        min_score=dict(policy.min_score),
        languages=policy.languages,
        recognizers=tuple(_recognizer(each) for each in policy.recognizers),
        allow_list=policy.allow_list,
        ner=policy.ner,
    )
    config.check()
    return config


def pii_problems(policy: PiiPolicy) -> Iterator[tuple[Location, str]]:
    """Yield every mistake that the model cannot see: its place in the section, and what is wrong.

    For `Problem(document.line_of(("pii", *where)), what)`.
    """
    languages = [code for code in REGIONS_BY_LANGUAGE if code in policy.languages]
    for index, code in enumerate(policy.languages):
        if code not in REGIONS_BY_LANGUAGE:
            yield (
                ("languages", index),
                f"{code!r} is not a known language; known are {', '.join(REGIONS_BY_LANGUAGE)}",
            )
    if policy.ner and "en" not in policy.languages:
        yield ("ner",), "the language model reads English, and `languages` has no 'en'; add it, or leave `ner` out"
    own = {each.entity for each in policy.recognizers}
    for name, mode in policy.entities.items():
        if name in own or mode == "off" or (name in NER_ENTITIES and policy.ner):
            continue
        if name in NER_ENTITIES and name not in KNOWN_ENTITIES:
            yield (
                ("entities", name),
                f"{name} is found by a language model; add `ner: true`, or a recognizer of your own",
            )
            continue
        if name not in KNOWN_ENTITIES:
            yield ("entities", name), f"{name} is not known{_instead(name, own)}"
        elif (language := KNOWN_ENTITIES[name]) and language not in languages:
            yield ("entities", name), f"{name} is looked for only where `languages` has {language!r}; add it"
    for name in policy.min_score:
        if name not in KNOWN_ENTITIES and name not in NER_ENTITIES and name not in own:
            yield ("min_score", name), f"{name} is not known{_instead(name, own)}"
    for index, recognizer in enumerate(policy.recognizers):
        for nth, pattern in enumerate(recognizer.patterns):
            try:
                CustomPattern(pattern.regex, pattern.score).compiled()
            except SetupError as error:
                what = str(error).removeprefix("pii.recognizers: ").removesuffix(".")
                yield ("recognizers", index, "patterns", nth, "regex"), what


def _instead(name: str, own: set[str]) -> str:
    known = {*KNOWN_ENTITIES, *own}
    # did_you_mean lists the choices only where they are few.
    return did_you_mean(name, known) or f"; known are {', '.join(sorted(known))}"


def _recognizer(policy: RecognizerPolicy) -> CustomRecognizer:
    return CustomRecognizer(
        policy.entity,
        tuple(CustomPattern(each.regex, each.score) for each in policy.patterns),
        policy.deny_list,
        policy.context,
    )
