"""Finds card numbers: with a length of their issuer's and the right check digit, and grouped as on cards or labelled.

One of ten made-up numbers passes Luhn's check and four of ten have an issuer's prefix, so that one identifier of
sixteen digits in twenty-five looks like a card's. Digits without groups therefore count only beside a word for a card
or a payment, or beside a card's date or code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gatehouse.guards.deadline import Deadline
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.labels import Labels, words

_LABELS = Labels(card=words("card"), other=words("identifier"))
# The date until which a card is valid, and the code on its back.
_BESIDE = re.compile(
    r"(?i)(?<![0-9/])(?:0[1-9]|1[0-2]) ?/ ?(?:20)?[2-4][0-9](?![0-9/])"
    r"|(?<![a-z])(?:cvv2?|cvc2?|exp(?:iry|ires?|iration)?)(?![a-z])"
)
_BEFORE, _AFTER = 100, 60

# The check of what may not precede a number comes after its first digit, because `re` is fastest where a pattern begins
# with a set. Every repetition is bounded: the time is linear.
_ALONE = re.compile(r"[0-9](?<![A-Za-z0-9].)(?<![0-9]\..)(?<![^A-Za-z0-9]\..)[0-9]{11,18}(?![A-Za-z0-9]|\.[0-9])")
_GROUPED = re.compile(
    r"[0-9](?<![A-Za-z0-9].)(?<![0-9][.\-].)[0-9]{3}(?:"
    r"([ .\-/])[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{3})?|([ .\-/])[0-9]{6}\2[0-9]{4,5})(?![A-Za-z0-9]|[.\-][0-9])"
)
# Issuers' prefixes by network: Visa; Mastercard; Amex; Discover, RuPay; UnionPay; Diners; JCB; Mir; Maestro, Dankort,
# Verve; UATP.
_ISSUERS = (
    (re.compile(r"4"), {13, 16, 19}),
    (re.compile(r"5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)"), {16}),
    (re.compile(r"3[47]"), {15}),
    (re.compile(r"60|64[4-9]|65|81|82|508"), {16, 17, 18, 19}),
    (re.compile(r"62"), {16, 17, 18, 19}),
    (re.compile(r"30[0-5]|3095|3[689]"), {14, 16, 17, 18, 19}),
    (re.compile(r"35"), {16, 17, 18, 19}),
    (re.compile(r"2131|1800"), {15}),
    (re.compile(r"220[0-4]"), {16, 17, 18, 19}),
    (re.compile(r"50|5[6-8]|6304|6390|67"), {12, 13, 14, 15, 16, 17, 18, 19}),
    (re.compile(r"1"), {15}),
)
_FOUR_DIGITS = re.compile(r"[0-9]{4}")
_DOUBLED = "0246813579"
# Numbers that payment services publish for tests: whoever tries the gateway out uses them, and they count alone.
_PUBLISHED = frozenset(
    """
    4111111111111111 4242424242424242 4012888888881881 4000056655665556 4532015112830366 5555555555554444
    5105105105105100 2223003122003222 378282246310005 371449635398431 6011111111111117 6011000990139424 30569309025904
    38520000023237 3530111333300000 3566002020360505 6304000000000000 4000000000000000006
    """.split()
)


def cards(text: str, deadline: Deadline) -> Iterator[Finding]:
    """Yield the card numbers in the text."""
    if _FOUR_DIGITS.search(text) is None:  # every card number has them; this spares most texts the patterns
        return
    for match in _GROUPED.finditer(text):
        start, end = match.span()
        digits = "".join(filter(str.isdecimal, match[0]))
        if luhn(digits) and (_has_issuer(digits) or _is_labelled(text, start, end)):
            yield Finding("CREDIT_CARD", start, end, 1.0, ("check digit", "groups"))
    deadline.left()
    for match in _ALONE.finditer(text):
        start, end = match.span()
        digits = match[0]
        if not luhn(digits):
            continue
        if digits in _PUBLISHED:
            yield Finding("CREDIT_CARD", start, end, 1.0, ("check digit", "published for tests"))
        elif _has_issuer(digits) and _is_labelled(text, start, end):
            yield Finding("CREDIT_CARD", start, end, 1.0, ("check digit", "issuer", "label"))


def _has_issuer(digits: str) -> bool:
    return any(len(digits) in lengths and issuer.match(digits) for issuer, lengths in _ISSUERS)


def _is_labelled(text: str, start: int, end: int) -> bool:
    if _BESIDE.search(text, end, end + _AFTER) or _BESIDE.search(text, max(0, start - _AFTER), start):
        return True
    label = _LABELS.before(text, start, _BEFORE, across=True)
    if label is not None:
        return label.kind == "card"
    after = _LABELS.after(text, end, _AFTER)
    return (after is not None and after.kind == "card") or _LABELS.of_column(text, start) == "card"


def luhn(digits: str) -> bool:
    """Apply the check of ISO/IEC 7812-1, annex B; zeros alone fail."""
    total = sum(int(digit) for digit in digits[-1::-2]) + sum(int(_DOUBLED[int(digit)]) for digit in digits[-2::-2])
    return total % 10 == 0 and total > 0
