"""Finds telephone numbers: any 7 to 15 digits after a word that says so; else groups of digits written as a number.

libphonenumber's own matcher takes some 4 ms for 1,000 tokens and region, calls four in ten numbers of ten digits a
telephone number, and misses numbers that no operator has assigned yet, or ever will, such as 244-681-6236. Here it
only checks the likely ones.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import phonenumbers
import regex  # type: ignore[import-untyped]
from phonenumbers import NumberParseException, PhoneMetadata

from gatehouse.guards.deadline import Deadline, matches
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.labels import Label, Labels, words
from gatehouse.guards.pii.text_kind import TextKind, kind_of
from gatehouse.guards.pii.times import times

# After a label any number counts. International: with a plus or zeros and a country's code. Likely: valid with its
# trunk prefix or in its country's groups. Weak: digits alone, or a number that is assigned to no subscriber; such a one
# after a word as "call" counts where people write, and not in a program's output.
LABELLED, INTERNATIONAL, CALLED, LIKELY, WEAK = 0.9, 0.7, 0.6, 0.5, 0.3
_LABELS = Labels(strong=words("phone"), weak=words("call"), other=(*words("identifier"), *words("quantity")))
_AFTER = regex.compile(
    r"(?i)[ ]{0,2}[(\[\-\u2013,/:]?[ ]{0,2}"
    r"(?:cell|mobile|mob|office|fax|home|work|phone|tel|direct|handy|mobil|gsm)\b(?!-)"
)
_SHORT_GAP, _LONG_GAP = 25, 45
# A label of a language that puts it behind stands so near.
_NEAR = 12
_OF_PROGRAMS = frozenset((TextKind.CODE, TextKind.DIFF, TextKind.LOG, TextKind.LOCK_FILE))

_GROUP = regex.compile(r"\d++")
_DASH = r"\-\u2010-\u2015\u2212"
# The characters between two groups of one number: RFC 3966's visual separators, and a space beside one.
_BETWEEN = regex.compile(rf"[ .{_DASH}/]|\)[ .{_DASH}/]{{0,2}}|[ {_DASH}]?\(| [{_DASH}/] | /|/ |  ")
_BEFORE = regex.compile(r"(?:\+ ?\(?|\(\+?)\Z")
_EXTENSION = regex.compile(r"[ ,;]{0,2}(?:x|ext\.?|extn\.?|extension|#)[ .:]{0,2}[0-9]{1,7}(?![0-9A-Za-z_])", regex.I)
_EXTENSION_CHARS = 30
# 0.1234567, 123-45-6789 and versions such as 10.0.19045.4291.
_NO_NUMBER = regex.compile(
    r"0\.\d|\d{3}([ -])\d\d\1\d{4}(?!\d)|(?!1\.\d{3}\.\d{3}\.\d{4})\d{1,5}(?:\.\d{1,5}){3}(?!\.?\d)"
)
_FRACTION = regex.compile(r"\d+\.\d+")
# A number of E.164 has at most 15 digits, with 011 or 00 before it at most 18; in groups of two, eight and its prefix.
_MAX_DIGITS, _MAX_GROUPS, _MIN_DIGITS, _MAX_LABELLED = 18, 9, 7, 15
_INDIAN_MOBILE = {(5, 5), (4, 3, 3), (3, 3, 4)}
# Scripts whose texts hold the numbers of their countries, whatever languages are configured.
_SCRIPTS = (
    (regex.compile(r"[\uac00-\ud7a3]"), ("KR",)),
    (regex.compile(r"[\u3040-\u30ff]"), ("JP",)),
    (regex.compile(r"[\u4e00-\u9fff]"), ("CN", "JP")),
    (regex.compile(r"[\u0e00-\u0e7f]"), ("TH",)),
    (regex.compile(r"[\u0590-\u05ff]"), ("IL",)),
    (regex.compile(r"[\u0900-\u097f]"), ("IN",)),
)
# Characters of a time that may follow its first groups of digits.
_TIME = 24
# A line of which only this much on either side is looked at.
_LINE = 80
# What a line of a dump of bytes begins with.
_OFFSET = regex.compile(r"[0-9a-fA-F]{4,16}:? {1,2}")
_A_WORD = regex.compile(r"(?<![\w.])[^\W\d_]{2,}+(?!\w)")
_NUMBER_BEFORE, _NUMBER_AFTER = regex.compile(r"(?<![\w.,])\d++[ \t]++\Z"), regex.compile(r"[ \t]++\d++(?![\w.,/])")
_NUMBERS_ONLY = regex.compile(r"[\d \t]*+")
_COLUMNS = regex.compile(r"[^\n]*?(?<![\w.])\d+[ \t]+\d+[ \t]+\d+(?![\w.])")


def _is_letter(char: str) -> bool:
    """Tell whether a letter continues a word of ASCII: other scripts write numbers without a blank before them."""
    return char.isascii() and char.isalpha()


@dataclass(frozen=True, slots=True)
class _Run:
    """Hold groups of digits that may belong together, and the characters between them."""

    text: str
    groups: list[tuple[int, int]]

    def may_begin(self, nth: int) -> bool:
        """Tell whether a number may begin with this group: at the beginning, or after a gap."""
        start = self.groups[nth][0]
        if nth:
            return _is_gap(self.text[self.groups[nth - 1][1] : start])
        before = self.text[max(0, start - 2) : start]
        if _is_letter(before[-1:]):
            return False
        # Half of an identifier (abc-201-..., 12:201...) is not a number.
        joined = before[-1:] in "-:" and len(before) == 2 and before[:1].isalnum() and before[:1].isascii()
        return not joined or self._labelled(start)

    def _labelled(self, start: int) -> bool:
        return self.text[start - 1] == ":" and self.text[start - 2].isalpha()  # TEL:201...

    def may_end(self, nth: int) -> bool:
        end = self.groups[nth][1]
        if nth + 1 < len(self.groups):
            return _is_gap(self.text[end : self.groups[nth + 1][0]])
        after = self.text[end : end + 2]
        if _is_letter(after[:1]):
            return _EXTENSION.match(self.text, end, end + _EXTENSION_CHARS) is not None
        return not (after[:1] == "-" and after[1:].isalnum() and not self._named_after(end))

    def _named_after(self, end: int) -> bool:
        return _AFTER.match(self.text, end, end + 20) is not None  # 201 555 0123-Office

    def between(self, nth: int) -> str:
        """Return what stands between a group and the next one."""
        return self.text[self.groups[nth][1] : self.groups[nth + 1][0]]


def _is_gap(between: str) -> bool:
    return bool(between) and (between.isspace() or "/" in between or between[0] in " (" or between[-1] in " (")


def _runs(text: str, deadline: Deadline) -> Iterator[_Run]:
    """Yield the runs that have digits enough for a number, without dates and times."""
    groups: list[tuple[int, int]] = []
    for match in matches(_GROUP, text, deadline):
        start, end = match.span()
        if groups and (start - groups[-1][1] > 3 or not _BETWEEN.fullmatch(text, groups[-1][1], start)):
            yield from _without_times(text, groups)
            groups = []
        groups.append((start, end))
    yield from _without_times(text, groups)


def _without_times(text: str, groups: list[tuple[int, int]]) -> Iterator[_Run]:
    if not _is_long(groups):
        return
    taken = times(text, groups[0][0], min(len(text), groups[-1][1] + _TIME))[::-1]
    part: list[tuple[int, int]] = []
    for group in groups:
        while taken and taken[-1][1] <= group[0]:
            taken.pop()
        if taken and taken[-1][0] < group[1]:
            if _is_long(part):
                yield _Run(text, part)
            part = []
        else:
            part.append(group)
    if _is_long(part):
        yield _Run(text, part)


def _is_long(groups: list[tuple[int, int]]) -> bool:
    return sum(end - start for start, end in groups) >= _MIN_DIGITS


def phones(regions: tuple[str, ...]) -> Callable[[str, Deadline], Iterator[Finding]]:
    """Return a detector of labelled numbers, of numbers with a country code, and of those dialled in the regions.

    The regions of the scripts that a text is written in belong to it too.
    """

    def find(text: str, deadline: Deadline) -> Iterator[Finding]:
        rules = [_rule(region) for region in dict.fromkeys((*regions, *_regions_of(text)))]
        kind = None
        for run in _runs(text, deadline):
            nth = 0
            while nth < len(run.groups):
                if not nth % 100:
                    deadline.left()
                if run.may_begin(nth) and (found := _longest(run, nth, rules)) is not None:
                    kind = kind or (kind_of(text) if found.score == CALLED else None)
                    if found.score == CALLED and kind in _OF_PROGRAMS:
                        nth = found.last + 1
                        continue
                    yield Finding(
                        "PHONE_NUMBER", found.start, _with_extension(text, found.end), found.score, found.evidence
                    )
                    nth = found.last
                nth += 1

    return find


def _regions_of(text: str) -> Iterator[str]:
    if not text.isascii():
        for script, regions in _SCRIPTS:
            if script.search(text):
                yield from regions


Rule = Callable[[str, tuple[int, ...], str], float | None]


@dataclass(frozen=True, slots=True)
class _Number:
    """Hold what is a number: its last group, its place, its score, and what speaks for it."""

    last: int
    start: int
    end: int
    score: float
    evidence: tuple[str, ...]


def _longest(run: _Run, first: int, rules: list[Rule]) -> _Number | None:
    """Return the likeliest number that begins with a group, of several the longest."""
    text, start = run.text, run.groups[first][0]
    if _NO_NUMBER.match(text, start):
        return None
    begin, plus = _beginning(text, start)
    best = _by_form(run, first, begin, plus, rules)
    # Most digits are too few for a number, or already one, so that few places need the search for a label.
    label = _label(text, begin) if best is not None or _has_digits(run, first) else None
    if plus and _is_sum(text, begin) and (label is None or label.kind == "other"):
        return None
    if best is None:
        return _by_label(run, first, begin, label) if label is not None else None
    if (label is not None and label.kind != "other") or _is_named_after(text, best):
        weak = label is not None and label.kind == "weak" and best.score == WEAK
        return replace(best, score=CALLED if weak else LABELLED, evidence=("label", *best.evidence))
    if _is_column(run, first, best):
        return None
    return None if label is not None and _is_other(run, first, best, label) else best


def _is_other(run: _Run, first: int, number: _Number, label: Label) -> bool:
    """Tell whether a word says that it is another number: one of digits alone, or of blanks right behind the word."""
    if number.score == INTERNATIONAL:
        return False
    right_behind = not label.gap.strip(" :#.=\"'")
    blanks = all(run.between(nth).isspace() for nth in range(first, number.last))
    return number.last == first or (right_behind and blanks)


def _is_named_after(text: str, number: _Number) -> bool:
    """Tell whether a word behind a number, or at the head of its column, says that it is a telephone's."""
    if _AFTER.match(text, number.end, number.end + 20):
        return True
    if number.score != WEAK:
        return False
    after = text[number.end : number.end + _NEAR]
    if not after.isascii() and (label := _LABELS.after(text, number.end, _NEAR)) is not None and label.kind != "other":
        return True
    return _LABELS.of_column(text, number.start) == "strong"


