"""Decides which opaque values are scanned: real signatures and encrypted states look random.

A caller's words, digits or keys in their place are scanned; of 10,000 random strings none is. Each check takes time
linear in the length of the value.
"""

from __future__ import annotations

import binascii
import re
import string
from typing import Final

# A shorter value is always scanned. Issuers' keys are shorter, except JSON Web Tokens, which contain points.
_SHORT: Final = 256
# In random base64 four of ten characters are capitals, and four are small letters. Eight of ten of one kind mean words,
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
# As many digits in a row as a card's number has, which occurs in one of ten million random base64 values.
_DIGITS: Final = re.compile(r"(?:[0-9][-_/+=]?){12}", re.ASCII)
# The beginnings of issuers' keys, within base64's alphabet.
_KEYS: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:sk-(?:ant|proj|or|svcacct|admin|gatehouse)-|github_pat_|gh[opusr]_[A-Za-z0-9]{36}|glpat-"
    r"|xox[abceoprs]-|A[KS]IA[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{35}|[rs]k_(?:live|test)_|npm_[A-Za-z0-9]{36}|pypi-Ag"
    r"|dckr_[po]at_|do[opr]_v1_|whsec_|lin_api_|glsa_)",
    re.ASCII,
)
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
# Also UTF-16 of Latin letters, of which every second byte is zero.
_PRINTED: Final = bytes([0, 9, 10, 13, *range(32, 127)])


def is_written(value: str) -> bool:
    """Tell whether base64 may hold text that a person wrote, so that it must be scanned."""
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
    # Of random bytes four in ten are printable.
    return len(decoded.translate(None, _PRINTED)) <= (1 - _MOSTLY) * len(decoded) or _is_utf_8(decoded)


def _is_utf_8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
