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
from functools import cache
from typing import Any

import phonenumbers
import regex  # type: ignore[import-untyped]
import tldextract
from presidio_analyzer import PatternRecognizer
from presidio_analyzer import predefined_recognizers as presidio

from gatehouse.core.errors import SetupError
from gatehouse.guards.deadline import Deadline, matches
from gatehouse.guards.encoded import has_word
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii import cards, phones
from gatehouse.guards.pii.config import KNOWN_ENTITIES, REGIONS_BY_LANGUAGE, CustomRecognizer
from gatehouse.guards.unicode_fold import fold


@dataclass(frozen=True, slots=True)
class Detector:
    """Find one entity; words of `context` raise the score when one stands shortly before."""

    entity: str
    find: Callable[[str, Deadline], Iterator[Finding]]
    context: tuple[str, ...] = ()


# -- e-mail ---------------------------------------------------------------------------------------------------------
# From each @ outwards: a domain to its right (labels of RFC 1035, letters of any script), the local part to its left.
# Of the characters that RFC 5322 allows there, those that usually belong to the text around (/ ? = & # { | } `) end it.
# %40 is the @ of a form or a query.
_DOMAIN = regex.compile(r"(?:@|%40)((?:[\w-]{1,63}+\.){1,10}(?:xn--[a-z0-9-]{1,59}+|[^\W\d_]{2,63}+))", regex.I)
_LOCAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.!$%'*+^_~-")
# RFC 5321 allows 64. A longer local part makes no address, but it is masked with the address that it hides.
_MAX_LOCAL = 256


@cache
def _suffixes() -> tldextract.TLDExtract:
    """Load the public suffix list from the package, without network and cache folder."""
    return tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, fallback_to_snapshot=True)


def _emails(text: str, deadline: Deadline) -> Iterator[Finding]:
    if "@" not in text and "%40" not in text:
        return
    for match in matches(_DOMAIN, text, deadline):
        start = _local_start(text, match.start())
        if start < match.start():
            # A suffix that is not public (corp.internal) still names a mailbox, with less certainty.
            known = bool(_suffixes()(match[1]).suffix)
            yield Finding("EMAIL_ADDRESS", start, match.end(), 1.0 if known else 0.5)


def _local_start(text: str, at: int) -> int:
    if at and text[at - 1] == '"':
        quote = text.rfind('"', max(0, at - 1 - _MAX_LOCAL), at - 1)
        return at if quote < 0 else quote
    start = at
    while start > max(0, at - _MAX_LOCAL) and _is_local(text[start - 1]):
        start -= 1
    while start < at and text[start] in "'.":  # quotes and dots of the sentence, not of the address
        start += 1
    return start


def _is_local(char: str) -> bool:
    return char in _LOCAL or (char > "\x7f" and char.isalnum())


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
                yield Finding("IBAN_CODE", match.start(), match.start() + end, 1.0)
                break


# -- IP address -----------------------------------------------------------------------------------------------------
# Presidio's patterns also match the scope operator of several languages (::, a::b) and the first four parts of five.
_MORE = regex.compile(r"\.\d")
_INSIDE_V4 = re.compile(r"\.[0-9]{1,3}\.[0-9]")
# Eight groups have seven colons; a shortened address has two together.
_MIN_COLONS = 7


@cache
def _presidios_ips(version: str) -> Detector:
    return _by_presidio("IP_ADDRESS", presidio.IpRecognizer(), named=version)


def _has_groups(text: str) -> bool:
    return "::" in text or text.count(":") >= _MIN_COLONS


def _every_ip(text: str, deadline: Deadline) -> Iterator[Finding]:
    for version, needed in (("IPv4", _INSIDE_V4.search), ("IPv6", _has_groups)):
        if needed(text):
            yield from _presidios_ips(version).find(text, deadline)


def _ips(text: str, deadline: Deadline) -> Iterator[Finding]:
    for found in _every_ip(text, deadline):
        value = text[found.start : found.end]
        if ":" in value:
            right = any(map(str.isdecimal, value)) and sum(map(bool, value.partition("/")[0].split(":"))) > 1
        else:
            before = text[max(0, found.start - 2) : found.start]
            right = not _MORE.match(text, found.end) and not (before[-1:] == "." and before[:1].isdecimal())
        if right:
            yield found


