"""Finds e-mail addresses, and leaves alone what only has an @: code, packages, units, images, remotes of git."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import regex  # type: ignore[import-untyped]
import tldextract

from gatehouse.guards.deadline import Deadline, matches
from gatehouse.guards.findings import Finding

# From each @ outwards: a domain to its right (labels of RFC 1035), the local part to its left. A domain of ASCII
# letters ends with them: a particle or sentence behind it, in scripts without spaces, is no part of it. %40 is the @ of
# a form or a query.
_DOMAIN = regex.compile(
    r"(?:@|%40)((?:[a-z0-9_-]{1,63}+\.){1,10}(?:xn--[a-z0-9-]{1,59}+|[a-z]{2,63}+)(?![0-9_])"
    r"|(?:[\w-]{1,63}+\.){1,10}(?:xn--[a-z0-9-]{1,59}+|[^\W\d_]{2,63}+))",
    regex.I,
)
# Of the characters that RFC 5322 allows there, those that usually belong to the text around (/ ? = & # { | } `) end it.
_LOCAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.!$%'*+^_~-")
# RFC 5321 allows 64. A longer local part makes no address, but it is masked with the address that it hides.
_MAX_LOCAL = 256
_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
_QUOTED_FROM = frozenset(" \t\n<([,;:=")
# `git@host:team/repo` names a repository, for every user the same.
_NO_PERSON = frozenset(("git", "hg", "svn"))
# Names of networks that are in no public list of suffixes.
_PRIVATE = frozenset("internal local lan corp home intranet localdomain localhost private example test invalid".split())
# Ends of names of files and of units, which are no network's; and what a label of Kotlin's jumps to.
_NO_DOMAIN = frozenset(
    """
    png jpg jpeg gif webp svg avif ico bmp tif tiff pdf css scss js mjs cjs jsx ts tsx vue json yaml yml toml lock xml
    html htm txt log csv tgz gz bz2 xz tar whl jar war deb rpm exe dll service socket target mount timer slice scope
    path device swap automount conf cfg ini bak tmp orig rej patch diff
    """.split()
)
# Names of countries and others that are methods too.
_METHODS = frozenset("to is in it at id map name data dot run cat show new call date get set add zip sort".split())
_VERSION = regex.compile(r"v?[0-9]+\.[0-9]")
_ADDRESS_OF_SERVER = regex.compile(r"([a-z][a-z0-9+.-]{1,20})://([^\s/?#]{0,200})\Z", regex.I)


@cache
def suffixes() -> tldextract.TLDExtract:
    """Load the public suffix list from the package, without network and cache folder."""
    return tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, fallback_to_snapshot=True)


def emails(text: str, deadline: Deadline) -> Iterator[Finding]:
    """Yield the e-mail addresses in the text."""
    if "@" not in text and "%40" not in text:
        return
    for match in matches(_DOMAIN, text, deadline):
        start, end = _local_start(text, match.start()), match.end()
        if (score := _score(text, start, match.start(), end, match[1])) is not None:
            yield Finding("EMAIL_ADDRESS", start, end, score, ("form", "public suffix") if score == 1.0 else ("form",))


def _score(text: str, start: int, at: int, end: int, domain: str) -> float | None:
    local = text[start:at]
    if not any(map(str.isalnum, local)) or local.lower() in _NO_PERSON or _VERSION.match(domain):
        return None
    if _is_login(text, start):
        return None
    if suffixes()(domain).suffix:
        return None if _is_product(text, end, local, domain) else 1.0
    last = domain.rpartition(".")[2].lower()
    if last in _NO_DOMAIN or text[end : end + 1] in ("(", "["):
        return None
    if last in _PRIVATE:
        return 0.5
    # A name that no list has is a network's only in a sentence, where a person is not `self`.
    return 0.5 if last.islower() and not _is_code(text, start, end, local) else None


def _is_product(text: str, end: int, local: str, domain: str) -> bool:
    """Tell whether it is a product of matrices with an attribute, such as `x@w.to(device)`."""
    name, _, last = domain.rpartition(".")
    return (last.lower() in _METHODS and text[end : end + 1] in ("(", "[")) or len(local) == len(name) == 1


def _is_code(text: str, start: int, end: int, local: str) -> bool:
    """Tell whether something beside the address is a sign of a program and not of a sentence."""
    around = text[max(0, start - 2) : start] + text[end : end + 2]
    return any(sign in around for sign in "=+*/(){}[]\\|&") or local in ("self", "this", "super", "return", "cls")


def _is_login(text: str, start: int) -> bool:
    """Tell whether it is the user, or the end of a password, and the machine in the address of a server."""
    match = _ADDRESS_OF_SERVER.search(text, max(0, start - 224), start)
    return match is not None and (":" in match[2] or match[1].lower() not in ("http", "https", "ftp", "imap", "sip"))


def _local_start(text: str, at: int) -> int:
    if at and text[at - 1] == '"':
        return _quoted_start(text, at)
    # A Latin local part ends where a script without spaces begins: those letters are the sentence's.
    stops = at > 0 and not _UNSPACED.match(text[at - 1])
    start = at
    while start > max(0, at - _MAX_LOCAL) and _is_local(text[start - 1]):
        if stops and text[start - 1] > "\u0e00" and _UNSPACED.match(text[start - 1]):
            break
        start -= 1
    while start < at and text[start] in "'.+*-!":  # quotes, marks of lists and dots of the sentence, not of the address
        start += 1
    return start


def _quoted_start(text: str, at: int) -> int:
    """Return where a quoted local part begins, at a boundary and on one line; its end where there is none."""
    low = max(0, at - 1 - _MAX_LOCAL)
    quote = text.rfind('"', low, at - 1)
    inside = text[quote + 1 : at - 1]
    if quote < 0 or "\n" in inside or not inside[:1].isalnum() or not inside[-1:].isalnum():
        return at
    return quote if not quote or text[quote - 1] in _QUOTED_FROM else at


def _is_local(char: str) -> bool:
    return char in _LOCAL or (char > "\x7f" and char.isalnum())
