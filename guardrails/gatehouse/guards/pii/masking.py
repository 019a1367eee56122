"""Placeholders for personal data, and the way back: in whole texts, and in streams cut anywhere.

A placeholder is a function of the value and its scope alone (`Placeholders`), so it is the same in every turn, on every
gateway, after every restart, and wherever in a body the value stands. The way back is the `Mask` of one call, which is
in nothing that is printed or logged: only a value of this very call comes back. A model may change a placeholder's case
or brackets, because its token still says whose it is. What a caller writes in the form of a placeholder of the call is
masked itself, as a LITERAL, and so comes back as it was written.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from gatehouse.core.errors import PlaceholdersCollide
from gatehouse.core.keys import DerivedKey
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.unicode_fold import fold

LITERAL: Final = "LITERAL"

# Crockford's base32: no I, L, O or U, which are read as other characters or make words.
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TOKEN_CHARS: Final = 8  # 40 bits
_SPELLING_CHARS: Final = 2
# What people group with blanks, hyphens and brackets, and mean the same by.
_GROUPED: Final = frozenset({"CREDIT_CARD", "IBAN_CODE", "PHONE_NUMBER"})

_DIGIT: Final = "[0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]"
_TOKEN: Final = re.compile(
    f"_({_DIGIT}{{{_TOKEN_CHARS}}}(?:{_DIGIT}{{{_SPELLING_CHARS}}})?)(?![0-9A-Za-z])",
)
_TOKEN_REACH: Final = 1 + _TOKEN_CHARS + _SPELLING_CHARS
# Brackets as they are, and as HTML, URLs and JSON write them. Markdown, and JSON in JSON, put backslashes before.
_BRACKETS: Final = {
    ">": "<",
    "&gt;": "&lt;",
    "&#62;": "&#60;",
    "&#x3e;": "&#x3c;",
    "%3e": "%3c",
    "\\u003e": "\\u003c",
}
_MAX_ESCAPES: Final = 4
_CLOSING: Final = re.compile(
    rf"(\\{{0,{_MAX_ESCAPES}}})(>)|(\\{{0,{_MAX_ESCAPES - 1}}})(\\u003e)|()(&gt;|&#62;|&#x3e;|%3e)", re.ASCII | re.I
)
_WRITTEN: Final = re.compile(r"<([A-Z0-9_]+)>")
# Every character that a placeholder may have in any of these forms.
_CHARS: Final = r"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_\<>&#;%"
_ESCAPES: Final = re.compile(
    rf"\\{{1,{_MAX_ESCAPES}}}(?=[_<>]|\Z)|\\{{1,{_MAX_ESCAPES - 1}}}(?=\\u)", re.ASCII | re.IGNORECASE
)
_OPENINGS: Final = tuple(opening.upper() for opening in _BRACKETS.values())
_BEGUN_CLOSINGS: Final = frozenset(closing[:size].upper() for closing in _BRACKETS for size in range(1, len(closing)))
_NAME: Final = re.compile(r"[A-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class Placeholders:
    """Makes the placeholders of one scope, from the value alone.

    The token's 8 characters are a keyed hash of what all spellings of a value have in common: without regard to case,
    width, accents and invisible characters, and for numbers that people group, without what groups them. The spelling
    that is this common form itself is the plain one. Every other one has two more characters over how it is written.

    Attributes:
        key: the installation's, for `Purpose.MASKING`.
        scope: within it the same value has the same placeholder.
    """

    key: DerivedKey
    scope: str

    def of(self, entity: str, value: str) -> str:
        """The placeholder of a value."""
        return f"<{self.name(entity, value)}>"

    def name(self, entity: str, value: str) -> str:
        """The same without its brackets."""
        common = canonical(entity, value)
        token = _written(self.key.mac(self.scope, entity, common), _TOKEN_CHARS)
        if value != common:
            token += _written(self.key.mac(self.scope, entity, common, value), _SPELLING_CHARS)
        return f"{entity}_{token}"

    def lone_name(self, entity: str, value: str) -> str:
        """A name that has nothing in common with those of the value's other spellings."""
        return f"{entity}_{_written(self.key.mac(self.scope, entity, 'spelling', '', value), _TOKEN_CHARS)}"

    def redact(self, text: str, findings: Sequence[Finding], config: PiiConfig) -> str:
        """The text with a placeholder for each finding whose mode is `mask`, where none will be turned back."""
        spans = _spans(text, findings, config)
        return _replaced(text, ((each.start, each.end, self.of(each.entity, each.value)) for each in spans))


