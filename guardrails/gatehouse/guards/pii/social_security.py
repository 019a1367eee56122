"""Finds social security and taxpayers' numbers of the United States: in their groups with hyphens, or labelled."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gatehouse.guards.deadline import Deadline
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.labels import Labels, words

_BEGIN, _END = r"[0-9](?<![0-9A-Za-z].)(?<![0-9][-.].)", r"(?![0-9A-Za-z]|[-.][0-9A-Za-z])"
# Areas 000, 666 and 900 to 999, group 00 and serial 0000 were never given as social security numbers; the groups of
# taxpayers' numbers are those that the tax office names.
_SSN = re.compile(
    rf"{_BEGIN}(?<!9)(?<!0(?=00))(?<!6(?=66))[0-9]{{2}}([-. ]?)(?!00)[0-9]{{2}}\1(?!0000)[0-9]{{4}}{_END}"
)
_ITIN = re.compile(rf"{_BEGIN}(?<=9)[0-9]{{2}}([- ]?)(?:5[0-9]|6[0-5]|7[0-9]|8[0-8]|9[0-24-9])\1[0-9]{{4}}{_END}")
# Things whose numbers have the same groups now and then.
_OTHER = tuple("part sku order invoice serial model item isbn tracking ticket product version build".split())
_LABELS = Labels(own=words("social_security"), other=_OTHER)
_SCORE, _LABELLED = 0.6, 1.0
# Up to so many characters may stand between the number and a word that says that it is another one.
_NEAR = 12


def ssns(text: str, deadline: Deadline) -> Iterator[Finding]:
    """Yield the social security numbers in the text."""
    return _found("US_SSN", _SSN, text, deadline)


def itins(text: str, deadline: Deadline) -> Iterator[Finding]:
    """Yield the numbers of taxpayers without a social security number."""
    return _found("US_ITIN", _ITIN, text, deadline)


def _found(entity: str, pattern: re.Pattern[str], text: str, deadline: Deadline) -> Iterator[Finding]:
    for match in pattern.finditer(text):
        deadline.left()
        label = _LABELS.before(text, match.start())
        if label is not None and label.kind == "own":
            yield Finding(entity, match.start(), match.end(), _LABELLED, ("label", "form"))
        elif match[1] == "-" and (label is None or len(label.gap) > _NEAR):
            yield Finding(entity, match.start(), match.end(), _SCORE, ("form",))
