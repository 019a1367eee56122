"""Reads only JSON that all readers read alike: readers differ in which of two entries with one name they take."""

from __future__ import annotations

import json
import math
from typing import Any


class RepeatedName(ValueError):
    """Report a JSON object with two entries of one name."""

    def __init__(self) -> None:
        super().__init__("a key is there twice")


def decode(value: str | bytes | bytearray) -> Any:
    """Read JSON as strictly as its strictest reader.

    Raises:
        RepeatedName: an object has two entries of one name.
        ValueError: this is no JSON.
        RecursionError: it is nested too deep.
    """
    return json.loads(value, object_pairs_hook=unique, parse_constant=_no_constant, parse_float=_finite)


def decode_answer(value: str | bytes) -> Any:
    """Read a provider's JSON, which may hold Infinity, and two equal plain entries of one name.

    Raises:
        RepeatedName: an object has two entries of one name that are not the same plain value.
        ValueError: this is no JSON.
        RecursionError: it is nested too deep.
    """
    return json.loads(value, object_pairs_hook=_alike)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its entries, as the `object_pairs_hook` of a decoder.

    Raises:
        RepeatedName: two have one name.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RepeatedName
    return found


def _alike(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: dict[str, Any] = {}
        for name, value in pairs:
            if name in seen and (isinstance(value, dict | list) or repr(value) != repr(seen[name])):
                raise RepeatedName
            seen[name] = value
    return found


def _finite(text: str) -> float:
    """Return a finite number; readers disagree about 1e999."""
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number out of range")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(name)
