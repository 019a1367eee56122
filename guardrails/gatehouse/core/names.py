"""Decides which caller-given names the records may show, and replaces the others with a keyed hash.

Pure. Promises: without the installation secret the hash reveals nothing of the name; one name always has the same hash,
so calls of one end user or one session still join. The rule looks at the shape alone: only the scanner finds what takes
a recognizer, such as the number format of one company.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from gatehouse.core.keys import DerivedKey

MAX_NAME_CHARS: Final = 200
# Telephone numbers, account numbers and identity card numbers have seven digits or more.
MAX_DIGITS: Final = 6
# The limit for all digits of a name, except dates: a card number that letters divide has more.
MAX_DIGITS_IN_ALL: Final = 12
# The longest words of the tools that agents bring are shorter; a random key has digits among its letters.
_MAX_LETTERS: Final = 40
# Digits among letters, as in `gpt4o`, `s3bucket` or a short digest. Keys that services issue have twenty or more.
_MAX_MIXED: Final = 12
# The lengths of card numbers (ISO/IEC 7812), and the digits that numbers of banks and shops begin with.
_CARD_DIGITS: Final = range(13, 20)
_CARD_BEGINS: Final = "3456"

_NOT_HEX: Final = r"(?<![0-9A-Za-z])(?:{})(?![0-9A-Za-z])"
_UUID: Final = re.compile(_NOT_HEX.format(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"))
# MD5 (and a UUID without hyphens), SHA-1, SHA-256: providers advise to send one of these for a user. After another word
# it may be a key.
_DIGEST: Final = re.compile(
    r"(?:\A|(?<![0-9A-Za-z])(?:user|customer|account|session|thread|run|trace|md5|sha1|sha256)[-_:])"
    r"([0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})(?![0-9A-Za-z])"
)
# Many services begin their keys with one of these.
_KEYS: Final = ("sk-", "sk_", "pk-", "pk_", "rk_")
# Dates of versions and sessions. People born since 2020 do not use models yet, so it is no date of birth.
_DATE: Final = re.compile(r"(?<!\d)20[2-9]\d([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])(?!\d)")
_DIGITS: Final = re.compile(r"\d(?:[-_.:/]?\d)*")
_SEPARATORS: Final = re.compile(r"[-_.:/]+")
_HIDDEN: Final = re.compile(r"hmac:[0-9a-f]{8}:[0-9a-f]{32}")


def is_plain(name: str) -> bool:
    """Tell whether a text has the shape of a name: words and short numbers, joined by signs that no sentence has.

    An address, telephone number, card number, key, or a name of two words does not have it; a UUID and a digest do.
    """
    if not 0 < len(name) <= MAX_NAME_CHARS or "//" in name or name.startswith(_KEYS) or _HIDDEN.fullmatch(name):
        return False
    # Compatibility forms of digits and letters could spell what the rules below look for.
    if not name.isascii() and unicodedata.normalize("NFKC", name) != name:
        return False
    rest = _UUID.sub("-", _DIGEST.sub(_without_digest, name))
    rest = _DATE.sub("-", rest)
    return _few_digits(rest) and all(_is_word(run) for run in _SEPARATORS.split(rest) if run)


def hidden(name: str, key: DerivedKey) -> str:
    """Return what replaces a name: a keyed hash, and the epoch of the key that made it."""
    return f"hmac:{key.epoch}:{key.mac(name).hex()[:32]}"


def is_hidden(name: str) -> bool:
    """Tell whether a text has the form that `hidden` writes."""
    return _HIDDEN.fullmatch(name) is not None


def has_card_number(text: str) -> bool:
    """Tell whether a text contains a number that could be a card's. Random hexadecimal ids hardly ever do."""
    return any(
        digits[start] in _CARD_BEGINS and _checks(digits[start : start + length])
        for digits in re.findall(r"[0-9]{13,}", text)
        for length in _CARD_DIGITS
        for start in range(len(digits) - length + 1)
    )


def _checks(digits: str) -> bool:
    """Tell whether a number satisfies Luhn's formula."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


def _without_digest(match: re.Match[str]) -> str:
    return match[0] if match[1].isalpha() or has_card_number(match[1]) else "-"


def _few_digits(text: str) -> bool:
    chains = [sum(map(str.isdecimal, chain)) for chain in _DIGITS.findall(text)]
    return max(chains, default=0) <= MAX_DIGITS and sum(chains) <= MAX_DIGITS_IN_ALL


def _is_word(run: str) -> bool:
    if run.isalpha():
        return len(run) <= _MAX_LETTERS
    # Other scripts have digits of their own, and no recognizer reads those.
    mixed = all(each.isalpha() or each in "0123456789" for each in run)
    return mixed and len(run) <= _MAX_MIXED
