"""The configuration of the scanner, as plain values that become a worker process's input and a cache key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import regex  # type: ignore[import-untyped]  # it ships no types; what comes out of it is typed here

from gatehouse.core.errors import SetupError


class Mode(StrEnum):
    """Name how a finding is treated; the members are ordered from the most lenient to the strictest."""

    OFF = "off"
    OBSERVE = "observe"
    MASK = "mask"
    BLOCK = "block"


# The entities by default: those that Presidio finds without a language model, precisely enough to leave ordinary text
# alone (docs/pii.md has the numbers). Dates, links and the weaker numbers must be named.
DEFAULT_ENTITIES = (
    "ACCOUNT_NUMBER",
    "ADDRESS",
    "CREDIT_CARD",
    "CRYPTO",
    "DATE_OF_BIRTH",
    "EMAIL_ADDRESS",
    "IBAN_CODE",
    "IP_ADDRESS",
    "LICENSE_NUMBER",
    "MAC_ADDRESS",
    "PASSPORT_NUMBER",
    "PERSON",
    "PHONE_NUMBER",
    "POLICY_NUMBER",
    "US_ITIN",
    "US_SSN",
)

# Of these, machines have one and people do not: they are counted as shipped, and masked where policy.yaml names
# them. An agent that reads logs, configurations and journals of networks needs them.
OBSERVED_ENTITIES = frozenset(("IP_ADDRESS", "MAC_ADDRESS"))

# Every entity with a detector, and the languages whose texts hold it; "" means all.
KNOWN_ENTITIES: Mapping[str, str] = MappingProxyType(
    {
        "ABA_ROUTING_NUMBER": "en",
        "ACCOUNT_NUMBER": "",
        "ADDRESS": "",
        "AU_ABN": "en",
        "AU_ACN": "en",
        "AU_MEDICARE": "en",
        "AU_TFN": "en",
        "BR_CNPJ": "pt",
        "BR_CPF": "pt",
        "CA_POSTAL_CODE": "en",
        "CA_SIN": "en",
        "CREDIT_CARD": "",
        "CRYPTO": "",
        "DATE_OF_BIRTH": "",
        "DATE_TIME": "",
        "DE_BSNR": "de",
        "DE_FUEHRERSCHEIN": "de",
        "DE_HANDELSREGISTER": "de",
        "DE_HEALTH_INSURANCE": "de",
        "DE_ID_CARD": "de",
        "DE_KFZ": "de",
        "DE_LANR": "de",
        "DE_PASSPORT": "de",
        "DE_PLZ": "de",
        "DE_SOCIAL_SECURITY": "de",
        "DE_TAX_ID": "de",
        "DE_TAX_NUMBER": "de",
        "DE_VAT_ID": "de",
        "EMAIL_ADDRESS": "",
        "ES_NIE": "es",
        "ES_NIF": "es",
        "ES_PASSPORT": "es",
        "FI_PERSONAL_IDENTITY_CODE": "fi",
        "FR_NIR": "fr",
        "IBAN_CODE": "",
        "IN_AADHAAR": "en",
        "IN_GSTIN": "en",
        "IN_PAN": "en",
        "IN_PASSPORT": "en",
        "IN_VEHICLE_REGISTRATION": "en",
        "IN_VOTER": "en",
        "IP_ADDRESS": "",
        "IT_DRIVER_LICENSE": "it",
        "IT_FISCAL_CODE": "it",
        "IT_IDENTITY_CARD": "it",
        "IT_PASSPORT": "it",
        "IT_VAT_CODE": "it",
        "KR_BRN": "ko",
        "KR_DRIVER_LICENSE": "ko",
        "KR_FRN": "ko",
        "KR_PASSPORT": "ko",
        "KR_RRN": "ko",
        "LICENSE_NUMBER": "",
        "MAC_ADDRESS": "",
        "MEDICAL_LICENSE": "en",
        "NG_NIN": "en",
        "NG_VEHICLE_REGISTRATION": "en",
        "NL_BSN": "nl",
        "PASSPORT_NUMBER": "",
        "PERSON": "",
        "PHONE_NUMBER": "",
        "PH_PASSPORT": "en",
        "PH_TIN": "en",
        "PH_UMID": "en",
        "PL_PESEL": "pl",
        "POLICY_NUMBER": "",
        "SE_ORGANISATIONSNUMMER": "sv",
        "SE_PERSONNUMMER": "sv",
        "SG_NRIC_FIN": "en",
        "SG_UEN": "en",
        "TH_TNIN": "th",
        "TR_LICENSE_PLATE": "tr",
        "TR_NATIONAL_ID": "tr",
        "UK_DRIVING_LICENCE": "en",
        "UK_NHS": "en",
        "UK_NINO": "en",
        "UK_PASSPORT": "en",
        "UK_POSTCODE": "en",
        "UK_VEHICLE_REGISTRATION": "en",
        "URL": "",
        "US_BANK_NUMBER": "en",
        "US_CLAIM_NUMBER": "en",
        "US_DRIVER_LICENSE": "en",
        "US_ITIN": "en",
        "US_MBI": "en",
        "US_NPI": "en",
        "US_PASSPORT": "en",
        "US_PRESCRIPTION_NUMBER": "en",
        "US_PRIOR_AUTHORIZATION_NUMBER": "en",
        "US_PROVIDER_TAX_ID": "en",
        "US_REFERRAL_NUMBER": "en",
        "US_SSN": "en",
        "ZA_COMPANY_REGISTRATION": "en",
        "ZA_DRIVER_LICENSE": "en",
        "ZA_ID_NUMBER": "en",
        "ZA_INCOME_TAX_NUMBER": "en",
        "ZA_LICENSE_PLATE": "en",
        "ZA_PASSPORT": "en",
        "ZA_TRAFFIC_REGISTER_NUMBER": "en",
        "ZA_VAT_NUMBER": "en",
    }
)
# Entities that only a language model finds (`PiiConfig.ner`), and those of them by default: of what the model takes for
# organizations, one in fifty is one.
NER_ENTITIES = ("LOCATION", "ORGANIZATION", "PERSON")
DEFAULT_NER_ENTITIES = ("LOCATION", "PERSON")
# The regions where a telephone number without a country code can be dialled; other languages have none.
REGIONS_BY_LANGUAGE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "en": ("US", "GB", "IN"),
        "de": ("DE", "AT", "CH"),
        "fr": ("FR",),
        "es": ("ES", "MX"),
        "it": ("IT",),
        "pl": ("PL",),
        "pt": ("BR", "PT"),
        "nl": ("NL",),
        "sv": ("SE",),
        "fi": ("FI",),
        "ko": ("KR",),
        "tr": ("TR",),
        "th": ("TH",),
        "he": ("IL",),
        "hi": ("IN",),
        "ja": ("JP",),
        "zh": ("CN",),
    }
)

_FLAGS = {"i": regex.IGNORECASE, "m": regex.MULTILINE, "s": regex.DOTALL, "x": regex.VERBOSE}
MAX_REGEX_CHARS = 1_000
MAX_REPEAT = 1_000
MAX_WORDS = 10_000
_REPEAT = regex.compile(r"\{(\d*),?(\d*)\}")
_ENTITY = regex.compile(r"[A-Z][A-Z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class CustomPattern:
    """Define a regular expression of the installation's own. `flags` are letters of `imsx`; `score` is 0 to 1."""

    regex: str
    score: float = 0.5
    flags: str = "i"

    def compiled(self) -> Any:
        """Compile the pattern within bounds.

        Raises:
            SetupError: it is too long, repeats too much, is not a regular expression, or matches the empty text.
        """
        thing = f"pii.recognizers: {self.regex[:60]!r}"
        if len(self.regex) > MAX_REGEX_CHARS:
            raise SetupError(f"{thing}: longer than {MAX_REGEX_CHARS} characters. Split it into several patterns.")
        if any(int(n) > MAX_REPEAT for match in _REPEAT.finditer(self.regex) for n in match.groups() if n):
            raise SetupError(f"{thing}: repeats more than {MAX_REPEAT} times. Lower the bound.")
        if unknown := set(self.flags) - set(_FLAGS):
            raise SetupError(f"{thing}: unknown flag {min(unknown)!r}. Use letters out of i, m, s, x.")
        flags = 0
        for letter in self.flags:
            flags |= _FLAGS[letter]
        try:
            pattern = regex.compile(self.regex, flags)
            empty = pattern.search("", timeout=1) is not None
        except (regex.error, RecursionError, TimeoutError) as error:
            raise SetupError(f"{thing}: {error}. Correct the regular expression.") from None
        if empty:
            raise SetupError(f"{thing}: matches the empty text. Make it require at least one character.")
        return pattern


