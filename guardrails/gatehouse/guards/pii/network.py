"""Finds addresses of machines: IP addresses that stand for one machine of somebody's, and MAC addresses.

Loopback, link-local, unspecified, multicast and documentation addresses, netmasks, networks and versions are none.
Presidio's patterns find the candidates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface
from typing import Any

import regex  # type: ignore[import-untyped]
from presidio_analyzer.predefined_recognizers import IpRecognizer, MacAddressRecognizer

from gatehouse.guards.deadline import Deadline, matches
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.boundaries import compiled

_SCORE = 0.6
_INSIDE_V4 = re.compile(r"\.[0-9]{1,3}\.[0-9]")
# Eight groups have seven colons; a shortened address has two together.
_MIN_COLONS = 7
# Presidio's patterns also match the first four parts of five.
_MORE = regex.compile(r"\.[0-9]")
# What is written before a version and not before an address: `v1.2.3.4`, `Chrome/120.0.6099.109`, `==1.2.3.4`.
_VERSION = regex.compile(
    r"(?i)(?:(?<![a-z])v|[a-z][\w-]{2,30}[/@]|[=~^<>!]=|[~^]|"
    r"(?<![a-z])(?:versions?|ver|releases?|build|rev|revision|update|upgrade[ds]?|framework|sdk|oid|firmware|driver)"
    r"[\"']?[ :=]{1,3}[\"']?(?:is |to |from |v)?)\Z"
)
_BEFORE_VERSION = 48
_DOCUMENTATION = tuple(map(IPv4Network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")))
_DOCUMENTATION_6 = tuple(map(IPv6Network, ("2001:db8::/32", "3fff::/20")))


@cache
def _patterns(version: str) -> tuple[Any, ...]:
    patterns: list[Any] = IpRecognizer().patterns  # type: ignore[has-type]
    return tuple(compiled(each.regex) for each in patterns if version in each.name)


def _has_groups(text: str) -> bool:
    return "::" in text or text.count(":") >= _MIN_COLONS


def ips(text: str, deadline: Deadline) -> Iterator[Finding]:
    """Yield the addresses of single machines."""
    for version, needed, check in (("IPv4", _INSIDE_V4.search, _is_v4), ("IPv6", _has_groups, _is_v6)):
        if needed(text):
            for pattern in _patterns(version):
                for match in matches(pattern, text, deadline):
                    if check(text, *match.span()):
                        yield Finding("IP_ADDRESS", match.start(), match.end(), _SCORE, ("form",))


def _is_v4(text: str, start: int, end: int) -> bool:
    before = text[max(0, start - 2) : start]
    if _MORE.match(text, end) or (before[-1:] == "." and before[:1].isdecimal()):
        return False
    if ":" in text[start:end]:  # the end of an IPv6 address
        return _is_v6(text, start, end)
    if _VERSION.search(text[max(0, start - _BEFORE_VERSION) : start]):
        return False
    return _is_machine(text[start:end])


def _is_v6(text: str, start: int, end: int) -> bool:
    value = text[start:end]
    groups = [each for each in value.partition("/")[0].partition("%")[0].split(":") if each]
    # A slice, a range or a scope operator of a language has few and short groups: `1::2`, `a::b`, `std::dead::beef`.
    if len(groups) < 2 or not any(map(str.isdecimal, value)) or not any(len(each) > 2 for each in groups):
        return False
    return _is_machine(value)


def _is_machine(value: str) -> bool:
    try:
        interface = ip_interface(".".join(str(int(each)) for each in value.split(".")) if _is_padded(value) else value)
    except ValueError:
        return ":" not in value and "/" not in value
    address = interface.ip
    bits = interface.network.max_prefixlen - interface.network.prefixlen
    if bits and address == interface.network.network_address:
        return False  # a network
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback or address.is_unspecified or address.is_link_local or address.is_multicast:
        return False
    if isinstance(address, IPv4Address):
        return not (_is_mask(int(address)) or any(address in each for each in _DOCUMENTATION) or int(address) < 1 << 24)
    return not any(address in each for each in _DOCUMENTATION_6)


def _is_padded(value: str) -> bool:
    return ":" not in value and "/" not in value and any(len(each) > 1 and each[0] == "0" for each in value.split("."))


def _is_mask(number: int) -> bool:
    """Tell whether all ones stand before all zeros, as in 255.255.240.0, or the other way round, as in 0.0.15.255."""
    inverted = number ^ 0xFFFFFFFF
    return not (inverted & (inverted + 1) and number & (number + 1))


# -- MAC addresses --------------------------------------------------------------------------------------------------
_INSIDE_MAC = tuple(map(re.compile, (":[0-9A-Fa-f]{2}:", "-[0-9A-Fa-f]{2}-", r"\.[0-9A-Fa-f]{4}")))
_HEX = frozenset("0123456789abcdefABCDEF")
_NO_MACHINE = frozenset(("000000000000", "ffffffffffff"))


@cache
def _mac_patterns() -> tuple[Any, ...]:
    patterns: list[Any] = MacAddressRecognizer().patterns  # type: ignore[has-type]
    return tuple(compiled(each.regex) for each in patterns)


def macs(text: str, deadline: Deadline) -> Iterator[Finding]:
    """Yield the addresses of network cards."""
    if any(each.search(text) for each in _INSIDE_MAC):
        for pattern in _mac_patterns():
            for match in matches(pattern, text, deadline):
                digits = "".join(filter(str.isalnum, match[0])).lower()
                if digits not in _NO_MACHINE and not _goes_on(text, *match.span()):
                    yield Finding("MAC_ADDRESS", match.start(), match.end(), _SCORE, ("form",))


def _goes_on(text: str, start: int, end: int) -> bool:
    """Tell whether more groups follow or precede: then it is a part of a fingerprint."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    return (before[-1:] in (":", "-", ".") and before[0] in _HEX) or (
        after[:1] in (":", "-", ".") and len(after) > 1 and after[1] in _HEX
    )
