"""Draws national identifiers with the check digits of their issuers."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Mapping, Sequence


def _digits(rng: random.Random, count: int, first: str = "123456789") -> list[int]:
    return [int(rng.choice(first)), *(rng.randrange(10) for _ in range(count - 1))]


def _text(digits: Sequence[int]) -> str:
    return "".join(map(str, digits))


def _weighted(digits: Sequence[int], weights: Sequence[int]) -> int:
    return sum(digit * weight for digit, weight in zip(digits, weights, strict=True))


def luhn(digits: Sequence[int]) -> int:
    """Return the check digit of Luhn's formula for the digits before it."""
    doubled = [digit * (2 - at % 2) for at, digit in enumerate(reversed(digits))]
    return -sum(number - 9 * (number > 9) for number in doubled) % 10


def _birth(rng: random.Random) -> tuple[int, int, int]:
    return rng.randint(1940, 1999), rng.randint(1, 12), rng.randint(1, 28)


def _de_tax_id(rng: random.Random) -> str:
    """Return eleven digits: of the first ten, one digit stands twice and one is missing."""
    order = rng.sample(range(10), 10)
    order[rng.randrange(1, 9)] = order[9]
    if order[0] == 0:
        order[0], order[1] = order[1], order[0]
    product = 10
    for digit in order:
        total = (digit + product) % 10 or 10
        product = total * 2 % 11
    return _text([*order, (11 - product) % 10])


def _se_personnummer(rng: random.Random) -> str:
    year, month, day = _birth(rng)
    body = [*map(int, f"{year % 100:02d}{month:02d}{day:02d}"), *_digits(rng, 3)]
    return f"{year // 100 if rng.random() < 0.5 else ''}{_text(body[:6])}-{_text(body[6:])}{luhn(body)}"


def _fi_henkilotunnus(rng: random.Random) -> str:
    year, month, day = _birth(rng)
    date, nth = f"{day:02d}{month:02d}{year % 100:02d}", f"{rng.randint(2, 899):03d}"
    return f"{date}-{nth}{'0123456789ABCDEFHJKLMNPRSTUVWXY'[int(date + nth) % 31]}"


def _tr_kimlik(rng: random.Random) -> str:
    body = _digits(rng, 9)
    tenth = (sum(body[::2]) * 7 - sum(body[1::2])) % 10
    return _text([*body, tenth, (sum(body) + tenth) % 10])


def _th_tnin(rng: random.Random) -> str:
    body = [*_digits(rng, 1, "12345"), *map(int, rng.choice(("10", "20", "30", "40", "50", "83"))), *_digits(rng, 9)]
    whole = _text([*body, (11 - _weighted(body, range(13, 1, -1)) % 11) % 10])
    return f"{whole[0]}-{whole[1:5]}-{whole[5:10]}-{whole[10:12]}-{whole[12]}" if rng.random() < 0.5 else whole


def _kr_rrn(rng: random.Random) -> str:
    """Return a number as they were given until October 2020, with a region and a check digit."""
    year, month, day = _birth(rng)
    region = [*map(int, f"{rng.randint(0, 95):02d}"), *_digits(rng, 3)]
    body = [*map(int, f"{year % 100:02d}{month:02d}{day:02d}"), rng.randint(1, 2), *region]
    check = (11 - _weighted(body, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)) % 11) % 10
    return f"{_text(body[:6])}-{_text(body[6:])}{check}"


_ODD = dict(
    zip(
        string.digits + string.ascii_uppercase,
        (
            1,
            0,
            5,
            7,
            9,
            13,
            15,
            17,
            19,
            21,
            1,
            0,
            5,
            7,
            9,
            13,
            15,
            17,
            19,
            21,
            2,
            4,
            18,
            20,
            11,
            3,
            6,
            8,
            12,
            14,
            16,
            10,
            22,
            25,
            24,
            23,
        ),
        strict=True,
    )
)