@dataclass(frozen=True, slots=True)
class CustomRecognizer:
    """Define an entity of the installation's own by patterns and words. Context words raise a low score."""

    entity: str
    patterns: tuple[CustomPattern, ...] = ()
    deny_list: tuple[str, ...] = field(default=(), repr=False)
    context: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PiiConfig:
    """Hold everything that a scan depends on.

    Attributes:
        mode: the mode of every entity without one in `entities`.
        entities: what to look for, and its mode (None: `mode`); empty means `DEFAULT_ENTITIES`, and with `ner` also
            `DEFAULT_NER_ENTITIES`. Entities of `recognizers` are always looked for.
        languages: two-letter codes; recognizers for numbers of other languages stay off.
        threshold: the lowest score that counts, 0 to 1; `min_score` sets it by entity.
        allow_list: values that are never a finding (compared folded, without regard to case).
        max_chars: a longer text is refused, not scanned in part.
        timeout_s: seconds for one text.
        ner: load the English language model that finds `NER_ENTITIES`.
    """

    mode: Mode = Mode.MASK
    entities: Mapping[str, Mode | None] = field(default_factory=dict)
    languages: tuple[str, ...] = ("en",)
    threshold: float = 0.4
    min_score: Mapping[str, float] = field(default_factory=dict)
    recognizers: tuple[CustomRecognizer, ...] = ()
    allow_list: tuple[str, ...] = field(default=(), repr=False)
    max_chars: int = 200_000
    timeout_s: float = 5.0
    ner: bool = False

    @property
    def _by_default(self) -> tuple[str, ...]:
        return DEFAULT_ENTITIES + (DEFAULT_NER_ENTITIES if self.ner else ())

    def mode_of(self, entity: str) -> Mode:
        """Return how a finding of this entity is treated."""
        if (mode := self.entities.get(entity)) is not None:
            return mode
        wanted = entity in (self.entities or self._by_default) or any(
            each.entity == entity for each in self.recognizers
        )
        if not wanted:
            return Mode.OFF
        if not self.entities and entity in OBSERVED_ENTITIES and self.mode is not Mode.OFF:
            return Mode.OBSERVE
        return self.mode

    @property
    def wanted(self) -> tuple[str, ...]:
        """Return the entities to look for, sorted."""
        names = {*(self.entities or self._by_default), *(each.entity for each in self.recognizers)}
        return tuple(sorted(name for name in names if self.mode_of(name) is not Mode.OFF))

    def check(self) -> None:
        """Check everything that needs no Presidio.

        Raises:
            SetupError: it names the mistake.
        """
        for each in self.recognizers:
            if not _ENTITY.fullmatch(each.entity):
                raise SetupError(f"pii.recognizers: {each.entity!r} is not an entity name. Use capitals, digits and _.")
            if not each.patterns and not each.deny_list:
                raise SetupError(f"pii.recognizers: {each.entity} finds nothing. Give it patterns or a deny_list.")
            if len(each.deny_list) > MAX_WORDS or not all(word.strip() for word in each.deny_list):
                raise SetupError(f"pii.recognizers: {each.entity}: at most {MAX_WORDS} words, none empty. Correct it.")
            for pattern in each.patterns:
                pattern.compiled()
        if self.max_chars < 1 or not 0 < self.timeout_s <= 60:
            raise SetupError("pii: max_chars must be at least 1, timeout_s above 0 and at most 60. Correct them.")

    def to_json(self) -> str:
        """Return one line for `from_json`, the same for equal configurations."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, line: str) -> PiiConfig:
        """Read the output of `to_json`."""
        raw: dict[str, Any] = json.loads(line)
        raw["mode"] = Mode(raw["mode"])
        raw["entities"] = {name: mode and Mode(mode) for name, mode in raw["entities"].items()}
        raw["languages"], raw["allow_list"] = tuple(raw["languages"]), tuple(raw["allow_list"])
        raw["recognizers"] = tuple(
            CustomRecognizer(
                each["entity"],
                tuple(CustomPattern(**pattern) for pattern in each["patterns"]),
                tuple(each["deny_list"]),
                tuple(each["context"]),
            )
            for each in raw["recognizers"]
        )
        return cls(**raw)