def _has_digits(run: _Run, first: int) -> bool:
    """Tell whether enough digits follow for a number, which spares most groups the search for a label."""
    return run.groups[-1][1] - run.groups[first][0] >= _MIN_DIGITS


def _beginning(text: str, start: int) -> tuple[int, bool]:
    """Return where a number begins with its plus and its bracket, and whether it has a plus."""
    prefix = _BEFORE.search(text, max(0, start - 3), start)
    if prefix is None:
        return start, False
    plus = "+" in prefix[0]
    if "(" in prefix[0] and ")" not in text[start : start + 8]:
        return (start - 1, True) if plus and text[start - 1] == "+" else (start, False)
    return prefix.start(), plus


def _is_sum(text: str, begin: int) -> bool:
    """Tell whether a plus adds: `t + 86400000`, `10:00:00+0100`, `1+1`."""
    before = text[max(0, begin - 1) : begin]
    return (before.isalnum() and before.isascii()) or text[begin : begin + 2] == "+ "


def _label(text: str, begin: int) -> Label | None:
    label = _LABELS.before(text, begin)
    if label is not None and label.kind != "other" and label.gap[:1] == "(" and "number" not in label.gap:
        closed = ")" in label.gap  # `tel (office): 555-0123`, and not `call(2015550123)`
        return label if closed else None
    return label


