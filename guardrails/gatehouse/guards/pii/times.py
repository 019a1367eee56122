"""Finds dates, times and ranges of years, whose digits are part of no other number."""

from __future__ import annotations

import re

_YEAR, _MONTH, _DAY = "(?:19|20)[0-9]{2}", "(?:0?[1-9]|1[0-2])", "(?:0?[1-9]|[12][0-9]|3[01])"
_CLOCK = r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?(?:[.,][0-9]{1,9})?(?:Z|[ ]?[+-][0-9]{2}:?[0-9]{2}(?![0-9]))?"
_ALONE, _END = r"(?<![0-9A-Za-z])(?<![0-9][-./])", r"(?![0-9]|[-./][0-9])"
# Every repetition is bounded, so that the time is linear in the length of the text.
_TIMES = re.compile(
    "|".join(
        (
            rf"{_ALONE}{_YEAR}([-/.])[ ]?{_MONTH}\1[ ]?{_DAY}(?![0-9])\.?(?:[T _-]{{1,2}}[0-9]{{2}}:?[0-9]{{2}}"
            r"(?::?[0-9]{2})?(?:[.,][0-9]{1,9})?(?:Z|[ ]?[+-][0-9]{2}:?[0-9]{2})?(?![0-9]))?",
            rf"{_ALONE}(?:{_DAY}([-./])[ ]?{_MONTH}\2|{_MONTH}([-./]){_DAY}\3)[ ]?(?:{_YEAR}|[0-9]{{2}}){_END}",
            rf"{_ALONE}(?<![0-9] )(?:0[1-9]|[12][0-9]|3[01]) (?:0[1-9]|1[0-2]) {_YEAR}{_END}",
            rf"{_ALONE}{_YEAR} ?[-\u2013/] ?{_YEAR}{_END}",
            rf"{_ALONE}20[0-9]{{2}}(?:0[1-9]|1[0-2])(?:[0-2][0-9]|3[01])(?:[T_-]?[0-9]{{4,6}}Z?)?(?![0-9A-Za-z]|[-.][0-9])",
            rf"(?<![0-9A-Za-z.]){_CLOCK}(?![0-9])",
        )
    )
)


def times(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return the places of the dates and times in `text[start:end]`."""
    return [match.span() for match in _TIMES.finditer(text, start, end)]
