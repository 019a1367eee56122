"""Detectors whose time is linear in the length of the text.

Most texts hold no personal data, so a detector first looks for characters that its patterns need.

Presidio's recognizers bring patterns, check digits and context words. They run here and not in Presidio's
AnalyzerEngine, which skips a pattern that runs out of time with a log line; here that ends the scan. Gatehouse replaces
the recognizers for e-mail, URL and IBAN, which take seconds to minutes on hostile text, and those for cards and
telephones, which miss too many and report other numbers (docs/pii.md has the figures).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import phonenumbers
import regex  # type: ignore[import-untyped]
from presidio_analyzer import PatternRecognizer
from presidio_analyzer import predefined_recognizers as presidio

from gatehouse.core.errors import SetupError
from gatehouse.guards.deadline import Deadline, matches
from gatehouse.guards.encoded import has_word
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii import cards, emails, labelled, national, network, persons, phones, postal, social_security
from gatehouse.guards.pii.boundaries import DEFAULT_FLAGS, compiled
from gatehouse.guards.pii.config import KNOWN_ENTITIES, REGIONS_BY_LANGUAGE, CustomRecognizer
from gatehouse.guards.unicode_fold import fold


@dataclass(frozen=True, slots=True)
class Detector:
    """Find one entity; words of `context` raise the score when one stands shortly before."""

    entity: str
    find: Callable[[str, Deadline], Iterator[Finding]]
    context: tuple[str, ...] = ()


# -- URL ------------------------------------------------------------------------------------------------------------
_URL = regex.compile(r"\b(?:https?|ftp)://[^\s<>\"'`]{1,2048}+|\bwww\d{0,3}\.[^\s<>\"'`]{1,2048}+", regex.I)


def _urls(text: str, deadline: Deadline) -> Iterator[Finding]:
    for match in matches(_URL, text, deadline):
        yield Finding("URL", match.start(), match.start() + len(match[0].rstrip(".,;:!?)]}")), 0.6)


# -- IBAN -----------------------------------------------------------------------------------------------------------
_DIGITS = re.compile(r"[0-9]{2,}")
_IBAN = regex.compile(r"(?<![A-Z0-9])[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]){11,30}+", regex.I)


def _has_letters_and_digits(text: str) -> bool:
    return any(text[max(0, each.start() - 2) : each.start()].isalpha() for each in _DIGITS.finditer(text))


def _ibans(text: str, deadline: Deadline) -> Iterator[Finding]:
    if not _has_letters_and_digits(text):
        return
    check = presidio.IbanRecognizer().validate_result
    for match in matches(_IBAN, text, deadline):
        # Following words look like more of the number. The number is the longest beginning with the right length for
        # its country and the right check digits.
        value = match[0].upper()
        for end in range(len(value), 14, -1):
            if value[end - 1] not in " -" and check(value[:end]):
                yield Finding("IBAN_CODE", match.start(), match.start() + end, 1.0, ("check digit",))
                break


# -- Presidio's own -------------------------------------------------------------------------------------------------
# IN_PAN has a pattern of our own, and US_HEALTH_INSURANCE_MEMBER_ID is not offered: Presidio's take seconds on hostile
# text.
# Characters that a text must hold for the patterns of an entity; a text without them has none of it.
_NEEDED: Mapping[str, Callable[[str], object]] = {
    "CRYPTO": lambda text: has_word(text, 26),
}
_PRESIDIO: dict[str, Callable[[], PatternRecognizer]] = {
    "ABA_ROUTING_NUMBER": presidio.AbaRoutingRecognizer,
    "AU_ABN": presidio.AuAbnRecognizer,
    "AU_ACN": presidio.AuAcnRecognizer,
    "AU_MEDICARE": presidio.AuMedicareRecognizer,
    "AU_TFN": presidio.AuTfnRecognizer,
    "CA_POSTAL_CODE": presidio.CaPostalCodeRecognizer,
    "CA_SIN": presidio.CaSinRecognizer,
    "CRYPTO": presidio.CryptoRecognizer,
    "DATE_TIME": presidio.DateRecognizer,
    "DE_BSNR": presidio.DeBsnrRecognizer,
    "DE_FUEHRERSCHEIN": presidio.DeFuehrerscheinRecognizer,
    "DE_HANDELSREGISTER": presidio.DeHandelsregisterRecognizer,
    "DE_HEALTH_INSURANCE": presidio.DeHealthInsuranceRecognizer,
    "DE_ID_CARD": presidio.DeIdCardRecognizer,
    "DE_KFZ": presidio.DeKfzRecognizer,
    "DE_LANR": presidio.DeLanrRecognizer,
    "DE_PASSPORT": presidio.DePassportRecognizer,
    "DE_PLZ": presidio.DePlzRecognizer,
    "DE_SOCIAL_SECURITY": presidio.DeSocialSecurityRecognizer,
    "DE_TAX_ID": presidio.DeTaxIdRecognizer,
    "DE_TAX_NUMBER": presidio.DeTaxNumberRecognizer,
    "DE_VAT_ID": presidio.DeVatIdRecognizer,
    "ES_NIE": presidio.EsNieRecognizer,
    "ES_NIF": presidio.EsNifRecognizer,
    "ES_PASSPORT": presidio.EsPassportRecognizer,
    "FI_PERSONAL_IDENTITY_CODE": presidio.FiPersonalIdentityCodeRecognizer,
    "IN_AADHAAR": presidio.InAadhaarRecognizer,
    "IN_GSTIN": presidio.InGstinRecognizer,
    "IN_PASSPORT": presidio.InPassportRecognizer,
    "IN_VEHICLE_REGISTRATION": presidio.InVehicleRegistrationRecognizer,
    "IN_VOTER": presidio.InVoterRecognizer,
    "IT_DRIVER_LICENSE": presidio.ItDriverLicenseRecognizer,
    "IT_FISCAL_CODE": presidio.ItFiscalCodeRecognizer,
    "IT_IDENTITY_CARD": presidio.ItIdentityCardRecognizer,
    "IT_PASSPORT": presidio.ItPassportRecognizer,
    "IT_VAT_CODE": presidio.ItVatCodeRecognizer,
    "KR_BRN": presidio.KrBrnRecognizer,
    "KR_DRIVER_LICENSE": presidio.KrDriverLicenseRecognizer,
    "KR_FRN": presidio.KrFrnRecognizer,
    "KR_PASSPORT": presidio.KrPassportRecognizer,
    "KR_RRN": presidio.KrRrnRecognizer,
    "MEDICAL_LICENSE": presidio.MedicalLicenseRecognizer,
    "NG_NIN": presidio.NgNinRecognizer,
    "NG_VEHICLE_REGISTRATION": presidio.NgVehicleRegistrationRecognizer,
    "PH_PASSPORT": presidio.PhPassportRecognizer,
    "PH_TIN": presidio.PhTinRecognizer,
    "PH_UMID": presidio.PhUmidRecognizer,
    "PL_PESEL": presidio.PlPeselRecognizer,
    "SE_ORGANISATIONSNUMMER": presidio.SeOrganisationsnummerRecognizer,
    "SE_PERSONNUMMER": presidio.SePersonnummerRecognizer,
    "SG_NRIC_FIN": presidio.SgFinRecognizer,
    "SG_UEN": presidio.SgUenRecognizer,
    "TH_TNIN": presidio.ThTninRecognizer,
    "TR_LICENSE_PLATE": presidio.TrLicensePlateRecognizer,
    "TR_NATIONAL_ID": presidio.TrNationalIdRecognizer,
    "UK_DRIVING_LICENCE": presidio.UkDrivingLicenceRecognizer,
    "UK_NHS": presidio.NhsRecognizer,
    "UK_NINO": presidio.UkNinoRecognizer,
    "UK_PASSPORT": presidio.UkPassportRecognizer,
    "UK_POSTCODE": presidio.UkPostcodeRecognizer,
    "UK_VEHICLE_REGISTRATION": presidio.UkVehicleRegistrationRecognizer,
    "US_BANK_NUMBER": presidio.UsBankRecognizer,
    "US_CLAIM_NUMBER": presidio.UsClaimNumberRecognizer,
    "US_DRIVER_LICENSE": presidio.UsLicenseRecognizer,
    "US_MBI": presidio.UsMbiRecognizer,
    "US_NPI": presidio.UsNpiRecognizer,
    "US_PASSPORT": presidio.UsPassportRecognizer,
    "US_PRESCRIPTION_NUMBER": presidio.UsPrescriptionNumberRecognizer,
    "US_PRIOR_AUTHORIZATION_NUMBER": presidio.UsPriorAuthorizationNumberRecognizer,
    "US_PROVIDER_TAX_ID": presidio.UsProviderTaxIdRecognizer,
    "US_REFERRAL_NUMBER": presidio.UsReferralNumberRecognizer,
    "ZA_COMPANY_REGISTRATION": presidio.ZaCompanyRegistrationRecognizer,
    "ZA_DRIVER_LICENSE": presidio.ZaDriverLicenseRecognizer,
    "ZA_ID_NUMBER": presidio.ZaIdNumberRecognizer,
    "ZA_INCOME_TAX_NUMBER": presidio.ZaIncomeTaxNumberRecognizer,
    "ZA_LICENSE_PLATE": presidio.ZaLicensePlateRecognizer,
    "ZA_PASSPORT": presidio.ZaPassportRecognizer,
    "ZA_TRAFFIC_REGISTER_NUMBER": presidio.ZaTrafficRegisterNumberRecognizer,
    "ZA_VAT_NUMBER": presidio.ZaVatNumberRecognizer,
}
_OWN: Mapping[str, Detector] = {
    each.entity: each
    for each in (
        Detector("ACCOUNT_NUMBER", labelled.numbers("ACCOUNT_NUMBER", "account")),
        Detector("ADDRESS", postal.addresses),
        Detector("CREDIT_CARD", cards.cards),
        Detector("DATE_OF_BIRTH", labelled.births),
        Detector("EMAIL_ADDRESS", emails.emails),
        Detector("IBAN_CODE", _ibans),
        Detector("IP_ADDRESS", network.ips),
        Detector("LICENSE_NUMBER", labelled.numbers("LICENSE_NUMBER", "license")),
        Detector("MAC_ADDRESS", network.macs),
        Detector("PASSPORT_NUMBER", labelled.numbers("PASSPORT_NUMBER", "passport")),
        Detector("PERSON", persons.persons),
        Detector("POLICY_NUMBER", labelled.numbers("POLICY_NUMBER", "policy")),
        *(Detector(entity, find, national.CONTEXT[entity]) for entity, find in national.DETECTORS.items()),
        Detector("URL", _urls),
        Detector("US_ITIN", social_security.itins),
        Detector("US_SSN", social_security.ssns),
    )
}


def _by_presidio(entity: str, recognizer: PatternRecognizer) -> Detector:
    """Return a recognizer's detector, made from its patterns."""
    flags = recognizer.global_regex_flags
    listed: list[Any] = recognizer.patterns  # type: ignore[has-type]
    patterns = [(compiled(each.regex, flags or DEFAULT_FLAGS), each.score) for each in listed]
    needed = _NEEDED.get(entity)

    def find(text: str, deadline: Deadline) -> Iterator[Finding]:
        if needed is not None and not needed(text):
            return
        for pattern, score in patterns:
            for match in matches(pattern, text, deadline):
                value = match[0]
                valid = recognizer.validate_result(value) if value else False
                if valid is not False and not recognizer.invalidate_result(value):
                    yield Finding(
                        entity,
                        match.start(),
                        match.end(),
                        1.0 if valid else score,
                        ("check digit",) if valid else ("form",),
                    )

    return Detector(entity, find, tuple(recognizer.context or ()))


