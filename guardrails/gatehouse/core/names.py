"""Names that callers give: which of them may be kept as they are, and what is kept in the place of the others.

Pure. Promises: what is kept in a name's place says nothing of it to anybody without the installation secret, and is the
same each time, so that calls of one end user or one session still join. The rule looks at the shape alone: what only a
recognizer knows, such as a number of the installation's own, is the scanner's to find.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from gatehouse.core.keys import DerivedKey

MAX_NAME_CHARS: Final = 200
# A telephone number has seven digits or more, and so have the numbers of accounts and identity cards.
MAX_DIGITS: Final = 6
# Of all digits of a name, but for dates: a card number that is cut up by letters has more.
MAX_DIGITS_IN_ALL: Final = 12
# The longest words of the tools that agents bring; a key drawn at random has digits among its letters.
_MAX_LETTERS: Final = 40
# Digits among letters: `gpt4o`, `s3bucket`, a short digest. Tokens of issuers have twenty characters and more.
_MAX_MIXED: Final = 12
# Of card numbers (ISO/IEC 7812), and what the numbers of banks and shops begin with.
_CARD_DIGITS: Final = range(13, 20)
_CARD_BEGINS: Final = "3456"

_NOT_HEX: Final = r"(?<![0-9A-Za-z])(?:{})(?![0-9A-Za-z])"
_UUID: Final = re.compile(_NOT_HEX.format(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"))
# MD5 (and a UUID without hyphens), SHA-1, SHA-256: what providers advise to send for a user. After another word it may
# be a key.
_DIGEST: Final = re.compile(
    r"(?:\A|(?<![0-9A-Za-z])(?:user|customer|account|session|thread|run|trace|md5|sha1|sha256)[-_:])"
    r"([0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})(?![0-9A-Za-z])"
)
# How many services begin their keys.
_KEYS: Final = ("sk-", "sk_", "pk-", "pk_", "rk_")
# Of versions and sessions; nobody who is born since then writes to a model yet.
_DATE: Final = re.compile(r"(?<!\d)20[2-9]\d([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])(?!\d)")
_DIGITS: Final = re.compile(r"\d(?:[-_.:/]?\d)*")
_SEPARATORS: Final = re.compile(r"[-_.:/]+")
_HIDDEN: Final = re.compile(r"hmac:[0-9a-f]{8}:[0-9a-f]{32}")


def is_plain(name: str) -> bool:
    """Whether a text has the shape of a name: words, and short numbers, joined by signs that no sentence has.

    No address, telephone number, card number, key, or name of two words has it; a UUID and a digest have.
    """
    if not 0 < len(name) <= MAX_NAME_CHARS or "//" in name or name.startswith(_KEYS) or _HIDDEN.fullmatch(name):
        return False
    # Digits and letters that are another spelling of plain ones could spell what the rules below would see.
    if not name.isascii() and unicodedata.normalize("NFKC", name) != name:
        return False
    rest = _UUID.sub("-", _DIGEST.sub(_without_digest, name))
    rest = _DATE.sub("-", rest)
    return _few_digits(rest) and all(_is_word(run) for run in _SEPARATORS.split(rest) if run)


def hidden(name: str, key: DerivedKey) -> str:
    """What is kept in a name's place: a keyed hash, and which epoch's key made it."""
    return f"hmac:{key.epoch}:{key.mac(name).hex()[:32]}"


def is_hidden(name: str) -> bool:
    """Whether a text has the form that `hidden` writes."""
    return _HIDDEN.fullmatch(name) is not None


def has_card_number(text: str) -> bool:
    """Whether there is a number in a text that could be a card's; of random hexadecimal ids, hardly any has one."""
    return any(
        digits[start] in _CARD_BEGINS and _checks(digits[start : start + length])
        for digits in re.findall(r"[0-9]{13,}", text)
        for length in _CARD_DIGITS
        for start in range(len(digits) - length + 1)
    )


def _checks(digits: str) -> bool:
    """Luhn's formula."""
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
    # Other scripts write digits too, and no recognizer of theirs is at work here.
    mixed = all(each.isalpha() or each in "0123456789" for each in run)
    return mixed and len(run) <= _MAX_MIXED
