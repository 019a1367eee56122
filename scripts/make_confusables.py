"""Writes guards/confusables.txt: letters of other scripts that Unicode calls confusable with one Latin letter.

    uv run --no-project --with confusable-homoglyphs==3.3.1 scripts/make_confusables.py

That package holds Unicode's confusables.txt as JSON. The script takes letters only, because digits, signs and vowel
marks have their own meaning in ordinary text. It leaves out characters that decompose to such a letter or to a Latin
one, because `unicode_fold` decomposes first.
"""

from __future__ import annotations

import json
import string
import unicodedata
from collections import defaultdict
from importlib.resources import files
from pathlib import Path

TABLE = Path(__file__).parent.parent / "guardrails" / "gatehouse" / "guards" / "confusables.txt"

# Most fonts draw these like the Latin letter, although Unicode names another letter as the nearest.
BESIDE = {"\u044c": "b", "\u051a": "Q", "\u03c4": "t", "\u03ba": "k"}

HEAD = """\
# Letters that look like one Latin letter: that letter, then their code points. Made by scripts/make_confusables.py.
# From Unicode's confusables.txt (UTS 39), (c) Unicode, Inc., under the Unicode License v3: https://www.unicode.org/license.txt
"""


def latin(letter: str, like: list[str]) -> str | None:
    """Return the Latin letter that a letter looks like; None when the script does not take it."""
    if len(letter) != 1 or letter.isascii() or not unicodedata.category(letter).startswith("L"):
        return None
    if unicodedata.normalize("NFKD", letter) != letter:
        return None
    for each in like:
        if len(each) == 1 and each in string.ascii_letters:
            # Unicode maps I and l to one sign: take a capital letter for I.
            return "I" if each == "l" and letter.isupper() else each
    return None


def main() -> None:
    text = files("confusable_homoglyphs").joinpath("confusables.json").read_text(encoding="utf-8")
    found = {letter: latin(letter, [each["c"] for each in like]) for letter, like in json.loads(text).items()}
    letters: defaultdict[str, list[str]] = defaultdict(list)
    for letter, target in sorted((found | BESIDE).items()):
        if target is not None:
            letters[target].append(f"{ord(letter):04X}")
    TABLE.write_text(HEAD + "".join(f"{target} {' '.join(codes)}\n" for target, codes in sorted(letters.items())))


if __name__ == "__main__":
    main()