def built_in(entity: str, languages: tuple[str, ...]) -> Detector | None:
    """Return the detector of an entity; None where it is for none of the languages.

    Raises:
        SetupError: the entity does not exist.
    """
    if (language := KNOWN_ENTITIES.get(entity)) and language not in languages:
        return None
    if entity in _PRESIDIO:
        return _by_presidio(entity, _PRESIDIO[entity]())
    if entity == "PHONE_NUMBER":
        regions = tuple(dict.fromkeys(each for code in languages for each in REGIONS_BY_LANGUAGE.get(code, ())))
        return Detector(entity, phones.phones(regions))
    if entity in _OWN:
        return _OWN[entity]
    raise SetupError(f"pii.entities: {entity} is not known. Choose from {', '.join(sorted(KNOWN_ENTITIES))}.")


def custom(recognizer: CustomRecognizer) -> Detector:
    """Return the detector of a configured recognizer.

    Raises:
        SetupError: a pattern is out of bounds.
    """
    patterns = [(pattern.compiled(), pattern.score) for pattern in recognizer.patterns]
    if recognizer.deny_list:
        words = {each for word in recognizer.deny_list for each in (word.strip(), fold(word.strip()).text) if each}
        longest_first = "|".join(regex.escape(word) for word in sorted(words, key=lambda word: (-len(word), word)))
        patterns.append((regex.compile(rf"(?<!\w)(?:{longest_first})(?!\w)", regex.I), 1.0))

    def find(text: str, deadline: Deadline) -> Iterator[Finding]:
        for pattern, score in patterns:
            for match in matches(pattern, text, deadline):
                if match.end() > match.start():
                    yield Finding(recognizer.entity, match.start(), match.end(), score)

    return Detector(recognizer.entity, find, recognizer.context)


def warm() -> None:
    """Load the tables for which the first call would wait."""
    emails.suffixes()("example.com")
    phonenumbers.parse("+12015550123")
