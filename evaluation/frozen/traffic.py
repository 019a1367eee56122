"""The corpus of agents' traffic: what agents send to a model all day, in which almost nothing is personal data.

`recorded/` holds the output of tools and pieces of packages, one file a kind; `generated.py` makes the rest. Authors of
commits are made up, and labelled: whoever masks these damages nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from evaluation.frozen.generated import SEED, files, numbers
from evaluation.frozen.values import ENTITIES, Values
from evaluation.samples import Sample

_RECORDED = Path(__file__).with_name("recorded")
_ARTEFACT = re.compile(r"^⟦artefact .*⟧\n", re.MULTILINE)
_AUTHOR = re.compile("⟦(name|email)⟧")


def traffic(seed: int = SEED) -> Iterator[tuple[str, Sample]]:
    """Yield kind and text of every artefact but those of numbers alone."""
    for file in sorted(_RECORDED.glob("*.txt")):
        values = Values("en", seed)
        for text in _ARTEFACT.split(file.read_text(encoding="utf-8"))[1:]:
            yield file.stem, _with_authors(text, values)
    yield from files(seed)


def _with_authors(text: str, values: Values) -> Sample:
    """Put made-up authors where the real ones stood. Only these are filled: the text may hold braces of its own."""
    made, spans, done = "", [], 0
    for slot in _AUTHOR.finditer(text):
        made += text[done : slot.start()]
        value = values.value(slot[1])
        spans.append((ENTITIES[slot[1]], len(made), len(made) + len(value)))
        made += value
        done = slot.end()
    return Sample(made + text[done:], tuple(spans))


def everything(seed: int = SEED) -> Iterator[tuple[str, Sample]]:
    """Yield all artefacts, the thousand numbers of each kind too."""
    yield from traffic(seed)
    yield from numbers(seed)