def _by_form(run: _Run, first: int, begin: int, plus: bool, rules: list[Rule]) -> _Number | None:
    text = run.text
    best: _Number | None = None
    for last, digits, groups in reversed(list(_candidates(run, first))):
        end = run.groups[last][1]
        if not plus and _FRACTION.fullmatch(text, begin, end):
            continue
        score = _score(text[begin:end], _ascii(digits), groups, plus, rules)
        if score is not None and (best is None or score > best.score):
            evidence = ("groups",) if len(groups) > 1 else ("digits",)
            best = _Number(last, begin, end, score, (*evidence, "country") if score == INTERNATIONAL else evidence)
            if score >= LIKELY:
                break
    return best


def _by_label(run: _Run, first: int, begin: int, label: Label) -> _Number | None:
    """Return the number after a label: any 7 to 15 digits; fewer words may stand between where the label is weak."""
    if label.kind == "other" or len(label.gap) > (_SHORT_GAP if label.kind == "weak" else _LONG_GAP):
        return None
    last = digits = -1
    total = 0
    for nth in range(first, min(first + _MAX_GROUPS, len(run.groups))):
        low, high = run.groups[nth]
        if total + high - low > _MAX_LABELLED or (total >= _MIN_DIGITS and _separates(run.between(nth - 1))):
            break
        total += high - low
        if total >= _MIN_DIGITS and run.may_end(nth):
            last, digits = nth, total
    if last < 0 or (label.kind == "weak" and last == first and not 9 <= digits <= 12):
        return None
    end = run.groups[last][1]
    return _Number(last, begin, end, LABELLED, ("label", "groups" if last > first else "digits"))