def _it_fiscal_code(rng: random.Random) -> str:
    year, month, day = _birth(rng)
    letters = "".join(rng.choices("BCDFGLMNPRSTVZ", k=6))
    day += 40 * rng.randrange(2)
    body = f"{letters}{year % 100:02d}{'ABCDEHLMPRST'[month - 1]}{day:02d}"
    body += f"{rng.choice('ABCDEFGHIL')}{rng.randint(100, 999)}"
    even = (int(char) if char.isdigit() else ord(char) - 65 for char in body[1::2])
    return body + string.ascii_uppercase[(sum(_ODD[char] for char in body[::2]) + sum(even)) % 26]


_VERHOEFF = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_PERMUTED = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


def _in_aadhaar(rng: random.Random) -> str:
    body = _digits(rng, 11, "23456789")
    check = 0
    for at, digit in enumerate(reversed(body), 1):
        check = int(_VERHOEFF[check][int(_PERMUTED[at % 8][digit])])
    whole = _text([*body, next(digit for digit in range(10) if _VERHOEFF[check][digit] == "0")])
    return f"{whole[:4]} {whole[4:8]} {whole[8:]}" if rng.random() < 0.6 else whole


def _in_pan(rng: random.Random) -> str:
    letters = "".join(rng.choices(string.ascii_uppercase, k=3))
    return f"{letters}P{rng.choice(string.ascii_uppercase)}{_text(_digits(rng, 4))}{rng.choice(string.ascii_uppercase)}"


def _ca_sin(rng: random.Random) -> str:
    body = _digits(rng, 8, "1234567")
    whole = _text([*body, luhn(body)])
    between = rng.choice(("", " ", "-"))
    return between.join((whole[:3], whole[3:6], whole[6:]))


def _za_id(rng: random.Random) -> str:
    year, month, day = _birth(rng)
    body = [*map(int, f"{year % 100:02d}{month:02d}{day:02d}"), *_digits(rng, 4, "0123456789"), 0, 8]
    return _text([*body, luhn(body)])


def _mod_11(rng: random.Random, count: int, weights: Sequence[int], check: Callable[[int], int]) -> list[int]:
    """Draw digits until their check digit is one digit."""
    while True:
        body = _digits(rng, count)
        last = check(_weighted(body, weights))
        if last < 10:
            return [*body, last]


def _uk_nhs(rng: random.Random) -> str:
    whole = _text(_mod_11(rng, 9, range(10, 1, -1), lambda total: (11 - total % 11) % 11))
    return f"{whole[:3]} {whole[3:6]} {whole[6:]}" if rng.random() < 0.6 else whole


def _uk_nino(rng: random.Random) -> str:
    letters = rng.choice("ABCEHJKLMPRSTWXY") + rng.choice("ABCEHJKLMPRSTWXYZ")
    whole = f"{letters}{_text(_digits(rng, 6))}{rng.choice('ABCD')}"
    return f"{whole[:2]} {whole[2:4]} {whole[4:6]} {whole[6:8]} {whole[8]}" if rng.random() < 0.5 else whole


def _us_itin(rng: random.Random) -> str:
    group = rng.choice([*range(50, 66), *range(70, 89), 90, 91, 92, *range(94, 100)])
    return f"9{rng.randint(0, 99):02d}-{group}-{rng.randint(1, 9999):04d}"


def _us_npi(rng: random.Random) -> str:
    body = _digits(rng, 9, "12")
    return _text([*body, luhn([8, 0, 8, 4, 0, *body])])