# -- Presidio's own -------------------------------------------------------------------------------------------------
# Characters that a text must hold for the patterns of an entity; a text without them has none of it.
_INSIDE_MAC = tuple(map(re.compile, (":[0-9A-Fa-f]{2}:", "-[0-9A-Fa-f]{2}-", r"\.[0-9A-Fa-f]{4}")))
_NEEDED: Mapping[str, Callable[[str], object]] = {
    "CRYPTO": lambda text: has_word(text, 26),
    "MAC_ADDRESS": lambda text: any(each.search(text) for each in _INSIDE_MAC),
    "US_ITIN": regex.compile(r"9\d\d").search,
    "US_SSN": re.compile("[0-9]{3}").search,
}
# The patterns of these were all measured on hostile text.
_PRESIDIO: dict[str, Callable[[], PatternRecognizer]] = {
    "ABA_ROUTING_NUMBER": presidio.AbaRoutingRecognizer,
    "AU_ABN": presidio.AuAbnRecognizer,
    "AU_ACN": presidio.AuAcnRecognizer,
    "AU_MEDICARE": presidio.AuMedicareRecognizer,
    "AU_TFN": presidio.AuTfnRecognizer,
    "CRYPTO": presidio.CryptoRecognizer,
    "DATE_TIME": presidio.DateRecognizer,
    "ES_NIE": presidio.EsNieRecognizer,
    "ES_NIF": presidio.EsNifRecognizer,
    "IN_AADHAAR": presidio.InAadhaarRecognizer,
    "IT_FISCAL_CODE": presidio.ItFiscalCodeRecognizer,
    "MAC_ADDRESS": presidio.MacAddressRecognizer,
    "PL_PESEL": presidio.PlPeselRecognizer,
    "SG_NRIC_FIN": presidio.SgFinRecognizer,
    "UK_NHS": presidio.NhsRecognizer,
    "UK_NINO": presidio.UkNinoRecognizer,
    "US_BANK_NUMBER": presidio.UsBankRecognizer,
    "US_DRIVER_LICENSE": presidio.UsLicenseRecognizer,
    "US_ITIN": presidio.UsItinRecognizer,
    "US_PASSPORT": presidio.UsPassportRecognizer,
    "US_SSN": presidio.UsSsnRecognizer,
}
_OWN: Mapping[str, Detector] = {
    each.entity: each
    for each in (
        Detector("CREDIT_CARD", cards.cards, cards.CONTEXT),
        Detector("EMAIL_ADDRESS", _emails),
        Detector("IBAN_CODE", _ibans),
        Detector("IP_ADDRESS", _ips, tuple(presidio.IpRecognizer.CONTEXT)),
        Detector("URL", _urls),
    )
}


def _by_presidio(entity: str, recognizer: PatternRecognizer, *, named: str = "") -> Detector:
    """Return a recognizer's detector, made from its patterns that have `named` in their name."""
    patterns: list[Any] = recognizer.patterns  # type: ignore[has-type]
    flags = recognizer.global_regex_flags
    compiled = [(regex.compile(each.regex, flags), each.score) for each in patterns if named in each.name]
    needed = _NEEDED.get(entity)

    def find(text: str, deadline: Deadline) -> Iterator[Finding]:
        if needed is not None and not needed(text):
            return
        for pattern, score in compiled:
            for match in matches(pattern, text, deadline):
                value = match[0]
                valid = recognizer.validate_result(value) if value else False
                if valid is not False and not recognizer.invalidate_result(value):
                    yield Finding(entity, match.start(), match.end(), 1.0 if valid else score)

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
        return Detector(entity, phones.phones(regions), phones.CONTEXT)
    if entity in _OWN:
        return _OWN[entity]
    raise SetupError(f"pii.entities: {entity} is not known. Choose from {', '.join(sorted(KNOWN_ENTITIES))}.")


def custom(recognizer: CustomRecognizer) -> Detector:
    """Return the detector of a configured recognizer.

    Raises:
        SetupError: a pattern is out of bounds.
    """
    compiled = [(pattern.compiled(), pattern.score) for pattern in recognizer.patterns]
    if recognizer.deny_list:
        words = {each for word in recognizer.deny_list for each in (word.strip(), fold(word.strip()).text) if each}
        longest_first = "|".join(regex.escape(word) for word in sorted(words, key=lambda word: (-len(word), word)))
        compiled.append((regex.compile(rf"(?<!\w)(?:{longest_first})(?!\w)", regex.I), 1.0))

    def find(text: str, deadline: Deadline) -> Iterator[Finding]:
        for pattern, score in compiled:
            for match in matches(pattern, text, deadline):
                if match.end() > match.start():
                    yield Finding(recognizer.entity, match.start(), match.end(), score)

    return Detector(recognizer.entity, find, recognizer.context)


def warm() -> None:
    """Load the tables for which the first call would wait."""
    _suffixes()("example.com")
    phonenumbers.parse("+12015550123")