def canonical(entity: str, value: str) -> str:
    """What all spellings of a value have in common."""
    folded = fold(value).text.casefold()
    if entity in _GROUPED:
        folded = "".join(char for char in folded if char.isalnum() or char == "+")
    return folded or value


def scope_of(kind: str, *, team_id: str | None, key_hash: str | None, call_id: object) -> str:
    """Where the same value has the same placeholder.

    Args:
        kind: `pii.scope` of policy.yaml: `team`, `key` or `call`.
    """
    if kind == "team" and team_id:
        return f"team:{team_id}"
    if kind != "call" and key_hash:
        return f"key:{key_hash}"
    return f"call:{call_id}"


def _written(hashed: bytes, chars: int) -> str:
    """The first bits of a hash, 5 for each character."""
    bits = int.from_bytes(hashed[:8], "big")
    return "".join(_ALPHABET[bits >> (59 - 5 * index) & 31] for index in range(chars))


class _Span(NamedTuple):
    """A part of a text that is to be masked."""

    start: int
    end: int
    entity: str
    value: str


def _spans(text: str, findings: Iterable[Finding], config: PiiConfig) -> Iterator[_Span]:
    """What is masked of a text, from its beginning to its end, none in another."""
    done = 0
    for each in sorted(findings, key=lambda each: each.start):
        if each.start >= done and config.mode_of(each.entity) is Mode.MASK:
            yield _Span(each.start, each.end, each.entity, text[each.start : each.end])
            done = each.end


def _replaced(text: str, parts: Iterable[tuple[int, int, str]]) -> str:
    """The text with some of its parts replaced; all else is as it was."""
    out: list[str] = []
    done = 0
    for start, end, new in parts:
        if start >= done:
            out += (text[done:start], new)
            done = end
    return "".join((*out, text[done:])) if out else text


