"""Finds national identifiers that Presidio does not offer, or not in linear time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from gatehouse.guards.deadline import Deadline
from gatehouse.guards.findings import Finding

_BEGIN, _END = r"[0-9](?<![0-9A-Za-z].)(?<![0-9][.,/-].)", r"(?![0-9A-Za-z]|[.,/-][0-9])"
_CPF = re.compile(rf"{_BEGIN}[0-9]{{2}}(\.?)[0-9]{{3}}\1[0-9]{{3}}-?[0-9]{{2}}{_END}")
_CNPJ = re.compile(rf"{_BEGIN}[0-9](\.?)[0-9]{{3}}\1[0-9]{{3}}/?[0-9]{{4}}-?[0-9]{{2}}{_END}")
# Sex, year, month, department (2A and 2B are Corsica), commune, order, key.
_NIR = re.compile(
    rf"{_BEGIN}(?<=[12]) ?[0-9]{{2}} ?(?:0[1-9]|1[0-2]|[2-9][0-9]) ?(?:[0-9]{{2}}|2[AB]) ?"
    rf"[0-9]{{3}} ?[0-9]{{3}} ?[0-9]{{2}}{_END}"
)
_BSN = re.compile(rf"{_BEGIN}(?:[0-9]{{7,8}}|[0-9]{{3}}\.[0-9]{{2}}\.[0-9]{{3}}){_END}")
# Three letters, the kind of holder, an initial, four digits, a letter: there is no check digit.
_PAN = re.compile(r"[A-Z](?<![0-9A-Za-z].)[A-Z]{2}[ABCFGHJLPT][A-Z][0-9]{4}[A-Z](?![0-9A-Za-z])")
# Digits alone pass a check digit now and then; such a number also needs one of the detector's words nearby.
_CERTAIN, _WEAK = 1.0, 0.3

CONTEXT = {
    "BR_CNPJ": ("cnpj", "cadastro nacional", "empresa"),
    "BR_CPF": ("cpf", "cadastro de pessoas", "contribuinte"),
    "FR_NIR": ("nir", "securite sociale", "numero de secu", "insee"),
    "IN_PAN": ("pan", "permanent account", "income tax"),
    "NL_BSN": ("bsn", "burgerservicenummer", "sofinummer", "sofi"),
}


def _digits(text: str) -> list[int]:
    return [int(char) for char in text if char.isdecimal()]


def _mod_11(digits: list[int], weights: range) -> int:
    rest = sum(digit * weight for digit, weight in zip(digits, weights, strict=False)) % 11
    return 0 if rest < 2 else 11 - rest


def is_cpf(text: str) -> bool:
    """Apply the two check digits of a Brazilian taxpayer's number."""
    digits = _digits(text)
    return (
        len(set(digits)) > 1
        and _mod_11(digits[:9], range(10, 1, -1)) == digits[9]
        and _mod_11(digits[:10], range(11, 1, -1)) == digits[10]
    )


def is_cnpj(text: str) -> bool:
    """Apply the two check digits of a Brazilian company's number."""
    digits = _digits(text)
    weights = [5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2]

    def check(count: int, factors: list[int]) -> int:
        rest = sum(digit * factor for digit, factor in zip(digits[:count], factors, strict=True)) % 11
        return 0 if rest < 2 else 11 - rest

    return len(set(digits)) > 1 and check(12, weights) == digits[12] and check(13, [6, *weights]) == digits[13]


def is_nir(text: str) -> bool:
    """Apply the key of a French social security number."""
    plain = text.replace(" ", "").replace("2A", "19").replace("2B", "18")
    return 97 - int(plain[:-2]) % 97 == int(plain[-2:])


def is_bsn(text: str) -> bool:
    """Apply the eleven test of a Dutch citizen's number."""
    digits = _digits(text)
    digits = [0] * (9 - len(digits)) + digits
    total = sum(digit * weight for digit, weight in zip(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1), strict=True))
    return total % 11 == 0 and any(digits)


def _detector(
    entity: str, pattern: re.Pattern[str], check: Callable[[str], bool], signs: str
) -> Callable[[str, Deadline], Iterator[Finding]]:
    def find(text: str, deadline: Deadline) -> Iterator[Finding]:
        for match in pattern.finditer(text):
            deadline.left()
            if check(match[0]):
                score = _CERTAIN if any(sign in match[0] for sign in signs) else _WEAK
                yield Finding(entity, match.start(), match.end(), score, ("check digit",))

    return find


DETECTORS = {
    "BR_CNPJ": _detector("BR_CNPJ", _CNPJ, is_cnpj, "/-"),
    "BR_CPF": _detector("BR_CPF", _CPF, is_cpf, ".-"),
    "FR_NIR": _detector("FR_NIR", _NIR, is_nir, "0123456789"),
    "IN_PAN": _detector("IN_PAN", _PAN, bool, ""),
    "NL_BSN": _detector("NL_BSN", _BSN, is_bsn, ""),
}
