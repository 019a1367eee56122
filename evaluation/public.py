"""Reads public sets of labelled texts that users fetch themselves; none of them is part of this repository."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from gatehouse.core.errors import SetupError

from evaluation.samples import Sample

# What the sets call what is scored here; their other entities are left out.
_NAMES = {
    "CREDIT_CARD": "CREDIT_CARD",
    "CREDITCARDNUMBER": "CREDIT_CARD",
    "EMAIL_ADDRESS": "EMAIL_ADDRESS",
    "EMAIL": "EMAIL_ADDRESS",
    "IBAN_CODE": "IBAN_CODE",
    "IBAN": "IBAN_CODE",
    "IP_ADDRESS": "IP_ADDRESS",
    "IP": "IP_ADDRESS",
    "IPV4": "IP_ADDRESS",
    "IPV6": "IP_ADDRESS",
    "MAC": "MAC_ADDRESS",
    "PERSON": "PERSON",
    "PHONE_NUMBER": "PHONE_NUMBER",
    "PHONENUMBER": "PHONE_NUMBER",
    "TELEPHONENUM": "PHONE_NUMBER",
    "STREET_ADDRESS": "ADDRESS",
    "SSN": "US_SSN",
    "US_SSN": "US_SSN",
}
# As some sets name a text's language.
_LANGUAGES = {"german": "de", "spanish": "es", "dutch": "nl"}


def _presidio(text: str) -> Iterator[Sample]:
    """Read presidio-research's list of samples, such as its synth_dataset_v2.json."""
    for each in json.loads(text):
        spans = ((span["entity_type"], span["start_position"], span["end_position"]) for span in each["spans"])
        yield _sample(each["full_text"], spans)


def _ai4privacy(text: str) -> Iterator[Sample]:
    """Read lines of `source_text`, `privacy_mask` and `language`."""
    for line in text.splitlines():
        each = json.loads(line)
        spans = ((span["label"].rstrip("0123456789_"), span["start"], span["end"]) for span in each["privacy_mask"])
        language = str(each.get("language", "en")).lower()
        yield _sample(each["source_text"], spans, _LANGUAGES.get(language, language[:2]))


def _sample(text: str, spans: Iterator[tuple[str, int, int]], language: str = "en") -> Sample:
    return Sample(text, tuple((_NAMES[name], *at) for name, *at in spans if name in _NAMES), language)


FORMATS: Mapping[str, Callable[[str], Iterator[Sample]]] = {"presidio": _presidio, "ai4privacy": _ai4privacy}


def read(path: Path, form: str) -> Iterator[Sample]:
    """Yield the texts of a file.

    Raises:
        SetupError: the file cannot be read, or has another form.
    """
    try:
        yield from FORMATS[form](path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}. Name a file that can be read.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        form_wanted = "a list of full_text and spans" if form == "presidio" else "lines of source_text and privacy_mask"
        raise SetupError(f"{path} is not {form_wanted} ({error!r}). Give --format the form of the file.") from None
