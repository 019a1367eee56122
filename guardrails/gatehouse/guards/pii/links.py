"""Keeps values out of links to hosts that the request did not name, because that is how an answer carries data out.

A tool's result may tell the model to show a picture from a stranger's server, with the user's address in its address.
Whoever renders that answer sends the address there. Only hosts in system and user texts count as named.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

# Where a link begins, as browsers read it: with any number of slashes, of either kind. An address without a scheme is
# one only behind a mark that stands before addresses in HTML and Markdown.
_BEGIN: Final = re.compile(r"""(["'`<]?)(?:(?:https?|wss?|ftp):[\\/]*|(?<=["'(=<])[\\/]{2,})""", re.IGNORECASE)
_AFTER_HOST: Final = re.compile(r"[\\/?#]")
_BLANK: Final = re.compile(r"""[\s"'`]""")
# In quotes an address may hold blanks; in angle brackets it ends with its line.
_ENDS: Final = {'"': re.compile('"'), "'": re.compile("'"), "`": re.compile("`"), "<": re.compile(r"[\r\n]")}
_REST_OF_HOST: Final = re.compile(r"""[^\s\\/?#"'`<>)]*""")
_MAX_HOST: Final = 253
# What stands before a host may be longer, but nobody needs a value in such a link.
_MAX_AUTHORITY: Final = 1_024
# Where a link begins may be cut. HTML's escapes for each of its characters are longer.
_TAIL: Final = 16
_ESCAPED_TAIL: Final = 256
_PORT: Final = re.compile(r":\d*\Z")
_LOOPBACK: Final = re.compile(r"localhost|.+\.localhost|127(?:\.\d{1,3}){3}|\[::1\]")
_NAMED: Final = re.compile(r"//(?:[^\s/@]{0,256}@)?([\w.-]{1,253})|(?<![\w.@-])((?:[\w-]{1,63}\.)+[\w-]{2,63})")


Place: TypeAlias = tuple[int, int, str]
"""Where a placeholder begins and ends, and its value."""


class Links:
    """Tell which hosts a link may lead to where it holds a value.

    Args:
        texts: what system and user said; every host in it is named.
        earlier: hosts that earlier turns named.
    """

    __slots__ = ("_earlier", "_named", "_texts")

    def __init__(self, texts: Iterable[str] = (), earlier: Iterable[str] = ()) -> None:
        self._texts = tuple(texts)
        self._earlier = earlier
        self._named: frozenset[str] | None = None  # most answers hold no link

    @property
    def hosts(self) -> frozenset[str]:
        """Return the hosts that are named."""
        if self._named is None:
            self._named = frozenset((*self._earlier, *(each for text in self._texts for each in _hosts(text))))
        return self._named

    def name(self, host: str) -> bool:
        """Tell whether a host is named, or is this machine."""
        return host in self.hosts or _LOOPBACK.fullmatch(host) is not None


class LinkReader:
    """Read one running text, and tell which values may stand in it. Each character is read once."""

    __slots__ = ("_authority", "_ends", "_host", "_links", "_tail")

    def __init__(self, links: Links) -> None:
        self._links = links
        self._ends: re.Pattern[str] | None = None  # what ends the link that is open
        self._authority = ""  # what is known of its host, and of what stands before that
        self._host: str | None = None  # the host, once it is over
        self._tail = ""

    def read(self, text: str, found: Iterable[Place], end: int, *, more: bool = False) -> tuple[list[Place], int]:
        """Read a text up to `end`.

        Args:
            found: the placeholders in it, each with start, end and value.
            more: the text goes on, so that a host at its end may be longer.

        Returns:
            those of them whose value may stand there, and up to where the text was read: a host may not be over.
        """
        allowed, done = list[Place](), 0
        for place in found:
            start, stop, value = place
            if stop > end:
                break
            self._read(text[done:start])
            host = self._host
            if self._ends is not None and host is None:
                over = _REST_OF_HOST.match(text, stop).end()  # type: ignore[union-attr]  # it matches the empty text
                if more and over == len(text) and over - stop <= _MAX_HOST:
                    return allowed, start
                host = _host(self._authority + value + text[stop:over])
            if host is None or self._links.name(host):
                allowed.append(place)
            self._read(text[start:stop])
            done = stop
        self._read(text[done:end])
        return allowed, end

    def _read(self, raw: str) -> None:
        raw, at = self._tail + raw, 0
        text = html.unescape(raw) if "&" in raw else raw
        if self._ends is not None:
            at = self._follow(self._ends, text, 0)
        while self._ends is None and (match := _BEGIN.search(text, at)):
            self._ends, self._authority, self._host = _ENDS.get(match[1], _BLANK), "", None
            at = self._follow(self._ends, text, match.end())
        # With HTML's escapes, `at` is a place further back, so that some of the last link is read again.
        last = raw[max(at, len(raw) - _ESCAPED_TAIL) :]
        self._tail = "" if self._ends is not None else last if "&" in last else last[-_TAIL:]

    def _follow(self, ends: re.Pattern[str], text: str, at: int) -> int:
        """Follow the link that is open; return where it ends, or the end of the text."""
        match = ends.search(text, at)
        end = match.start() if match else len(text)
        if self._host is None:
            # Where the text was cut behind `https:`, its slashes come now.
            self._authority = (self._authority + text[at:end]).lstrip("\\/")
            if _AFTER_HOST.search(self._authority):
                self._host = _host(self._authority)
            elif len(self._authority) > _MAX_AUTHORITY:
                self._host = ""
        if match:
            self._ends = self._host = None
        return end


def _host(authority: str) -> str:
    """Return the host of a link that is given from its host on, or from a name and a password before that."""
    host = _AFTER_HOST.split(authority, maxsplit=1)[0].rpartition("@")[2]
    return _PORT.sub("", host).rstrip(".").lower()


def _hosts(text: str) -> Iterator[str]:
    for match in _NAMED.finditer(text):
        yield (match[1] or match[2]).rstrip(".").lower()
