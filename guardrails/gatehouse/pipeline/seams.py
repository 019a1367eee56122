"""What the scan of each text alone does not see: a value that is cut in two, and the name that says what a number is.

A model reads the parts of a message as one text, so what is found across a border is found in each of the parts. Only
the borders are read again, so the work grows with the number of parts and not with their length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Final

from gatehouse.dialects.parts import KEY, Path, Step, TextPart
from gatehouse.guards.findings import Finding, merged
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.scan import Scan
from gatehouse.guards.screens.hits import Hit

# What is read on each side of a border, and up to where a single word on it is followed, as a token may be long.
_WINDOW: Final = 256
_MAX_WORD: Final = 2_048
# Many short parts are read in pieces of this length.
_MAX_JOINED: Final = 8_192

# Where the APIs have what is said, and how its fields are called there.
_SAID: Final = frozenset(("messages", "input", "system", "instructions"))
_TEXTS: Final = frozenset(("content", "text", "output", "thinking"))

# A name in words or in camels. Another one may be the first half of a value, and so may one whose value goes on with
# a mark that stands inside keys and addresses.
_PLAIN_NAME: Final = re.compile(
    r"_{0,2}+(?:[A-Z]{1,3})?+[a-z]++(?:[_-]?+[A-Z]?+[a-z]++)*+(?:[_-]?[0-9]{1,2})?|[A-Z]{1,5}|[A-Z]++(?:_[A-Z]++)++"
)
_GOES_ON: Final = tuple("_-@+")
_WORD_OF_NAME: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_NUMBER: Final = re.compile(r"[\d\s+().,/-]{7,40}")
# Words in a name that say whose number it is, and the word that the detectors know for it.
_LABELS: Final = {
    **{name: name for name in "tel fax whatsapp sms visa mastercard amex maestro iban nhs pesel ssn itin".split()},
    **{name: name for name in "passport aadhaar tfn abn acn medicare nif nie nino routing aba dni nric".split()},
    **dict.fromkeys("phone phones telephone telephones mobile mobiles cellphone msisdn handy".split(), "phone"),
    **dict.fromkeys("card cards creditcard debitcard pan cc ccn".split(), "card"),
    "phonenumber": "phone",
    "cardnumber": "card",
    "social": "social security",
}
# Words at the end of a name that say that its number counts, orders or refers to something.
_COUNTS: Final = frozenset(
    """
    id ids uid guid uuid key seed nonce ts timestamp time at ns us ms seconds seq sequence offset cursor version hash
    checksum bytes size count total rev revision snowflake index length limit
    """.split()
)
# The networks whose cards are nearly all that there are, by their usual lengths.
_USUAL_CARD: Final = re.compile(
    r"(?:4[0-9]{3}|5[1-5][0-9]{2}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)|35[0-9]{2}|6011|65[0-9]{2})"
    r"[0-9]{12}|3[47][0-9]{13}"
)


@dataclass(frozen=True, slots=True)
class _Piece:
    """`text[start:end]` of the part with this index stands at `at` in what was joined."""

    part: int
    start: int
    end: int
    at: int

    @property
    def length(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class JoinedParts:
    """Pieces of parts that are read together.

    Attributes:
        text: all of them.
        pieces: where each comes from, in the order of the text.
    """

    text: str = field(repr=False)
    pieces: tuple[_Piece, ...]

    def across(self, start: int, end: int) -> list[tuple[int, int, int]]:
        """The parts that hold `text[start:end]`, each with where in it; empty where one part alone holds it."""
        found = [
            (each.part, each.start + max(0, start - each.at), each.start + min(each.length, end - each.at))
            for each in self.pieces
            if each.at < end and start < each.at + each.length
        ]
        return found if len(found) > 1 or len(self.pieces) == 1 else []


def joined(parts: Sequence[TextPart]) -> list[JoinedParts]:
    """What is to be read together of these parts."""
    return [*_borders(parts), *_names(parts)]


def _borders(parts: Sequence[TextPart]) -> Iterator[JoinedParts]:
    run: list[int] = []
    for index, part in enumerate(parts):
        if not _is_said(part.path):
            continue
        if run and parts[run[-1]].role != part.role:
            yield from _of_run(parts, run)
            run = []
        run.append(index)
    yield from _of_run(parts, run)


def _is_said(path: Path) -> bool:
    if path[0] not in _SAID or (len(path) < 3 and path[0] != "system"):
        return False
    last = path[-2] if isinstance(path[-1], int) else path[-1]
    return last in _TEXTS and not any(isinstance(step, Step) for step in path)


def _of_run(parts: Sequence[TextPart], run: list[int]) -> Iterator[JoinedParts]:
    """The borders of neighbouring parts, also with the blank that a cut between two words may have taken away."""
    for pieces in _pieces(parts, run):
        yield _together(parts, pieces, "")
        if any(_meet(parts, *each) for each in pairwise(pieces)):
            yield _together(parts, pieces, " ")


def _meet(parts: Sequence[TextPart], left: _Piece, right: _Piece) -> bool:
    """Whether two pieces touch without a blank between them."""
    return not parts[left.part].text[left.end - 1].isspace() and not parts[right.part].text[right.start].isspace()


def _pieces(parts: Sequence[TextPart], run: list[int]) -> Iterator[list[_Piece]]:
    """What stands at the borders of neighbouring parts. A part that is short stands whole between its two."""
    pieces: list[_Piece] = []
    for nth, index in enumerate(run):
        length = len(parts[index].text)
        head = length if nth == 0 else _head(parts[index].text)
        tail = 0 if nth + 1 == len(run) else _tail(parts[index].text)
        if nth and nth + 1 < len(run) and tail <= head:
            pieces.append(_Piece(index, 0, length, _end(pieces)))
            if _end(pieces) >= _MAX_JOINED:
                yield pieces
                pieces = _again(pieces)
            continue
        if nth:
            pieces.append(_Piece(index, 0, head, _end(pieces)))
            yield pieces
        pieces = [_Piece(index, tail, length, 0)]


def _end(pieces: list[_Piece]) -> int:
    return pieces[-1].at + pieces[-1].length if pieces else 0


def _head(text: str) -> int:
    first = text[:_MAX_WORD]
    word = 0 if first[:1].isspace() else len(first.split(maxsplit=1)[0])
    return min(len(text), max(_WINDOW, word))


def _tail(text: str) -> int:
    last = text[-_MAX_WORD:]
    word = 0 if last[-1:].isspace() else len(last.rsplit(maxsplit=1)[-1])
    return max(0, len(text) - max(_WINDOW, word))


def _again(pieces: list[_Piece]) -> list[_Piece]:
    """The last of the pieces, as the beginning of what comes next."""
    first = len(pieces) - 1
    while first and _end(pieces) - pieces[first].at < _WINDOW:
        first -= 1
    return [replace(each, at=each.at - pieces[first].at) for each in pieces[first:]]


def _together(parts: Sequence[TextPart], pieces: Sequence[_Piece], between: str) -> JoinedParts:
    """Join pieces, with one character or none between them."""
    text = between.join(parts[each.part].text[each.start : each.end] for each in pieces)
    if not between:
        return JoinedParts(text, tuple(pieces))
    apart = (_Piece(each.part, each.start, each.end, each.at + nth) for nth, each in enumerate(pieces))
    return JoinedParts(text, tuple(apart))


def _names(parts: Sequence[TextPart]) -> Iterator[JoinedParts]:
    """Names in JSON, with their values: as what they say of a number, and as what may be the first half of a value."""
    name = 0
    place: Path | None = None
    for index, part in enumerate(parts):
        if part.path and part.path[-1] is KEY:
            name, place = index, part.path[:-1]
            continue
        if part.path == place and _may_go_on(parts[name].text, part.text):
            yield from _of_run(parts, [name, index])
        if (label := _label(part)) is not None:
            before = f"{label}: "
            yield JoinedParts(before + part.text, (_Piece(index, 0, len(part.text), len(before)),))


def _may_go_on(name: str, value: str) -> bool:
    """Whether a name may be the first half of a value. Of numbers by numbers each tenth would be a card's."""
    if name.isdigit() and value.isdigit():
        return False
    return value.startswith(_GOES_ON) or _PLAIN_NAME.fullmatch(name) is None


