"""Makes placeholders for personal data, and replaces them with the values again, in whole texts and in cut streams.

A placeholder depends only on the value and its scope (`Placeholders`), so it is the same in every turn, on every
gateway, after every restart, and at every place in a body. The way back is the `Mask` of one call, which is never
printed or logged: only a value of this very call comes back, or of the stored conversation that it continues. A model
may change a placeholder's case or brackets, because its token still identifies the value. A caller's own text in the
form of a placeholder of the call is masked itself, as a LITERAL, and so comes back as it was written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from gatehouse.core.errors import PlaceholdersCollide
from gatehouse.core.keys import DerivedKey
from gatehouse.core.text import Spliced, is_encodable
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.pii.forms import SPELLING_CHARS, TOKEN_CHARS, TOKEN_REACH, Beginnings, last_word, reach, tokens_in
from gatehouse.guards.pii.links import LinkReader, Links, Place
from gatehouse.guards.pii.nesting import Nesting
from gatehouse.guards.unicode_fold import fold

LITERAL: Final = "LITERAL"

# Crockford's base32 leaves out I, L, O and U, which look like other characters or make words.
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Entities that people group with blanks, hyphens and brackets without changing the value.
_GROUPED: Final = frozenset({"CREDIT_CARD", "IBAN_CODE", "PHONE_NUMBER"})

_WRITTEN: Final = re.compile(r"<([A-Z0-9_]+)>")


@dataclass(frozen=True, slots=True)
class Placeholders:
    """Make the placeholders of one scope, from the value alone.

    The token's 8 characters are a keyed hash of the value's canonical form, which all of its spellings share: without
    regard to case, width, accents and invisible characters, and for grouped numbers without the grouping. A spelling
    that equals the canonical form has no more characters; every other one has two more over its spelling.

    Attributes:
        key: the installation's key for `Purpose.MASKING`.
        scope: within it the same value has the same placeholder.
    """

    key: DerivedKey
    scope: str

    def of(self, entity: str, value: str) -> str:
        """Return the placeholder of a value."""
        return f"<{self.name(entity, value)}>"

    def name(self, entity: str, value: str) -> str:
        """Return the placeholder without its brackets."""
        common = canonical(entity, value)
        token = _written(self.key.mac(self.scope, entity, common), TOKEN_CHARS)
        if value != common:
            token += _written(self.key.mac(self.scope, entity, common, value), SPELLING_CHARS)
        return f"{entity}_{token}"

    def lone_name(self, entity: str, value: str) -> str:
        """Return a name that shares nothing with those of the value's other spellings."""
        return f"{entity}_{_written(self.key.mac(self.scope, entity, 'spelling', '', value), TOKEN_CHARS)}"

    def redact(self, text: str, findings: Sequence[Finding], config: PiiConfig) -> str:
        """Replace each finding in mode `mask` with a placeholder that will not be turned back."""
        spans = _spans(text, findings, config)
        return Spliced.of(text, ((each.start, each.end, self.of(each.entity, each.value)) for each in spans))


def canonical(entity: str, value: str) -> str:
    """Return the canonical form, which all spellings of a value share."""
    folded = fold(value).text.casefold()
    if entity in _GROUPED:
        folded = "".join(char for char in folded if char.isalnum() or char == "+")
    return folded or value


def scope_of(kind: str, *, team_id: str | None, key_hash: str | None, call_id: object) -> str:
    """Return the scope within which the same value has the same placeholder.

    Args:
        kind: `pii.scope` of policy.yaml: `team`, `key` or `call`.
    """
    if kind == "team" and team_id:
        return f"team:{team_id}"
    if kind != "call" and key_hash:
        return f"key:{key_hash}"
    return f"call:{call_id}"


def _written(hashed: bytes, chars: int) -> str:
    """Encode the first bits of a hash, 5 for each character."""
    bits = int.from_bytes(hashed[:8])
    return "".join(_ALPHABET[bits >> (59 - 5 * index) & 31] for index in range(chars))


class _Span(NamedTuple):
    """Locate a part of a text that is to be masked."""

    start: int
    end: int
    entity: str
    value: str


class _Place(NamedTuple):
    """Locate what may be a token, in a part of a text that nothing else masks: `text[low:high]`."""

    text: str
    spans: list[_Span]
    start: int
    end: int
    low: int
    high: int


def _spans(text: str, findings: Iterable[Finding], config: PiiConfig) -> Iterator[_Span]:
    """Yield the parts to mask in a text, in order and without overlaps."""
    done = 0
    for each in sorted(findings, key=lambda each: each.start):
        if each.start >= done and config.mode_of(each.entity) is Mode.MASK:
            yield _Span(each.start, each.end, each.entity, text[each.start : each.end])
            done = each.end


