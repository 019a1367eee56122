"""Fills the templates of the PII evaluation with Faker's values from a fixed seed, as people write them.

Faker invents its numbers: no operator assigns about half of its telephone numbers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import datetime

from faker import Faker

from evaluation.samples import Sample

# The names in a template that stand for personal data. All others stand for text that must not be found.
PERSONAL = {
    "btc": "CRYPTO",
    "card": "CREDIT_CARD",
    "email": "EMAIL_ADDRESS",
    "iban": "IBAN_CODE",
    "iban_compact": "IBAN_CODE",
    "ip": "IP_ADDRESS",
    "ip6": "IP_ADDRESS",
    "itin": "US_ITIN",
    "mac": "MAC_ADDRESS",
    "phone": "PHONE_NUMBER",
    "phone_digits": "PHONE_NUMBER",
    "ssn": "US_SSN",
}
# The names that stand for what only the language model finds.
NAMES = {"city": "LOCATION", "name": "PERSON", "name_sql": "PERSON"}
_SLOT = re.compile(r"\{\{(\w+)\}\}")
_DIGITS = re.compile(r"digits?(\d*)")
_HEX = re.compile(r"hex(\d+)")
_YEARS = (datetime(2000, 1, 1), datetime(2026, 1, 1))  # not "until now": the seed alone decides
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class Values:
    """Make the values of one run: the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        chooser = Faker()
        chooser.seed_instance(seed)
        self._random = chooser.random
        self._fakers = {}
        for nth, locale in enumerate(("en_US", "en_GB", "en_IN", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL")):
            self._fakers[locale] = faker = Faker(locale)
            faker.seed_instance(seed + nth)
        self._us = self._fakers["en_US"]

    def fill(self, template: str, personal: Mapping[str, str] = PERSONAL) -> Sample:
        """Fill the template with a new value in each place; `personal` maps names to entities."""
        text, spans, done = "", [], 0
        for match in _SLOT.finditer(template):
            text += template[done : match.start()]
            value = self.value(match[1])
            if entity := personal.get(match[1]):
                spans.append((entity, len(text), len(text) + len(value)))
            text += value
            done = match.end()
        return Sample(text + template[done:], tuple(spans))

    def value(self, name: str) -> str:
        """Return a value of the kind with this name.

        Raises:
            KeyError: there is no such kind.
        """
        if match := _DIGITS.fullmatch(name):
            return str(self._random.randint(1, 9)) + self._digits(int(match[1] or 1) - 1)
        if match := _HEX.fullmatch(name):
            return self._hex(int(match[1]))
        own = getattr(self, f"_{name}", None)
        return own() if own is not None else self._plain()[name]()

    def _plain(self) -> dict[str, Callable[[], str]]:
        us = self._us
        return {
            "bic": us.swift11,
            "city": us.city,
            "company": us.company,
            "ean": us.ean13,
            "ip": us.ipv4,
            "isbn": us.isbn13,
            "itin": us.itin,
            "name": us.name,
            "paragraph": us.paragraph,
            "sentence": us.sentence,
            "sha": us.sha256,
            "sha1": us.sha1,
            "ssn": us.ssn,
            "street": us.street_address,
            "url": us.uri,
            "uuid": us.uuid4,
            "word": us.word,
            "zip": us.postcode,
        }

    def _digits(self, count: int) -> str:
        return "".join(self._random.choices("0123456789", k=count))

    def _hex(self, count: int) -> str:
        return "".join(self._random.choices("0123456789abcdef", k=count))

    # -- personal ----------------------------------------------------------------------------------------------------
    def _email(self) -> str:
        kind = self._random.choice(["email", "company_email", "ascii_free_email", "safe_email"])
        address: str = getattr(self._us, kind)()
        local, _, domain = address.partition("@")
        return f"{local}+{self._us.word()}@{domain}" if self._random.random() < 0.1 else address

    def _phone(self) -> str:
        """Return a number: half are American, a quarter British or Indian without code, a quarter foreign with it."""
        draw = self._random.random()
        if draw < 0.5:
            return str(self._us.phone_number())
        if draw < 0.75:
            return str(self._fakers["en_GB" if draw < 0.65 else "en_IN"].phone_number())
        faker = self._fakers[self._random.choice(["de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL"])]
        while not (number := str(faker.phone_number())).startswith("+"):
            pass
        return number

    def _phone_digits(self) -> str:
        digits = re.sub(r"\D", "", str(self._us.basic_phone_number()))[-10:]
        return self._random.choice(["", "+1"]) + digits

    def _card(self) -> str:
        number = str(self._us.credit_card_number())
        if len(number) != 16:
            return number
        return self._random.choice(["", " ", "-"]).join(number[at : at + 4] for at in range(0, 16, 4))

    def _iban_compact(self) -> str:
        return str(self._fakers[self._random.choice(["en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL"])].iban())

    def _iban(self) -> str:
        number = self._iban_compact()
        return (
            " ".join(number[at : at + 4] for at in range(0, len(number), 4)) if self._random.random() < 0.5 else number
        )

    def _ip6(self) -> str:
        """Return a full address, or one as machines in a network have it, without its zeros."""
        full = str(self._us.ipv6())
        return full if self._random.random() < 0.5 else f"2a02:26f7:{self._hex(4)}::{self._hex(4)}"

    def _mac(self) -> str:
        return str(self._us.mac_address()).replace(":", self._random.choice([":", ":", "-"]))

    def _btc(self) -> str:
        """Return a pay-to-public-key-hash address: Base58Check of a version byte and 20 bytes."""
        body = b"\0" + self._random.randbytes(20)
        body += hashlib.sha256(hashlib.sha256(body).digest()).digest()[:4]
        number, text = int.from_bytes(body, "big"), ""
        while number:
            number, digit = divmod(number, 58)
            text = _BASE58[digit] + text
        return "1" * (len(body) - len(body.lstrip(b"\0"))) + text

    # -- to be left alone --------------------------------------------------------------------------------------------
    def _name_sql(self) -> str:
        return str(self._us.name()).replace("'", "''")

    def _order(self) -> str:
        return self._random.choice(["", "SO-", "2024-", "#"]) + self._digits(self._random.choice([5, 6, 8, 10]))

    def _version(self) -> str:
        parts = [str(self._random.randint(0, 30)) for _ in range(self._random.choice([2, 3, 3]))]
        return self._random.choice(["", "v"]) + ".".join(parts) + self._random.choice(["", "", "-rc1", "+build.7"])

    def _moment(self) -> datetime:
        moment: datetime = self._us.date_time_between_dates(*_YEARS)
        return moment

    def _stamp(self) -> str:
        form = self._random.choice(["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S,123", "%b %d %H:%M:%S", "%Y%m%d%H%M%S"])
        return self._moment().strftime(form)

    def _clf(self) -> str:
        return self._moment().strftime("%d/%b/%Y:%H:%M:%S +0000")

    def _date(self) -> str:
        form = self._random.choice(["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d %B %Y"])
        return self._moment().strftime(form)

    def _price_number(self) -> str:
        return f"{self._random.uniform(1, 5_000):.2f}"

    def _price(self) -> str:
        return self._random.choice(["${}", "EUR {}", "{} USD", "£{}"]).format(f"{self._random.uniform(1, 99_999):,.2f}")

    def _number(self) -> str:
        return str(self._random.randint(1, 10 ** self._random.randint(1, 7)))

    def _port(self) -> str:
        return str(self._random.randint(1024, 65_535))

    def _tracking(self) -> str:
        return self._random.choice(["1Z{}A{}", "JD{}{}", "{}{}"]).format(self._digits(6), self._digits(8))

    def _coords(self) -> str:
        return f"{self._random.uniform(-90, 90):.6f}, {self._random.uniform(-180, 180):.6f}"