def _label(part: TextPart) -> str | None:
    """What the name of a number says that it is; None where it says nothing, or that it is something else.

    A field that holds a usual card's number and nothing else is taken for one: no text around it could say so.
    """
    if not _NUMBER.fullmatch(part.text):
        return None
    words = _words(part.path)
    said = dict.fromkeys(_LABELS[word] for word in words if word in _LABELS)
    if words and words[-1] in _COUNTS:
        return None
    if not said and _USUAL_CARD.fullmatch(part.text) and not _is_said(part.path):
        return "card"
    return " ".join(said) or None


def _words(path: Path) -> list[str]:
    name = next((step for step in reversed(path) if isinstance(step, str)), "")
    return [word.lower() for word in _WORD_OF_NAME.findall(name[:100])]


def with_joined(
    parts: Sequence[TextPart],
    scans: Iterable[Scan],
    together: Sequence[JoinedParts],
    found: Iterable[Scan],
    config: PiiConfig | None,
) -> list[Scan]:
    """The scans of the parts, with what was found across them, and without what their names say that it is not.

    Args:
        scans: of each part alone.
        together: what `joined` made of the parts.
        found: the scan of each of them.
        config: says which of two findings is the stricter.
    """
    alone = [_without_counts(part, scan) for part, scan in zip(parts, scans, strict=True)]
    findings: dict[int, list[Finding]] = {}
    hits: dict[int, list[Hit]] = {}
    for each, scan in zip(together, found, strict=True):
        for finding in scan.findings:
            for part, start, end in _left(parts, alone, finding.entity, each.across(finding.start, finding.end)):
                findings.setdefault(part, []).append(replace(finding, start=start, end=end))
        for hit in scan.hits:
            for part, start, end in each.across(hit.start, hit.end):
                hits.setdefault(part, []).append(replace(hit, start=start, end=end))
    for part in findings.keys() | hits.keys():
        scan = alone[part]
        alone[part] = Scan(
            tuple(merged([*scan.findings, *findings.get(part, ())], partial(_rank, config=config))),
            (*scan.hits, *hits.get(part, ())),
        )
    return alone


def _left(
    parts: Sequence[TextPart], scans: Sequence[Scan], entity: str, places: list[tuple[int, int, int]]
) -> list[tuple[int, int, int]]:
    """The places of one finding. Where a part alone holds such a one, a word beside it is but the end of a sentence."""
    whole = {
        part
        for part, start, end in places
        if any(own.entity == entity and own.start < end and start < own.end for own in scans[part].findings)
    }
    return [
        (part, start, end)
        for part, start, end in places
        if not whole or part in whole or not parts[part].text[start:end].isalpha()
    ]


def _without_counts(part: TextPart, scan: Scan) -> Scan:
    """Of identifiers and times, one in ten passes a card's check."""
    if not any(each.entity == "CREDIT_CARD" for each in scan.findings) or not part.text.isdigit():
        return scan
    words = _words(part.path)
    if not words or words[-1] not in _COUNTS or _USUAL_CARD.fullmatch(part.text):
        return scan
    return replace(scan, findings=tuple(each for each in scan.findings if each.entity != "CREDIT_CARD"))


def _rank(finding: Finding, config: PiiConfig | None) -> int:
    return list(Mode).index(config.mode_of(finding.entity)) if config is not None else 0