def _separates(between: str) -> bool:
    return "/" in between or between == "  "


def _is_column(run: _Run, first: int, number: _Number) -> bool:
    """Tell whether it may be numbers of a table: with blanks between them, in a line like the lines around."""
    if any(not run.between(nth).isspace() for nth in range(first, number.last)) or run.text[number.start] in "+(":
        return False
    text, start, end = run.text, number.start, number.end
    before = text[max(0, start - _LINE) : start].rpartition("\n")[2]
    if _OFFSET.match(before):
        return True
    after = text[end : end + _LINE].partition("\n")[0]
    if _NUMBERS_ONLY.fullmatch(before) and _NUMBERS_ONLY.fullmatch(after):
        few = number.last < first + 2 or (text[start] == "0" and text[start + 1].isdigit())
        return number.last == first or not few or bool(before.strip() or after.strip())
    if text[start] == "0":
        return not text[start + 1].isdigit()  # 0 735222 6482
    if not _A_WORD.search(before) and not _A_WORD.search(after):
        beside = _NUMBER_BEFORE.search(before) or _NUMBER_AFTER.match(after)
        return beside is not None or (number.last > first + 1 and "," not in before + after)
    line_start, line_end = start - len(before), end + len(after)
    above = text[max(0, line_start - 1 - 2 * _LINE) : max(0, line_start - 1)].rpartition("\n")[2]
    below = text[line_end + 1 : line_end + 1 + 2 * _LINE].partition("\n")[0]
    return any(_COLUMNS.match(line) for line in (above, below))


def _candidates(run: _Run, first: int) -> Iterator[tuple[int, str, tuple[int, ...]]]:
    """Yield the groups that may be one number from `first` on, fewest first: the last of them, digits, and lengths."""
    digits = ""
    lengths: list[int] = []
    for last in range(first, min(first + _MAX_GROUPS, len(run.groups))):
        low, high = run.groups[last]
        if len(digits) + high - low > _MAX_DIGITS:
            return
        digits += run.text[low:high]
        lengths.append(high - low)
        # Allow few single digits, and none at the end, where it would belong to the next number.
        if len(digits) >= _MIN_DIGITS and lengths.count(1) < 3 and lengths[-1] > 1 and run.may_end(last):
            yield last, digits, tuple(lengths)


def _with_extension(text: str, end: int) -> int:
    match = _EXTENSION.match(text, end, end + _EXTENSION_CHARS)
    return match.end() if match else end


