"""Placeholders for personal data, and the way back: in whole texts, and in streams cut anywhere.

The map lives in the `Mask` of one call and in nothing that is printed or logged. A placeholder is `<ENTITY_N>`,
numbered by first appearance, so that a conversation that is sent again gets the same ones. Text that already holds
something that looks like a placeholder keeps it: that number is not given out. Only the exact form is turned back: a
model that changes its case or drops the brackets gets no value, for a guess could put one person's data in another's
place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from gatehouse.pii.config import Mode, PiiConfig
from gatehouse.pii.findings import Finding
from gatehouse.unicode_fold import fold

# What a placeholder can look like: an entity of at most 64 characters, a number, and sometimes a second one.
_PLACEHOLDER = re.compile(r"<[A-Z][A-Z0-9_]{0,80}_[0-9]{1,9}>")
_BEGINNING = re.compile(r"<(?:[A-Z][A-Z0-9_]{0,90})?\Z")


class Mask:
    """The placeholders of one call. Give it every text of the call at the start: what they hold is never given out."""

    __slots__ = ("_last", "_numbers", "_spellings", "_taken", "_values")

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._last: dict[str, int] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._spellings: dict[tuple[str, str], dict[str, str]] = {}
        self._values: dict[str, str] = {}
        self._taken: set[str] = set()
        for text in texts:
            self._reserve(text)

    def __repr__(self) -> str:
        return f"Mask({len(self._values)} values)"

    def __reduce__(self) -> str:
        raise TypeError("the map of a mask stays in this process")

    def __bool__(self) -> bool:
        """Whether anything was masked."""
        return bool(self._values)

    @property
    def originals(self) -> dict[str, str]:
        """What each placeholder stands for: for the caller whose data it is, and nobody else."""
        return dict(self._values)

    def _reserve(self, text: str) -> None:
        if "<" in text:
            self._taken.update(_PLACEHOLDER.findall(text))

    def mask(self, text: str, findings: Sequence[Finding], config: PiiConfig) -> str:
        """The text with a placeholder for each finding whose mode is `mask`; the same value gets the same one."""
        self._reserve(text)
        out: list[str] = []
        done = 0
        for each in sorted(findings, key=lambda each: each.start):
            if config.mode_of(each.entity) is Mode.MASK and each.start >= done:
                out += (
                    self._literal(text[done : each.start]),
                    self._placeholder(each.entity, text[each.start : each.end]),
                )
                done = each.end
        return "".join(out) + self._literal(text[done:])

    def _literal(self, text: str) -> str:
        """A text that was not there at the start may hold what was given out since: that stands for itself."""
        if not self._values or "<" not in text:
            return text
        return _PLACEHOLDER.sub(
            lambda match: self._placeholder("LITERAL", match[0]) if match[0] in self._values else match[0], text
        )

    def _placeholder(self, entity: str, value: str) -> str:
        # What is equal without regard to case, width and invisible characters has one number. A second spelling gets a
        # second number behind it, <ENTITY_1_2>, so that it comes back as it was written.
        key = (entity, fold(value).text.casefold())
        spellings = self._spellings.setdefault(key, {})
        if value not in spellings:
            spellings[value] = name = self._free(key, len(spellings) + 1)
            self._values[name] = value
        return spellings[value]

    def _free(self, key: tuple[str, str], spelling: int) -> str:
        entity = key[0]
        if spelling > 1:
            name = f"<{entity}_{self._numbers[key]}_{spelling}>"
            if name not in self._taken and name not in self._values:
                return name
        while True:
            self._last[entity] = number = self._last.get(entity, 0) + 1
            name = f"<{entity}_{number}>"
            if name not in self._taken and name not in self._values:
                self._numbers.setdefault(key, number)
                return name

    def unmask(self, text: str) -> str:
        """The text with every placeholder of this call turned back."""
        return _PLACEHOLDER.sub(lambda match: self._values.get(match[0], match[0]), text) if self._values else text

    def unmask_json(self, text: str) -> str:
        """As `unmask` for JSON text: a value is written as the inside of a JSON string."""
        return _PLACEHOLDER.sub(self._in_json, text) if self._values else text

    def _in_json(self, match: re.Match[str]) -> str:
        value = self._values.get(match[0])
        return match[0] if value is None else json.dumps(value)[1:-1]

    def unmasker(self, *, inside_json: bool = False) -> Unmasker:
        """For one running text of a stream; `inside_json` for a tool call's arguments."""
        return Unmasker(self, inside_json=inside_json)


class Unmasker:
    """Turns placeholders back in a text that comes in pieces, holding back only what may be the beginning of one."""

    __slots__ = ("_held", "_unmask")

    def __init__(self, mask: Mask, *, inside_json: bool = False) -> None:
        self._unmask = mask.unmask_json if inside_json else mask.unmask
        self._held = ""

    def feed(self, chunk: str) -> str:
        """What can be passed on after this piece."""
        text = self._held + chunk
        # A placeholder has one "<", at its beginning: only what follows the last one can be half of one.
        at = text.rfind("<")
        held = at if at >= 0 and _BEGINNING.match(text, at) else len(text)
        self._held = text[held:]
        return self._unmask(text[:held])

    def flush(self) -> str:
        """What was held back; the stream is over."""
        text, self._held = self._held, ""
        return self._unmask(text)