def _au_tfn(rng: random.Random) -> str:
    while True:
        digits = _digits(rng, 9)
        if _weighted(digits, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0:
            whole = _text(digits)
            return f"{whole[:3]} {whole[3:6]} {whole[6:]}"


def _au_medicare(rng: random.Random) -> str:
    body = _digits(rng, 8, "23456")
    whole = _text([*body, _weighted(body, (1, 3, 7, 9, 1, 3, 7, 9)) % 10, rng.randint(1, 9)])
    return f"{whole[:4]} {whole[4:9]} {whole[9]}" if rng.random() < 0.6 else whole


_NIF = "TRWAGMYFPDXBNJZSQVHLCKE"


def _es_nif(rng: random.Random) -> str:
    number = rng.randint(10_000_000, 99_999_999)
    return f"{number}{rng.choice(('', '-'))}{_NIF[number % 23]}"


def _es_nie(rng: random.Random) -> str:
    first, number = rng.randrange(3), rng.randint(1_000_000, 9_999_999)
    return f"{'XYZ'[first]}{number}{_NIF[int(f'{first}{number}') % 23]}"


def _pl_pesel(rng: random.Random) -> str:
    year, month, day = _birth(rng)
    body = [*map(int, f"{year % 100:02d}{month:02d}{day:02d}"), *_digits(rng, 4)]
    return _text([*body, -_weighted(body, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10])


def _sg_nric(rng: random.Random) -> str:
    digits = _digits(rng, 7)
    return f"S{_text(digits)}{'JZIHGFEDCBA'[_weighted(digits, (2, 7, 6, 5, 4, 3, 2)) % 11]}"


def _fr_nir(rng: random.Random) -> str:
    year, month, _ = _birth(rng)
    place = f"{rng.randint(1, 95):02d}{rng.randint(1, 900):03d}{rng.randint(1, 999):03d}"
    body = f"{rng.randint(1, 2)}{year % 100:02d}{month:02d}{place}"
    key = f"{97 - int(body) % 97:02d}"
    spaced = f"{body[0]} {body[1:3]} {body[3:5]} {body[5:7]} {body[7:10]} {body[10:]} {key}"
    return spaced if rng.random() < 0.5 else body + key


def _with_two_checks(body: list[int], first: Sequence[int], second: Sequence[int]) -> list[int]:
    for weights in (first, second):
        rest = _weighted(body, weights) % 11
        body = [*body, 0 if rest < 2 else 11 - rest]
    return body


def _br_cpf(rng: random.Random) -> str:
    whole = _text(_with_two_checks(_digits(rng, 9), range(10, 1, -1), range(11, 1, -1)))
    return f"{whole[:3]}.{whole[3:6]}.{whole[6:9]}-{whole[9:]}" if rng.random() < 0.7 else whole


def _br_cnpj(rng: random.Random) -> str:
    first = (5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
    whole = _text(_with_two_checks([*_digits(rng, 8), 0, 0, 0, 1], first, (6, *first)))
    return f"{whole[:2]}.{whole[2:5]}.{whole[5:8]}/{whole[8:12]}-{whole[12:]}"


def _nl_bsn(rng: random.Random) -> str:
    return _text(_mod_11(rng, 8, range(9, 1, -1), lambda total: total % 11))


NATIONAL: Mapping[str, Callable[[random.Random], str]] = {
    "AU_MEDICARE": _au_medicare,
    "AU_TFN": _au_tfn,
    "BR_CNPJ": _br_cnpj,
    "BR_CPF": _br_cpf,
    "CA_SIN": _ca_sin,
    "DE_TAX_ID": _de_tax_id,
    "ES_NIE": _es_nie,
    "ES_NIF": _es_nif,
    "FI_PERSONAL_IDENTITY_CODE": _fi_henkilotunnus,
    "FR_NIR": _fr_nir,
    "IN_AADHAAR": _in_aadhaar,
    "IN_PAN": _in_pan,
    "IT_FISCAL_CODE": _it_fiscal_code,
    "KR_RRN": _kr_rrn,
    "NL_BSN": _nl_bsn,
    "PL_PESEL": _pl_pesel,
    "SE_PERSONNUMMER": _se_personnummer,
    "SG_NRIC_FIN": _sg_nric,
    "TH_TNIN": _th_tnin,
    "TR_NATIONAL_ID": _tr_kimlik,
    "UK_NHS": _uk_nhs,
    "UK_NINO": _uk_nino,
    "US_ITIN": _us_itin,
    "US_NPI": _us_npi,
    "ZA_ID_NUMBER": _za_id,
}
