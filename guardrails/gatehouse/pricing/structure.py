"""Counts the tokens of everything but texts, and names the encodings in which texts are counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

# The older encoding counts more tokens in most languages, so it stands in for tokenizers that are not public.
CL100K: Final = "cl100k_base"
O200K: Final = "o200k_base"

# Tokens of the characters around texts: `{"` and `}`, `":"` and a comma. A message of a role and a content makes 8; the
# providers count 3 to 5.
_PER_OBJECT: Final = 2
_PER_NAME: Final = 3
_PER_WORD: Final = 2
_FLOAT_DIGITS: Final = 24


def structure_tokens(values: Iterable[Any]) -> tuple[int, bool]:
    """Return the tokens of everything but texts, and whether a part of it is marked `cache_control`.

    It counts the shape of objects, names of fields, numbers and switches; strings are texts and count nothing.
    """
    tokens, caches = 0, False
    left = list(values)
    while left:
        value = left.pop()
        if isinstance(value, str):
            continue
        if isinstance(value, Mapping):
            tokens += _PER_OBJECT + _PER_NAME * len(value)
            caches = caches or "cache_control" in value
            left.extend(value.values())
        elif isinstance(value, list | tuple):
            tokens += _PER_OBJECT + len(value)
            left.extend(value)
        elif isinstance(value, bool) or value is None:
            tokens += _PER_WORD
        elif isinstance(value, int):
            tokens += value.bit_length() // 3 + 2  # at least its digits and its sign
        elif isinstance(value, float):
            tokens += _FLOAT_DIGITS
    return tokens, caches
