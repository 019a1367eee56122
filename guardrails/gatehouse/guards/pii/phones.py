"""Finds telephone numbers: groups of digits written as one; only the likely ones are checked with libphonenumber.

libphonenumber's own matcher takes some 4 ms for 1,000 tokens and region, calls four in ten numbers of ten digits a
telephone number, and misses numbers that no operator has assigned yet, or ever will, such as 244-681-6236.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import phonenumbers
import regex  # type: ignore[import-untyped]
from phonenumbers import NumberParseException, PhoneMetadata

from gatehouse.guards.deadline import Deadline, matches
from gatehouse.guards.findings import Finding

# Likely: a number with a plus, or valid with its trunk prefix or in its country's groups. Weak: digits alone, or a
# number that is assigned to no subscriber; it counts beside one of the words.
_LIKELY, _WEAK = 0.4, 0.3
CONTEXT = (
    *("phone", "telephone", "tel", "cell", "mobile", "mob", "call", "fax", "dial", "sms", "text me", "whatsapp"),
    *("ring", "contact", "handy", "hotline", "landline", "my number", "new number", "number is", "reach"),
)

_GROUP = regex.compile(r"\d++")
_DASH = r"\-\u2010-\u2015\u2212"
# The characters between two groups of one number: RFC 3966's visual separators, and a space beside one.
_BETWEEN = regex.compile(rf"[ \t.{_DASH}/]|\)[ .{_DASH}/]{{0,2}}|[ {_DASH}]?\(| [{_DASH}/] | /|/ |  ")
_BEFORE = regex.compile(r"(?:\+ ?\(?|\(\+?)\Z")
_EXTENSION = regex.compile(r"[ ,;]{0,2}(?:x|ext\.?|extn\.?|extension|#)[ .:]{0,2}\d{1,7}(?!\w)", regex.I)
_EXTENSION_CHARS = 30
# 01.02.2024, 0.1234567 and 123-45-6789.
_NO_NUMBER = regex.compile(r"\d{1,2}([./-])\d{1,2}\1(?:19|20)?\d\d(?!\d)|0\.\d|\d{3}([ -])\d\d\2\d{4}(?!\d)")
# A number of E.164 has at most 15 digits, with 011 or 00 before it at most 18; in groups of two, eight and its prefix.
_MAX_DIGITS, _MAX_GROUPS, _MIN_DIGITS = 18, 9, 7
_INDIAN_MOBILE = {(5, 5), (4, 3, 3), (3, 3, 4), (4, 6)}


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
        if before[-1:].isalpha():
            return False
        # Half of an identifier (abc-201-..., 12:201...) is not a number.
        return not (before[-1:] in "-:" and before[:1].isalnum() and len(before) == 2 and not self._labelled(start))

    def _labelled(self, start: int) -> bool:
        return self.text[start - 1] == ":" and self.text[start - 2].isalpha()  # TEL:201...

    def may_end(self, nth: int) -> bool:
        end = self.groups[nth][1]
        if nth + 1 < len(self.groups):
            return _is_gap(self.text[end : self.groups[nth + 1][0]])
        after = self.text[end : end + 2]
        if after[:1].isalpha():
            return _EXTENSION.match(self.text, end, end + _EXTENSION_CHARS) is not None
        return not (after[:1] == "-" and after[1:].isalnum())


def _is_gap(between: str) -> bool:
    return bool(between) and (between.isspace() or "/" in between or between[0] in " (" or between[-1] in " (")


def _runs(text: str, deadline: Deadline) -> Iterator[_Run]:
    groups: list[tuple[int, int]] = []
    for match in matches(_GROUP, text, deadline):
        start, end = match.span()
        if groups and (start - groups[-1][1] > 3 or not _BETWEEN.fullmatch(text, groups[-1][1], start)):
            yield _Run(text, groups)
            groups = []
        groups.append((start, end))
    if groups:
        yield _Run(text, groups)


def phones(regions: tuple[str, ...]) -> Callable[[str, Deadline], Iterator[Finding]]:
    """Return a detector of numbers with a country code, and of numbers that can be dialled in one of the regions."""
    rules = [_rule(region) for region in regions]

    def find(text: str, deadline: Deadline) -> Iterator[Finding]:
        for run in _runs(text, deadline):
            nth = 0
            while nth < len(run.groups):
                if not nth % 100:
                    deadline.left()
                if run.may_begin(nth) and (found := _longest(run, nth, rules)) is not None:
                    last, start, end, score = found
                    yield Finding("PHONE_NUMBER", start, end, score)
                    nth = last
                nth += 1

    return find


Rule = Callable[[str, tuple[int, ...], str], float | None]


def _longest(run: _Run, first: int, rules: list[Rule]) -> tuple[int, int, int, float] | None:
    """Return the longest number that begins with a group: its last group, its place and its score."""
    text, start = run.text, run.groups[first][0]
    prefix = _BEFORE.search(text, max(0, start - 3), start)
    begin = prefix.start() if prefix else start
    plus = prefix is not None and "+" in prefix[0]
    if plus and begin and text[begin - 1].isalnum():  # 10:00:00+0100 and 1+1
        return None
    if not plus and _NO_NUMBER.match(text, start):
        return None
    best: tuple[int, int, int, float] | None = None
    for last, digits, groups in reversed(list(_candidates(run, first))):
        end = run.groups[last][1]
        score = _score(text[begin:end], _ascii(digits), groups, plus, rules)
        if score is not None and (best is None or score > best[3]):
            best = last, begin, _with_extension(text, end), score
            if score == _LIKELY:
                break
    return best


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
    if plus:
        return _LIKELY if _is_international(digits, _is_possible) else None
    for prefix in ("00", "011"):
        rest = digits.removeprefix(prefix)
        # A possible number is enough in groups; digits alone with zeros before them can be anything.
        if rest != digits and _is_international(rest, _is_possible if len(groups) > 1 else _is_valid):
            return _LIKELY
    return max((score for rule in rules if (score := rule(digits, groups, written)) is not None), default=None)


def _rule(region: str) -> Rule:
    """Return a rule that scores digits in these groups as a number dialled and written in a region."""
    metadata = PhoneMetadata.metadata_for_region(region)
    described = metadata.general_desc if metadata is not None else None
    lengths = described.possible_length if described is not None else ()

    def american(digits: str, groups: tuple[int, ...], _: str) -> float | None:
        if digits[0] == "1" and len(digits) == 11:
            digits, groups = digits[1:], groups[1:] if groups[0] == 1 else (groups[0] - 1, *groups[1:])
        if len(digits) != 10 or digits[0] in "01" or digits[3] in "01":
            return None
        # In three groups of these lengths it is a telephone number, whoever has it.
        if groups == (3, 3, 4) or (groups == (3, 7) and _is_valid(digits, region)):
            return _LIKELY
        return _WEAK if groups == (10,) else None

    def indian(digits: str, groups: tuple[int, ...], written: str) -> float | None:
        if digits[0] == "0" and len(digits) == 11:
            return with_trunk_prefix(digits, groups, written)
        if digits[0] not in "6789" or len(digits) != 10 or not _is_valid(digits, region):
            return None
        return _LIKELY if groups in _INDIAN_MOBILE else _WEAK if groups == (10,) else None

    def with_trunk_prefix(digits: str, groups: tuple[int, ...], written: str) -> float | None:
        if (
            (digits[0] != "0" and written[0] != "(")
            or digits[:2] == "00"
            or len(digits.removeprefix("0")) not in lengths
        ):
            return None
        return _judged(digits, region)

    def without(digits: str, groups: tuple[int, ...], _: str) -> float | None:
        if len(digits) not in lengths or not _is_valid(digits, region):
            return None
        if len(groups) == 1:
            return _WEAK
        return _LIKELY if len(groups) > 2 and max(groups) <= 4 and min(groups) >= 2 else None

    if region == "IN":
        return indian
    if metadata is None or metadata.country_code == 1:
        return american
    return with_trunk_prefix if metadata.national_prefix == "0" else without


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
        return _LIKELY
    return _WEAK if phonenumbers.is_possible_number(number) else None


def _is_possible(digits: str) -> bool:
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(digits, None))
    except NumberParseException:
        return False