class Mask:
    """The placeholders of one call, and the way back from them."""

    __slots__ = ("_by_token", "_names", "_placeholders", "_values")

    def __init__(self, placeholders: Placeholders) -> None:
        self._placeholders = placeholders
        self._names: dict[tuple[str, str], str] = {}
        self._values: dict[str, str] = {}
        self._by_token: dict[str, str] = {}

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
        return {f"<{name}>": value for name, value in self._values.items()}

    def mask(self, texts: Sequence[tuple[str, Sequence[Finding]]], config: PiiConfig) -> list[str]:
        """Mask what is found in the texts of a call, all at once: any of them may hold what another is given.

        Raises:
            PlaceholdersCollide: two values would have one placeholder.
        """
        spans = [list(_spans(text, findings, config)) for text, findings in texts]
        self._give((span.entity, span.value) for each in spans for span in each)
        if self._values:
            self._give_literals([text for text, _ in texts], spans)
        return [self._masked(text, each) for (text, _), each in zip(texts, spans, strict=True)]

    def _masked(self, text: str, spans: Iterable[_Span]) -> str:
        parts = ((each.start, each.end, self._names[each.entity, each.value]) for each in sorted(spans))
        return _replaced(text, ((start, end, f"<{name}>") for start, end, name in parts))

    def _give(self, values: Iterable[tuple[str, str]]) -> list[str]:
        """Give each value its name, where it has none yet; return the tokens that are new."""
        new = {each: self._placeholders.name(*each) for each in values if each not in self._names}
        spelled: dict[str, list[tuple[str, str]]] = {}
        for each, name in new.items():
            spelled.setdefault(name, []).append(each)
        for group in spelled.values():
            # Two spellings of one value share their two characters once in a thousand times. Then each stands for
            # itself, wherever it comes first.
            if len(group) > 1 and len({canonical(*each) for each in group}) == 1:
                new.update((each, self._placeholders.lone_name(*each)) for each in group)
        tokens = []
        for (entity, value), name in new.items():
            token = name[len(entity) + 1 :]
            if token in self._by_token:
                raise PlaceholdersCollide
            self._names[entity, value] = self._by_token[token] = name
            self._values[name] = value
            tokens.append(token)
        return tokens

    def _give_literals(self, texts: Sequence[str], spans: Sequence[list[_Span]]) -> None:
        """Add what a text holds that would be turned back: each adds a placeholder, which a text may hold in turn."""
        seen: dict[str, list[tuple[int, re.Match[str], int, int]]] = {}
        for index, (text, taken) in enumerate(zip(texts, spans, strict=True)):
            low = 0
            for high, after in [*((span.start, span.end) for span in taken), (len(text), len(text))]:
                for match in _TOKEN.finditer(text, low, high):
                    seen.setdefault(match[1].upper(), []).append((index, match, low, high))
                low = after
        tokens = list(self._by_token) if seen else []
        while tokens:
            found: list[tuple[int, _Span]] = []
            before: set[str] = set()
            for token in tokens:
                for index, match, low, high in seen.pop(token, ()):
                    text = texts[index]
                    if reach := _reach(text, self._entity(token), match, low, high):
                        found.append((index, _Span(*reach, LITERAL, text[slice(*reach)])))
                        # A token that went on in this one ends where its placeholder begins.
                        for ends in _TOKEN.finditer(text, max(low, reach[0] - _TOKEN_REACH), reach[0]):
                            if ends.end() == reach[0]:
                                seen.setdefault(ends[1].upper(), []).append((index, ends, low, reach[0]))
                                before.add(ends[1].upper())
            for index, span in found:
                spans[index].append(span)
            given = self._give((LITERAL, span.value) for _, span in found)
            tokens = list(dict.fromkeys((*given, *sorted(before & self._by_token.keys()))))

    def _entity(self, token: str) -> str:
        return self._by_token[token][: -len(token) - 1]

    def found(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Where a placeholder of this call stands in a text, in any form, and what it stands for."""
        done = 0
        for match in _TOKEN.finditer(text) if self._values else ():
            token = match[1].upper()
            if token in self._by_token and (reach := _reach(text, self._entity(token), match, done, len(text))):
                yield *reach, self._values[self._by_token[token]]
                done = reach[1]

    def unmask(self, text: str) -> str:
        """The text with every placeholder of this call turned back."""
        return _replaced(text, self.found(text))

    def unmask_json(self, text: str) -> str:
        """As `unmask` for JSON text: a value is written as the inside of a JSON string."""
        return _replaced(text, ((start, end, _in_json(value)) for start, end, value in self.found(text)))

    @property
    def scope(self) -> str:
        """Where the same values have the same placeholders."""
        return self._placeholders.scope

    def restated(self, value: Any, placeholders: Placeholders) -> Any:
        """A copy of masked JSON as it would be in another scope."""
        if isinstance(value, str):
            return _WRITTEN.sub(lambda match: self._restated(match[0], match[1], placeholders), value)
        if isinstance(value, dict):
            return {
                self.restated(name, placeholders): self.restated(each, placeholders) for name, each in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.restated(each, placeholders) for each in value]
        return value

    def _restated(self, written: str, name: str, placeholders: Placeholders) -> str:
        if name not in self._values:
            return written
        return placeholders.of(name.rpartition("_")[0], self._values[name])

    def unmasker(self, *, inside_json: bool = False) -> Unmasker:
        """For one running text of a stream; `inside_json` for a tool call's arguments."""
        return Unmasker(self.found, self._values, inside_json=inside_json)


def _reach(text: str, entity: str, token: re.Match[str], low: int, high: int) -> tuple[int, int] | None:
    """Start and end of the placeholder of a token, with its brackets; None where its entity is not before it."""
    start, end = _unescaped(text, token.start(), low), token.end()
    for char in reversed(entity):
        if start <= low or text[start - 1] not in (char, char.lower()):
            return None
        start -= 1
        if char == "_":
            start = _unescaped(text, start, low)
    if closing := _CLOSING.match(text, end, high):
        escapes, bracket = (each for each in closing.groups() if each is not None)
        opening = escapes + _BRACKETS[bracket.lower()]
        if text[max(low, start - len(opening)) : start].lower() == opening:
            return start - len(opening), closing.end()
    for opening in _BRACKETS.values():
        if text[max(low, start - len(opening)) : start].lower() == opening:
            return start - len(opening), end
    return start, end


def _unescaped(text: str, at: int, low: int) -> int:
    """Where the backslashes before a place begin, as far as a model would put them there."""
    start = at
    while start > max(low, at - _MAX_ESCAPES) and text[start - 1] == "\\":
        start -= 1
    return start


def _in_json(value: str) -> str:
    return json.dumps(value)[1:-1]


class Unmasker:
    """Turns placeholders back in a text that comes in pieces, holding back only what may still become one."""

    __slots__ = ("_begins", "_found", "_held", "_json", "_longest", "_names")

    def __init__(
        self,
        found: Callable[[str], Iterator[tuple[int, int, str]]],
        names: Iterable[str],
        *,
        inside_json: bool,
    ) -> None:
        """Args:
        found: finds the placeholders of a text.
        names: those that there are, without brackets.
        """
        self._found = found
        self._names = sorted(names)
        self._longest = max((len(name) + _MAX_ESCAPES * (name.count("_") + 4) for name in self._names), default=0)
        first = "".join(sorted({name[0] + name[0].lower() for name in self._names}))
        self._begins = re.compile(rf"[\\<&%{first}]")
        self._json = inside_json
        self._held = ""

    def feed(self, chunk: str) -> str:
        """What can be passed on after this piece."""
        if not self._names:
            return chunk
        text = self._held + chunk
        found = list(self._found(text))
        held = self._held_from(text, found)
        self._held = text[held:]
        return self._turned_back(text[:held], (each for each in found if each[1] <= held))

    def flush(self) -> str:
        """What was held back; the stream is over."""
        text, self._held = self._held, ""
        return self._turned_back(text, self._found(text))

    def _turned_back(self, text: str, found: Iterable[tuple[int, int, str]]) -> str:
        return _replaced(text, ((start, end, _in_json(value) if self._json else value) for start, end, value in found))

    def _held_from(self, text: str, found: Sequence[tuple[int, int, str]]) -> int:
        """Where the end of the text begins that may still become a placeholder."""
        low = max(len(text.rstrip(_CHARS)), len(text) - self._longest)
        for match in self._begins.finditer(text, low):
            at = match.start()
            if not any(start < at < end for start, end, _ in found) and self._may_become_one(text[at:]):
                return at
        return len(text)

    def _may_become_one(self, end: str) -> bool:
        """Whether what a text ends with is the beginning of a placeholder, or one whose bracket may still close."""
        said = _ESCAPES.sub("", end).upper()
        if any(opening.startswith(said) for opening in _OPENINGS) or self._may_become_a_name(said):
            return True
        for opening in _OPENINGS:
            if said.startswith(opening):
                rest = said[len(opening) :]
                name = _NAME.match(rest)[0]  # type: ignore[index]  # it matches the empty text
                return self._may_become_a_name(rest) or (self._is_name(name) and rest[len(name) :] in _BEGUN_CLOSINGS)
        return False

    def _may_become_a_name(self, said: str) -> bool:
        at = bisect_left(self._names, said)
        return at < len(self._names) and self._names[at].startswith(said)

    def _is_name(self, said: str) -> bool:
        at = bisect_left(self._names, said)
        return at < len(self._names) and self._names[at] == said
