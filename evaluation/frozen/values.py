"""Fills the frozen texts from a seed, with nothing but the standard library: a newer Faker changes no value.

Values have the right form and the right check digits, and belong to nobody: the seed drew them. None of them stands in
the repository, so that no scanner of repositories takes it for a leak.
"""

from __future__ import annotations

import random
import re
import string
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from evaluation.frozen.national import NATIONAL
from evaluation.samples import Sample

LISTS: Mapping[str, Mapping[str, list[str]]] = yaml.safe_load(Path(__file__).with_name("lists.yaml").read_text())

ENTITIES = {
    "account": "ACCOUNT_NUMBER",
    "address": "ADDRESS",
    "card": "CREDIT_CARD",
    "dob": "DATE_OF_BIRTH",
    "email": "EMAIL_ADDRESS",
    "first": "PERSON",
    "iban": "IBAN_CODE",
    "ip": "IP_ADDRESS",
    "last": "PERSON",
    "license": "LICENSE_NUMBER",
    "mac": "MAC_ADDRESS",
    "name": "PERSON",
    "passport": "PASSPORT_NUMBER",
    "phone": "PHONE_NUMBER",
    "phone_digits": "PHONE_NUMBER",
    "policy": "POLICY_NUMBER",
    "ssn": "US_SSN",
}
"""The slots that are personal data."""

