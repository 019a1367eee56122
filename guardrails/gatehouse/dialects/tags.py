"""Tags what a model has signed or encrypted, so that the gateway knows it again when a client sends it back.

A tag stands at the beginning of the signed or encrypted string, which clients keep as it is. It is a keyed hash over
that string and the text that it signs, so it fits nothing else. Providers never see one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

from gatehouse.core.keys import InstallationKeys, Purpose

# Behind this, LiteLLM puts Gemini's signature into the identifier of a tool call.
THOUGHT: Final = "__thought__"
# Letters and digits, and a whole number of base64's groups of four, so that what is base64 stays base64.
_MARK: Final = "GHt1"
_MAC_CHARS: Final = 32  # 128 bits
_TAG: Final = re.compile(rf"{_MARK}[0-9a-f]{{8}}[0-9a-f]{{{_MAC_CHARS}}}", re.ASCII)


class Digest:
    """Hash a text that may come in pieces, wherever they are cut."""

    __slots__ = ("_hash",)

    def __init__(self, text: str = "") -> None:
        self._hash = hashlib.sha256()
        self.add(text)

    def add(self, piece: str) -> None:
        """Add the next piece."""
        # In UTF-16 a character that is cut in two has the same bytes as the whole one.
        self._hash.update(piece.encode("utf-16-le", "surrogatepass"))

    @property
    def value(self) -> bytes:
        """Return the hash of all pieces so far."""
        return self._hash.digest()


_NO_TEXT: Final = Digest().value


class Tags:
    """Write and check the tags of one installation."""

    def __init__(self, keys: InstallationKeys) -> None:
        self._key = keys.key(Purpose.TAGS)
        self._keys = {key.epoch: key for key in keys.keys(Purpose.TAGS)}

    def tagged(self, value: str, signed: bytes = _NO_TEXT) -> str:
        """Return a signed or encrypted string with its tag.

        Args:
            signed: the digest of the text that the string signs.
        """
        at = _place(value)
        mac = self._key.mac(signed, value).hex()[:_MAC_CHARS]
        return f"{value[:at]}{_MARK}{self._key.epoch}{mac}{value[at:]}"

    def fits(self, tag: str, value: str, signed: bytes = _NO_TEXT) -> bool:
        """Tell whether this installation made a tag, under a secret that it still has, for exactly this content."""
        epoch, mac = tag[len(_MARK) : -_MAC_CHARS], tag[-_MAC_CHARS:]
        key = self._keys.get(epoch)
        return key is not None and hmac.compare_digest(key.mac(signed, value).hex()[:_MAC_CHARS], mac)


def split(value: str) -> tuple[str, str]:
    """Return the tag of a string, which is empty where there is none, and the string without it."""
    at = _place(value)
    if (tag := _TAG.match(value, at)) is None:
        return "", value
    return tag[0], value[:at] + value[tag.end() :]


def _place(value: str) -> int:
    """Return where a string has its tag."""
    at = value.find(THOUGHT)
    return 0 if at < 0 else at + len(THOUGHT)
