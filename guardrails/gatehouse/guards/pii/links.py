"""Keeps values out of links to hosts that the request did not name, because that is how an answer carries data out.

A tool's result may tell the model to show a picture from a stranger's server, with the user's address in its address.
Whoever renders that answer sends the address there. Only hosts in system and user texts count as named.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from typing import Final

# Few servers read more of an address.
MAX_LINK: Final = 16_384

# Where a link begins, as browsers read it: with any number of slashes, of either kind. An address without a scheme is
# one only behind a mark that stands before addresses in HTML and Markdown.
_BEGIN: Final = re.compile(r"""(["'`<]?)(?:(?:https?|wss?|ftp):[\\/]*|(?<=["'(=<])[\\/]{2,})""", re.IGNORECASE)
_AFTER_HOST: Final = re.compile(r"[\\/?#]")
_BLANK: Final = re.compile(r"""[\s"'`]""")
# In quotes an address may hold blanks; in angle brackets it ends with its line.
_ENDS: Final = {'"': re.compile('"'), "'": re.compile("'"), "`": re.compile("`"), "<": re.compile(r"[\r\n]")}
_REST_OF_HOST: Final = re.compile(r"""[^\s\\/?#"'`<>)]*""")
_MAX_HOST: Final = 253
_PORT: Final = re.compile(r":\d*\Z")
_LOOPBACK: Final = re.compile(r"localhost|.+\.localhost|127(?:\.\d{1,3}){3}|\[::1\]")
_NAMED: Final = re.compile(r"//(?:[^\s/@]{0,256}@)?([\w.-]{1,253})|(?<![\w.@-])((?:[\w-]{1,63}\.)+[\w-]{2,63})")


class Links:
    """Decide whether a value may be put back into a link.

    Args:
        texts: what system and user said; every host in it is named.
    """

    __slots__ = ("_named", "_texts")

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._texts = tuple(texts)
        self._named: frozenset[str] | None = None  # most answers hold no link

    def may_hold(self, text: str, start: int, end: int, value: str) -> bool:
        """Tell whether `value` may stand in the place of `text[start:end]`."""
        before = _link_before(text, start)
        if before is None:
            return True
        if not _AFTER_HOST.search(before):  # it is a part of the host, or of what stands before it
            before += value + _REST_OF_HOST.match(text, end)[0]  # type: ignore[index]  # it matches the empty text
        return self._allows(_host(before))

    def waits(self, text: str, start: int, end: int) -> bool:
        """Tell whether `text[start:end]` is in a host that may go on behind the end of the text."""
        if len(text) - end > _MAX_HOST or _REST_OF_HOST.match(text, end).end() < len(text):  # type: ignore[union-attr]
            return False
        before = _link_before(text, start)
        return before is not None and not _AFTER_HOST.search(before)

    def _allows(self, host: str) -> bool:
        if self._named is None:
            self._named = frozenset(each for text in self._texts for each in _hosts(text))
        return host in self._named or _LOOPBACK.fullmatch(host) is not None


def _link_before(text: str, at: int) -> str | None:
    """Return the link that holds a place, from its host up to there; None where none does."""
    window = text[max(0, at - MAX_LINK) : at]
    window = html.unescape(window) if "&" in window else window
    for match in _BEGIN.finditer(window):
        ends = _ENDS.get(match[1], _BLANK)
        if not ends.search(window, match.end()):
            return window[match.end() :]
    # Of a longer one nobody sees where it leads.
    return "/" if at > MAX_LINK and not _BLANK.search(window) else None


def _host(authority: str) -> str:
    """Return the host of a link that is given from its host on, or from a name and a password before that."""
    host = _AFTER_HOST.split(authority, maxsplit=1)[0].rpartition("@")[2]
    return _PORT.sub("", host).rstrip(".").lower()


def _hosts(text: str) -> Iterator[str]:
    for match in _NAMED.finditer(text):
        yield (match[1] or match[2]).rstrip(".").lower()