class Mask:
    """Hold the placeholders of one call, and the way back from them."""

    __slots__ = ("_beginnings", "_by_token", "_escaped", "_names", "_placeholders", "_values", "_words", "links")

    def __init__(
        self, placeholders: Placeholders, links: Links | None = None, earlier: Mapping[str, str] | None = None
    ) -> None:
        """Args:
        links: says which links in an answer may hold values; None: all.
        earlier: what the placeholders of the conversation stand for that the call continues, by their names.

        Raises:
            PlaceholdersCollide: two of these values have one placeholder.
        """
        self._placeholders = placeholders
        self.links = links
        self._names: dict[tuple[str, str], str] = {}
        self._values: dict[str, str] = {}
        self._by_token: dict[str, str] = {}
        self._words: set[str] = set()  # the last words of its entities
        self._escaped = False  # some value has characters that JSON escapes
        self._beginnings: Beginnings | None = None  # most calls are not streamed
        for name, value in (earlier or {}).items():
            entity, _, token = name.rpartition("_")
            self._add(entity, value, name, token)

    def __repr__(self) -> str:
        return f"Mask({len(self._values)} values)"

    def __reduce__(self) -> str:
        raise TypeError("the map of a mask stays in this process")

    def __bool__(self) -> bool:
        """Tell whether anything was masked."""
        return bool(self._values)

    @property
    def values(self) -> dict[str, str]:
        """Return the value of each placeholder by its name, without brackets."""
        return dict(self._values)

    @property
    def originals(self) -> dict[str, str]:
        """Return the value of each placeholder; only the caller whose data it is may see them."""
        return {f"<{name}>": value for name, value in self._values.items()}

    def mask(self, texts: Sequence[tuple[str, Sequence[Finding]]], config: PiiConfig) -> list[str]:
        """Mask the findings in all texts of a call at once, because a text may hold another's placeholder.

        Raises:
            PlaceholdersCollide: two values would have one placeholder.
        """
        parts = [(text, list(_spans(text, findings, config))) for text, findings in texts]
        self._give((span.entity, span.value) for _, spans in parts for span in spans)
        if self._values:
            self._give_literals(parts)
        return [self._masked(text, spans) if spans else text for text, spans in parts]

    def _masked(self, text: str, spans: Iterable[_Span]) -> str:
        parts = ((each.start, each.end, self._names[each.entity, each.value]) for each in sorted(spans))
        return Spliced.of(text, ((start, end, f"<{name}>") for start, end, name in parts))

    def _give(self, values: Iterable[tuple[str, str]]) -> list[str]:
        """Give each value without a name one; return the new tokens."""
        new = {each: self._placeholders.name(*each) for each in values if each not in self._names}
        spelled: dict[str, list[tuple[str, str]]] = {}
        for each, name in new.items():
            spelled.setdefault(name, []).append(each)
        for group in spelled.values():
            # Two spellings of one value share their two characters once in a thousand times. Then each spelling has a
            # name of its own, at its first place.
            if len(group) > 1 and len({canonical(*each) for each in group}) == 1:
                new.update((each, self._placeholders.lone_name(*each)) for each in group)
        tokens = []
        for (entity, value), common in new.items():
            known = self._values.get(common)  # another spelling, of an earlier turn
            alone = known is not None and canonical(entity, known) == canonical(entity, value)
            name = self._placeholders.lone_name(entity, value) if alone else common
            tokens.append(name[len(entity) + 1 :])
            self._add(entity, value, name, tokens[-1])
        return tokens

    def _add(self, entity: str, value: str, name: str, token: str) -> None:
        if token in self._by_token:
            raise PlaceholdersCollide
        self._names[entity, value] = self._by_token[token] = name
        self._values[name] = value
        self._words.add(last_word(entity))
        self._escaped = self._escaped or _in_json(value, 1) != value
        self._beginnings = None

    def _give_literals(self, parts: Iterable[tuple[str, list[_Span]]]) -> None:
        """Mask texts that would be turned back. Each adds a placeholder, which another text may hold in turn."""
        seen: dict[str, list[_Place]] = {}
        words = self._words | {last_word(LITERAL)}
        for text, spans in parts:
            low = 0
            for high, after in [*((span.start, span.end) for span in spans), (len(text), len(text))]:
                for token, start, end in tokens_in(text, low, high, words):
                    seen.setdefault(token, []).append(_Place(text, spans, start, end, low, high))
                low = after
        tokens = list(self._by_token)
        while tokens:
            found: list[tuple[list[_Span], _Span]] = []
            before: set[str] = set()
            for token in tokens:
                for each in seen.pop(token, ()):
                    if reached := reach(self._entity(token), each.text, each.start, each.end, each.low, each.high):
                        start, end = reached
                        found.append((each.spans, _Span(start, end, LITERAL, each.text[start:end])))
                        # A token that continues into this one ends where its placeholder begins, which closes nothing.
                        for ends in tokens_in(each.text, max(each.low, start - TOKEN_REACH), start, words):
                            if ends[2] == start:
                                place = _Place(each.text, each.spans, *ends[1:], each.low, start)
                                seen.setdefault(ends[0], []).append(place)
                                before.add(ends[0])
            for spans, span in found:
                spans.append(span)
            given = self._give((LITERAL, span.value) for _, span in found)
            tokens = list(dict.fromkeys((*given, *sorted(before & self._by_token.keys()))))

    def _entity(self, token: str) -> str:
        return self._by_token[token][: -len(token) - 1]

    def found(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Yield the place of each placeholder of this call in a text, in any form, and its value."""
        done = 0
        for token, start, end in tokens_in(text, 0, len(text), self._words) if self._values else ():
            if token in self._by_token and start >= done:
                reached = reach(self._entity(token), text, start, end, done, len(text))
                if reached is not None:
                    yield *reached, self._values[self._by_token[token]]
                    done = reached[1]

    def unmask(self, text: str, *, prose: bool = False) -> str:
        """Replace every placeholder of this call with its value.

        Args:
            prose: people read it, so that a placeholder stays where a link may not hold its value.
        """
        found = self.found(text)
        if prose and self.links is not None:
            return Spliced.of(text, LinkReader(self.links).read(text, found, len(text))[0])
        return Spliced.of(text, found)

    def unmask_json(self, text: str) -> str:
        """Do as `unmask` for JSON text: write a value as the inside of a JSON string, also of JSON in its strings."""
        return _restored(text, self.found(text), self._nesting(is_json=True))

    def unmask_argument(self, text: str) -> str:
        """Do as `unmask` for a string of a tool's arguments, which may be JSON text itself."""
        return _restored(text, self.found(text), self._nesting(is_json=False))

    def _nesting(self, *, is_json: bool) -> Nesting | None:
        """Return what tells how to escape a value; None where no value needs it."""
        return Nesting(is_json=is_json) if self._escaped else None

    @property
    def scope(self) -> str:
        """Return the scope within which the same values have the same placeholders."""
        return self._placeholders.scope

    def restated(self, value: Any, placeholders: Placeholders) -> Any:
        """Return a copy of masked JSON with the placeholders of another scope."""
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

    def unmasker(self, *, inside_json: bool, prose: bool = False) -> Unmasker:
        """Return an unmasker for one running text of a stream; `inside_json` for a tool call's arguments."""
        if self._beginnings is None:
            self._beginnings = Beginnings(self._values)
        links = self.links if prose else None
        nesting = self._nesting(is_json=True) if inside_json else None
        return Unmasker(self.found, self._beginnings, nesting=nesting, links=links)


def _restored(text: str, found: Iterable[Place], nesting: Nesting | None) -> str:
    """Return the text with the values in place of their placeholders, escaped for the JSON around them."""
    if nesting is None:
        return Spliced.of(text, found)
    parts: list[Place] = []
    done = 0
    for start, end, value in found:
        nesting.read(text[done:start])
        parts.append((start, end, _in_json(value, nesting.escapes)))
        nesting.read(text[start:end])
        done = end
    nesting.read(text[done:])
    return Spliced.of(text, parts)


def _in_json(value: str, times: int) -> str:
    """Return a value as the inside of a string, in so many strings of JSON."""
    for _ in range(times):
        value = json.dumps(value, ensure_ascii=not is_encodable(value))[1:-1]
    return value


class Unmasker:
    """Unmask a text that comes in pieces, and hold back only what may still become a placeholder."""

    __slots__ = ("_beginnings", "_found", "_held", "_links", "_nesting")

    def __init__(
        self,
        found: Callable[[str], Iterator[Place]],
        beginnings: Beginnings,
        *,
        nesting: Nesting | None = None,
        links: Links | None = None,
    ) -> None:
        """Args:
        found: finds the placeholders of a text.
        beginnings: finds where the end of a text may become one.
        nesting: tells how to escape a value in JSON; None: not at all.
        links: says which placeholders stay, because they stand in links.
        """
        self._links = LinkReader(links) if links is not None else None
        self._found = found
        self._beginnings = beginnings
        self._nesting = nesting
        self._held = ""

    def push(self, chunk: str) -> str:
        """Return the text that can be passed on after this piece."""
        text = self._held + chunk
        found = list(self._found(text))
        held = self._beginnings.start(text, found)
        if self._links is not None:
            found, held = self._links.read(text, found, held, more=True)
        self._held = text[held:]
        return _restored(text[:held], (each for each in found if each[1] <= held), self._nesting)

    def flush(self) -> str:
        """Return the text that was held back, when the stream is over."""
        found: Iterable[tuple[int, int, str]] = self._found(self._held)
        if self._links is not None:
            found, _ = self._links.read(self._held, found, len(self._held))
        return _restored(self._held, found, self._nesting)
