"""Which of the bytes that only a provider can read are looked at: signatures and encrypted states are drawn at random.

What a caller writes there in words, digits or as a key is scanned; of 10,000 random strings none is. Each look takes
time that grows with the length of the value and nothing else.
"""

from __future__ import annotations

import binascii
import re
import string
from typing import Final

# A value this short is scanned whatever it is. Issuers' keys are shorter, JSON Web Tokens apart, which hold points.
_SHORT: Final = 256
# Of random base64 four in ten characters are capitals, and as many small letters. Eight in ten of one kind are words,
# digits, or one of the two in hexadecimal.
_MOSTLY: Final = 0.8
_HEX: Final = "0123456789abcdefABCDEF"
_KINDS: Final = (
    string.digits.encode(),
    string.ascii_lowercase.encode(),
    string.ascii_uppercase.encode(),
    _HEX.encode(),
)
_OTHERS: Final = tuple(bytes(byte for byte in range(256) if byte not in kind) for kind in _KINDS)
# Digits that stand together as in a card's number, which random base64 has once in ten million values.
_DIGITS: Final = re.compile(r"(?:[0-9][-_/+=]?){12}", re.ASCII)
# What issuers begin their keys with, of those in base64's alphabet.
_KEYS: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:sk-(?:ant|proj|or|svcacct|admin|gatehouse)-|github_pat_|gh[opusr]_[A-Za-z0-9]{36}|glpat-"
    r"|xox[abceoprs]-|A[KS]IA[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{35}|[rs]k_(?:live|test)_|npm_[A-Za-z0-9]{36}|pypi-Ag"
    r"|dckr_[po]at_|do[opr]_v1_|whsec_|lin_api_|glsa_)",
    re.ASCII,
)
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
# Also UTF-16 of Latin letters, of which each second byte is zero.
_PRINTED: Final = bytes([0, 9, 10, 13, *range(32, 127)])


def is_written(value: str) -> bool:
    """Whether base64 may hold what somebody wrote, so that it is scanned as text."""
    if len(value) <= _SHORT:
        return True
    raw = value.encode()
    return (
        any(len(raw.translate(None, others)) >= _MOSTLY * len(raw) for others in _OTHERS)
        or _DIGITS.search(value) is not None
        or _KEYS.search(value) is not None
        or _decodes_to_text(raw)
    )


def _decodes_to_text(raw: bytes) -> bool:
    raw = raw.translate(_TO_STANDARD, b"\r\n=")
    raw = raw[: len(raw) - (len(raw) % 4 == 1)]
    decoded = binascii.a2b_base64(raw + b"=" * (-len(raw) % 4))
    # Of random bytes four in ten are printed.
    return len(decoded.translate(None, _PRINTED)) <= (1 - _MOSTLY) * len(decoded) or _is_utf_8(decoded)


def _is_utf_8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
