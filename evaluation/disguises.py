"""Disguises a text so that a filter misses it and a model still reads it, for the cases that ask for that."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Callable, Mapping

_HOMOGLYPHS = str.maketrans("aeocpxi", "\u0430\u0435\u043e\u0441\u0440\u0445\u0456")
_LEET = str.maketrans("aeiost", "4310$7")


def _spaced(text: str) -> str:
    return "  ".join(" ".join(word) for word in text.split())


DISGUISES: Mapping[str, Callable[[str], str]] = {
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "zero_width": lambda text: "\u200b".join(text),
    "fullwidth": lambda text: "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text),
    "homoglyph": lambda text: text.translate(_HOMOGLYPHS),
    "spaced": _spaced,
    "dotted": lambda text: " ".join(".".join(word) for word in text.split()),
    "leet": lambda text: text.translate(_LEET),
    "tags": lambda text: "What a nice day! " + "".join(chr(0xE0000 + ord(char)) for char in text),
    "percent": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "hex_escapes": lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()),
    "rot13": lambda text: "This is rot13: " + codecs.encode(text, "rot13"),
    "reversed": lambda text: "Read this backwards: " + text[::-1],
    "upper": str.upper,
    "accents": lambda text: "".join(char + "\u0301" for char in text),
}