_SLOT = re.compile(r"\{\{(\w+)\}\}")
# In a form, `X` is any digit and `N` is 2 to 9.
_PHONES = {
    "en": "(NXX) NXX-XXXX|NXX-NXX-XXXX|NXX.NXX.XXXX|+1 NXX NXX XXXX|+1 (NXX) NXX-XXXX|555-NXX-XXXX|+44 20 79XX XXXX"
    "|07700 9XXXXX|020 79XX XXXX|+91 98XXX XXXXX|+61 4XX XXX XXX",
    "de": "0171 XXXXXXX|0151 XXXXXXXX|030 NXXXXXX|089/NXXXXXX|(0221) NXX XX XX|+49 (0)40 NXXXXXXX|+49 171 XXXXXXX",
    "fr": "06 XX XX XX XX|01.4X.XX.XX.XX|+33 6 XX XX XX XX|07XXXXXXXX|02 3X XX XX XX",
    "es": "6NX XXX XXX|+34 91N XXX XXX|93 NXX XX XX|6NXXXXXXX|+34 6NX XX XX XX",
    "it": "347 XXX XXXX|+39 06 NXXXXXXX|02 NXXXXXXX|+39 338 XXXXXXX|055 NXXXXX",
    "pl": "60N XXX XXX|+48 22 NXX XX XX|22 NXX XX XX|50NXXXXXX|+48 79N XXX XXX",
    "pt": "(11) 9NXXX-XXXX|+55 21 9NXXX-XXXX|(31) 3NXX-XXXX|11 9NXXX XXXX|+351 91N XXX XXX",
    "nl": "06-NXXXXXXX|06 NX XX XX XX|020 NXX XXXX|+31 6 NXXXXXXX|010-NXX XX XX",
    "sv": "070-NXX XX XX|08-NXX XXX XX|+46 70 NXX XX XX|031-NX XX XX",
    "fi": "040 NXX XXXX|050 NXXXXXX|+358 40 NXX XXXX|09 NXX XXXX",
    "ko": "010-NXXX-XXXX|02-NXX-XXXX|+82 10-NXXX-XXXX|031-NXX-XXXX|010 NXXX XXXX",
    "tr": "0532 NXX XX XX|+90 532 NXX XX XX|0 (212) NXX XX XX|0505NXXXXXX",
    "th": "081-NXX-XXXX|02-NXX-XXXX|+66 81 NXX XXXX|089 NXX XXXX",
    "he": "052-NXX-XXXX|054-NXXXXXX|03-NXX-XXXX|+972 52-NXX-XXXX",
    "zh": "138XXXXXXXX|139 XXXX XXXX|010-6NXXXXXX|+86 138 XXXX XXXX|021-5NXXXXXX|186-XXXX-XXXX",
    "ja": "090-NXXX-XXXX|03-3NXX-XXXX|080-NXXX-XXXX|+81 90-NXXX-XXXX|06-6NXX-XXXX|045-NXX-XXXX",
    "ar": "+966 50 NXX XXXX|055NXXXXXX|+971 50 NXX XXXX|+20 10 NXXX XXXX",
    "hi": "+91 98NXX XXXXX|98NXXXXXXX|97NXX-XXXXX|011-2NXX XXXX",
    "ru": "+7 91N XXX-XX-XX|8 (91N) XXX-XX-XX|8-90N-XXX-XX-XX|+7 (495) NXX-XX-XX",
}
_BIRTHS = {
    "en": ("%m/%d/%Y", "%Y-%m-%d", "%B %d, %Y", "%d %b %Y"),
    "ko": ("%Y년 %m월 %d일", "%Y-%m-%d", "%Y.%m.%d"),
    "zh": ("%Y年%m月%d日", "%Y-%m-%d"),
    "ja": ("%Y年%m月%d日", "%Y/%m/%d"),
    "sv": ("%Y-%m-%d",),
    "fr": ("%d/%m/%Y", "%d.%m.%Y"),
    "es": ("%d/%m/%Y", "%d-%m-%Y"),
    "": ("%d.%m.%Y", "%d/%m/%Y"),
}
_ADDRESSES = {
    "en": ("{number} {street}, {town}", "{number} {street}, Apt {unit}, {town}", "{number} {street}"),
    "fr": ("{number} {street}, {town}", "{number}, {street}, {town}"),
    "es": ("{street} {number}, {town}", "{street}, {number}, {town}"),
    "it": ("{street} {number}, {town}", "{street}, {number}, {town}"),
    "pl": ("{street} {number}/{unit}, {town}", "{street} {number}, {town}"),
    "pt": ("{street}, {number}, {town}", "{street} {number}, {town}"),
    "ko": ("{town} {street} {number}", "{town} {street} {number}, {unit}층"),
    "tr": ("{street} No:{number}, {town}", "{street} No: {number} D: {unit}, {town}"),
    "th": ("{number}/{unit} {street} {town}",),
    "he": ("{street} {number}, {town}",),
    "zh": ("{town}{street}{number}号", "{town}{street}{number}号{unit}室"),
    "ja": ("{town}{street}{unit}-{unit}-{number}", "{town}{street}{unit}丁目{unit}番{unit}号"),
    "hi": ("{number}, {street}, {town}",),
    "ru": ("{town}, {street}, д. {number}, кв. {unit}", "{street}, д. {number}, {town}"),
    "": ("{street} {number}, {town}",),
}
# Country and form of the account: `A` is a letter, `X` a digit.
_IBANS = {
    "en": ("GB", "AAAAXXXXXXXXXXXXXX"),
    "fr": ("FR", "X" * 23),
    "es": ("ES", "X" * 20),
    "it": ("IT", "A" + "X" * 22),
    "pl": ("PL", "X" * 24),
    "pt": ("PT", "X" * 21),
    "nl": ("NL", "AAAA" + "X" * 10),
    "sv": ("SE", "X" * 20),
    "fi": ("FI", "X" * 14),
    "tr": ("TR", "X" * 5 + "0" + "X" * 16),
    "he": ("IL", "X" * 19),
    "ar": ("SA", "X" * 20),
    "": ("DE", "X" * 18),
}
_LATIN = ("en", "de", "fr", "es", "it", "pl", "pt", "nl", "sv", "fi", "tr")
_FAMILY_FIRST = {"ko": "", "zh": "", "ja": " "}
_CARDS = (
    ("4", 16),
    ("4", 16),
    ("51", 16),
    ("54", 16),
    ("2221", 16),
    ("34", 15),
    ("37", 15),
    ("6011", 16),
    ("3530", 16),
)
DOMAINS = ("example.com", "example.org", "mail.example.net", "posteo.example", "firma.example", "uni-example.edu")


