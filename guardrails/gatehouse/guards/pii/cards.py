"""Finds card numbers: with a length of their issuer's, grouped as on cards, with the right check digit."""

from __future__ import annotations

from collections.abc import Iterator

import regex  # type: ignore[import-untyped]

from gatehouse.guards.deadline import Deadline, matches
from gatehouse.guards.findings import Finding

CONTEXT = (
    "card",
    "credit",
    "debit",
    "visa",
    "mastercard",
    "amex",
    "maestro",
    "discover",
    "diners",
    "jcb",
    "pan",
    "cc ",
)

# One of ten made-up numbers passes Luhn's check, so digits alone also need an issuer's prefix. Lengths that other
# numbers share (12: Maestro's shortest; 13: Visa's old ones, and milliseconds) also need a word nearby.
_ALONE = regex.compile(r"(?<![^\W_])\d{12,19}(?![^\W_])")
_GROUPED = regex.compile(
    r"(?<![^\W_])(?:\d{4}([ .\-/])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|\d{4}([ .\-/])\d{6}\2\d{4,5})(?![^\W_])"
)
# Issuers' prefixes by network: Visa; Mastercard; Amex; Discover, RuPay; UnionPay; Diners; JCB; Mir; Maestro, Dankort,
# Verve; UATP.
_ISSUERS = (
    (regex.compile(r"4"), {13, 16, 19}),
    (regex.compile(r"5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)"), {16}),
    (regex.compile(r"3[47]"), {15}),
    (regex.compile(r"60|64[4-9]|65|81|82|508"), {16, 17, 18, 19}),
    (regex.compile(r"62"), {16, 17, 18, 19}),
    (regex.compile(r"30[0-5]|3095|3[689]"), {14, 16, 17, 18, 19}),
    (regex.compile(r"35"), {16, 17, 18, 19}),
    (regex.compile(r"2131|1800"), {15}),
    (regex.compile(r"220[0-4]"), {16, 17, 18, 19}),
    (regex.compile(r"50|5[6-8]|6304|6390|67"), {12, 13, 14, 15, 16, 17, 18, 19}),
    (regex.compile(r"1"), {15}),
)
_FOUR_DIGITS = regex.compile(r"\d{4}")
_AMBIGUOUS = {12, 13}
_DOUBLED = "0246813579"


def cards(text: str, deadline: Deadline) -> Iterator[Finding]:
    """Yield the card numbers in the text."""
    if _FOUR_DIGITS.search(text) is None:  # every card number has them; this spares most texts the patterns
        return
    for match in matches(_GROUPED, text, deadline):
        digits = "".join(filter(str.isdecimal, match[0]))
        if luhn(digits):
            yield Finding("CREDIT_CARD", match.start(), match.end(), 1.0)
    for match in matches(_ALONE, text, deadline):
        digits = match[0]
        if any(len(digits) in lengths and issuer.match(digits) for issuer, lengths in _ISSUERS) and luhn(digits):
            yield Finding("CREDIT_CARD", match.start(), match.end(), 0.3 if len(digits) in _AMBIGUOUS else 1.0)


def luhn(digits: str) -> bool:
    """Apply the check of ISO/IEC 7812-1, annex B; zeros alone fail."""
    total = sum(int(digit) for digit in digits[-1::-2]) + sum(int(_DOUBLED[int(digit)]) for digit in digits[-2::-2])
    return total % 10 == 0 and total > 0