def _score(written: str, digits: str, groups: tuple[int, ...], plus: bool, rules: list[Rule]) -> float | None:
    # Digits alone behind a plus or zeros can be anything: they must be a number that somebody can have.
    check = _is_possible if len(groups) > 1 else _is_valid
    if plus:
        return INTERNATIONAL if _is_international(digits, _is_possible if digits[0] == "1" else check) else None
    for prefix in ("00", "011"):
        rest = digits.removeprefix(prefix)
        if rest != digits and _is_international(rest, check):
            return INTERNATIONAL if len(groups) > 1 else LIKELY
    return max((score for rule in rules if (score := rule(digits, groups, written)) is not None), default=None)


@cache
def _rule(region: str) -> Rule:
    """Return a rule that scores digits in these groups as a number dialled and written in a region."""
    metadata = PhoneMetadata.metadata_for_region(region)
    described = metadata.general_desc if metadata is not None else None
    lengths = described.possible_length if described is not None else ()

    def american(digits: str, groups: tuple[int, ...], written: str) -> float | None:
        if digits[0] == "1" and len(digits) == 11:
            digits, groups = digits[1:], groups[1:] if groups[0] == 1 else (groups[0] - 1, *groups[1:])
        if len(digits) != 10 or digits[0] in "01" or digits[3] in "01":
            return None
        # In three groups of these lengths it is a telephone number, whoever has it; with blanks alone between them, it
        # may be three numbers.
        if groups == (3, 3, 4) and not all(char.isdigit() or char.isspace() for char in written):
            return LIKELY
        if groups in ((3, 3, 4), (3, 7)) and _is_valid(digits, region):
            return LIKELY
        return WEAK if groups == (10,) or groups == (3, 3, 4) else None

    def indian(digits: str, groups: tuple[int, ...], written: str) -> float | None:
        if digits[0] == "0" and len(digits) == 11:
            return with_trunk_prefix(digits, groups, written)
        if digits[0] not in "6789" or len(digits) != 10 or not _is_valid(digits, region):
            return None
        return LIKELY if groups in _INDIAN_MOBILE else WEAK if groups in ((10,), (4, 6)) else None

    def with_trunk_prefix(digits: str, groups: tuple[int, ...], written: str) -> float | None:
        if groups in _WITHOUT_TRUNK.get(region, ()) and _is_valid(digits, region):
            return LIKELY
        if (
            (digits[0] != "0" and written[0] != "(")
            or digits[:2] == "00"
            or len(digits.removeprefix("0")) not in lengths
        ):
            return WEAK if region in _WITHOUT_TRUNK and len(groups) == 1 and _is_valid(digits, region) else None
        return _judged(digits, region)

    def without(digits: str, groups: tuple[int, ...], _: str) -> float | None:
        if len(digits) not in lengths or not _is_valid(digits, region):
            return None
        if len(groups) == 1:
            return WEAK
        return LIKELY if (len(groups) > 2 and max(groups) <= 4 and min(groups) >= 2) or groups in _ITALIAN else None

    if region == "IN":
        return indian
    if metadata is None or metadata.country_code == 1:
        return american
    return with_trunk_prefix if metadata.national_prefix == "0" else without


# Groups in which numbers are written that are dialled without the trunk prefix of their country.
_WITHOUT_TRUNK = {"CN": {(3, 4, 4)}, "BR": {(2, 5, 4), (2, 4, 4)}}
_ITALIAN = {(3, 7), (3, 6), (2, 8), (2, 7), (3, 8)}


def _ascii(digits: str) -> str:
    return digits if digits.isascii() else "".join(str(unicodedata.decimal(digit)) for digit in digits)


def _is_international(digits: str, check: Callable[[str], bool]) -> bool:
    if digits[0] == "1" and (len(digits) != 11 or digits[1] in "01" or digits[4] in "01"):
        return False
    return digits[0] != "0" and 8 <= len(digits) <= 15 and check("+" + digits)


def _is_valid(digits: str, region: str | None = None) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(digits, region))
    except NumberParseException:
        return False


def _judged(digits: str, region: str) -> float | None:
    try:
        number = phonenumbers.parse(digits, region)
    except NumberParseException:
        return None
    if phonenumbers.is_valid_number(number):
        return LIKELY
    return WEAK if phonenumbers.is_possible_number(number) else None


def _is_possible(digits: str) -> bool:
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(digits, None))
    except NumberParseException:
        return False