class Values:
    """Draw the values of one language; the same seed and the same texts give the same values."""

    def __init__(self, language: str, seed: int) -> None:
        self._language = language
        self._random = random.Random(f"{language}-{seed}")  # noqa: S311 - for a test, and the same each time
        self._lists = LISTS[language]

    def fill(self, template: str, entity: str = "") -> Sample:
        """Fill the template with a new value in each place. `entity` is what the slot `value` holds, if any."""
        text, spans, done = "", [], 0
        for slot in _SLOT.finditer(template):
            text += template[done : slot.start()]
            value = NATIONAL[entity](self._random) if slot[1] == "value" else self.value(slot[1])
            if named := entity if slot[1] == "value" else ENTITIES.get(slot[1]):
                spans.append((named, len(text), len(text) + len(value)))
            text += value
            done = slot.end()
        return Sample(text + template[done:], tuple(spans), self._language)

    def value(self, name: str) -> str:
        """Return a value of the kind with this name.

        Raises:
            AttributeError: there is no such kind.
        """
        return str(getattr(self, f"_{name}")())

    def _of(self, choices: Iterable[str]) -> str:
        return self._random.choice([*choices])

    def _drawn(self, form: str) -> str:
        kinds = {"X": string.digits, "N": "23456789", "A": string.ascii_uppercase}
        return "".join(self._random.choice(kinds[char]) if char in kinds else char for char in form)

    def _by_language(self, table: Mapping[str, Any]) -> Any:
        return table.get(self._language, table.get(""))

    # -- personal ----------------------------------------------------------------------------------------------------
    def _first(self) -> str:
        return self._of(self._lists["first"])

    def _last(self) -> str:
        return self._of(self._lists["last"])

    def _name(self) -> str:
        """Return a full name; of four in English, one is of a person whose language is another one."""
        lists = self._lists
        if self._language == "en" and self._random.random() < 0.25:
            lists = LISTS[self._of(_LATIN)]
        first, last = self._of(lists["first"]), self._of(lists["last"])
        if (between := _FAMILY_FIRST.get(self._language)) is not None:
            return f"{last}{between}{first}"
        middle = f" {self._drawn('A')}." if self._language == "en" and self._random.random() < 0.15 else ""
        return f"{first}{middle} {last}"

    def _phone(self) -> str:
        return self._drawn(self._of(_PHONES[self._language].split("|")))

    def _phone_digits(self) -> str:
        return re.sub(r"\D", "", self._drawn(_PHONES[self._language].split("|")[0]))

    def _email(self) -> str:
        lists = LISTS[self._language if self._language in _LATIN else "en"]
        first, last = (re.sub(r"[^a-z]", "", self._of(lists[part]).lower()) or "mail" for part in ("first", "last"))
        form = self._of(("{f}.{l}@{d}", "{f}{n}@{d}", "{i}{l}@{d}", "{f}_{l}@{d}", "{f}+{l}@{d}", "{l}@{d}"))
        number = self._random.randint(1, 99)
        return form.format(f=first, l=last, i=first[0], n=number, d=self._of(DOMAINS))

    def _card(self) -> str:
        prefix, length = self._random.choice(_CARDS)
        body = prefix + self._drawn("X" * (length - 1 - len(prefix)))
        number = body + _luhn_digit(body)
        groups = (4, 6, 5) if length == 15 else (4, 4, 4, 4)
        return self._grouped(number, groups, ("", " ", "-"))

    def _grouped(self, text: str, groups: Iterable[int], between: Iterable[str]) -> str:
        parts, at = [], 0
        for size in groups:
            parts.append(text[at : at + size])
            at += size
        return self._of(between).join([*parts, *filter(None, [text[at:]])])

    def _iban(self) -> str:
        country, form = self._by_language(_IBANS)
        account = self._drawn(form)
        number = "".join(str(int(char, 36)) for char in f"{account}{country}00")
        whole = f"{country}{98 - int(number) % 97:02d}{account}"
        return self._grouped(whole, (4,) * (len(whole) // 4), ("", " "))

    def _ssn(self) -> str:
        """Return a number of the assigned areas; of ten, one is the number that people write when they make one up."""
        area = self._random.choice([*range(1, 666), *range(667, 900)])
        rest = f"{self._random.randint(1, 99):02d}", f"{self._random.randint(1, 9999):04d}"
        if self._random.random() < 0.1:
            return "123-45-6789"
        return self._of(("-", "-", "-", " ", "")).join((f"{area:03d}", *rest))

    def _address(self) -> str:
        form = self._of(self._by_language(_ADDRESSES))
        while "{unit}" in form:
            form = form.replace("{unit}", str(self._random.randint(1, 24)), 1)
        street, town = self._of(self._lists["streets"]), self._of(self._lists["towns"])
        return form.format(street=street, town=town, number=self._random.randint(2, 240))

    def _dob(self) -> str:
        day = datetime(1938, 1, 1, tzinfo=UTC) + timedelta(days=self._random.randint(0, 25_000))
        return day.strftime(self._of(self._by_language(_BIRTHS)))

    def _ip(self) -> str:
        if self._random.random() < 0.2:
            return "2a0" + ":".join([self._drawn("N"), *(self._hex(4) for _ in range(7))])
        return ".".join(
            [str(self._random.choice((5, 24, 46, 62, 81, 93, 109, 151, 178, 213))), *map(str, self._bytes(3))]
        )

    def _bytes(self, count: int) -> list[int]:
        return [self._random.randint(1, 254) for _ in range(count)]

    def _mac(self) -> str:
        return self._of((":", ":", "-")).join(f"{byte:02x}" for byte in [0x3C, *self._bytes(5)])

    def _passport(self) -> str:
        return self._drawn("AXXXXXXXX")

    def _license(self) -> str:
        return self._drawn(self._of(("AAXXXXXX", "AXXXXXXX")))

    def _policy(self) -> str:
        return self._drawn(self._of(("AAA-XXXXXXX", "XXXXXXXXXX", "HO-XXXX-XXXX")))

    def _account(self) -> str:
        return self._drawn(self._of(("NXXXXXXXXX", "NXXXXXXX", "NXXXXXXXXXXX")))

    # -- to be left alone --------------------------------------------------------------------------------------------
    def _hex(self, count: int) -> str:
        return "".join(self._random.choices("0123456789abcdef", k=count))

    def _hex8(self) -> str:
        return self._hex(8)

    def _hex16(self) -> str:
        return self._hex(16)

    def _hex32(self) -> str:
        return self._hex(32)

    def _sha1(self) -> str:
        return self._hex(40)

    def _sha256(self) -> str:
        return self._hex(64)

    def _fingerprint(self) -> str:
        return ":".join(self._hex(2).upper() for _ in range(32))

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def _order(self) -> str:
        return self._drawn(self._of(("SO-NXXXXX", "#NXXXXXX", "2026-NXXXX", "AAXNXXX")))

    def _order_number(self) -> str:
        return self._drawn("NXXXXXX")

    def _tracking(self) -> str:
        return self._drawn(self._of(("1ZXXXAXXXXXXXXXXXX", "JDXXXXXXXXXXXXXXXX")))

    def _version(self) -> str:
        return ".".join(str(self._random.randint(0, 30)) for _ in range(3))

    def _four_part(self) -> str:
        return ".".join(str(self._random.randint(0, 255)) for _ in range(4))

    def _moment(self) -> datetime:
        return datetime(2015, 1, 1, tzinfo=UTC) + timedelta(seconds=self._random.randint(0, 370_000_000))

    def _date(self) -> str:
        return self._moment().strftime(self._of(("%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d %B %Y")))

    def _time(self) -> str:
        return self._moment().strftime("%H:%M")

    def _timestamp(self) -> str:
        return self._moment().strftime(self._of(("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S,123", "%b %d %H:%M:%S")))

    def _price(self) -> str:
        return self._of(("${}", "{} EUR", "USD {}", "£{}")).format(f"{self._random.uniform(1, 9_999):,.2f}")

    def _number(self) -> str:
        return str(self._random.randint(1, 10 ** self._random.randint(1, 4)))

    def _two(self) -> str:
        return self._drawn("NX")

    def _big_number(self) -> str:
        return self._drawn("NXXXXXXXX")

    def _sixteen(self) -> str:
        return self._drawn("N" + "X" * 15)

    def _float(self) -> str:
        return repr(self._random.random())

    def _lat(self) -> str:
        return f"{self._random.uniform(-90, 90):.6f}"

    def _lon(self) -> str:
        return f"{self._random.uniform(-180, 180):.6f}"

    def _port(self) -> str:
        return str(self._random.randint(1024, 65_535))

    def _isbn(self) -> str:
        return _ean(self._drawn("978XXXXXXXXX"))

    def _ean(self) -> str:
        return _ean(self._drawn("40XXXXXXXXXX"))

    def _city(self) -> str:
        return self._of(("Boston", "Leeds", "Toronto", "Austin"))


def _luhn_digit(body: str) -> str:
    doubled = (int(char) * (2 - at % 2) for at, char in enumerate(reversed(body)))
    return str(-sum(number - 9 * (number > 9) for number in doubled) % 10)


def _ean(body: str) -> str:
    return body + str(-sum(int(char) * (1 + 2 * (at % 2)) for at, char in enumerate(body)) % 10)
