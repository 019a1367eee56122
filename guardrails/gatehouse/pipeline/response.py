"""What a model says, on its way to the caller: screened, and with the caller's own data put back.

Promises: nothing that a screen blocks is passed on whole, wherever a stream is cut; no placeholder of this call stays
in what the caller gets, but for what the provider has signed. What cannot be read is not passed on.
"""

from __future__ import annotations

import json
import logging
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from gatehouse.core.errors import ContentBlocked, GovernanceError
from gatehouse.core.strict_json import decode_answer
from gatehouse.dialects import answer_view, carrier, event_view
from gatehouse.dialects.conversations import Kind, StoredId, made
from gatehouse.dialects.events import EventView, Source
from gatehouse.dialects.parts import JSON, DeltaPart, Path, SealedPart, SignaturePart, Step, TextPart, UnknownShape
from gatehouse.dialects.sse import EventTooLarge, ServerSentEvent, SSEDecoder, event
from gatehouse.dialects.tags import Digest, Tags
from gatehouse.dialects.writing import write_back
from gatehouse.guards.pii.masking import Mask
from gatehouse.guards.screens.unfinished import context, unfinished

log = logging.getLogger("gatehouse.answers")

Screen = Callable[[str], None]
"""Looks at a text that a model said, and raises where it may not be passed on."""

# What is held back up to its bound is passed on so many characters at a time, for each time it is screened.
_STEP: Final = 256
# Strings of JSON inside JSON inside JSON.
_ESCAPED_TIMES: Final = 3
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.S)
_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

# Anything else would write lines of its own into the stream.
_EVENT_NAME: Final = re.compile(r"[\w.]+")
# What a model says to people, and the running texts that are what tools are given.
_SAID: Final = frozenset(("content", "text", "refusal", "reasoning", "reasoning_content", "thinking", "transcript"))
_ACTS: Final = frozenset(
    ("tool", "function_call", "response.custom_tool_call_input", "response.code_interpreter_call_code")
)
# The call types whose answers providers store, and those whose streams have their events.
_STORED: Final = frozenset(("responses", "aresponses"))
_RESPONSES: Final = _STORED | {"aget_responses"}
_UNREADABLE: Final = "The model's answer could not be read in full, so it is not passed on. Tell the operator."


class Answers:
    """The answer to one call.

    Args:
        mask: the call's placeholders; None where nothing was masked.
        screen: None where answers are not screened.
        tags: mark what the provider has signed or encrypted; None: nothing of it.
        after: a client continues a stream behind the event with this number, which is the last that it has.
        shown_id: the id that the client knows a stored response by. LiteLLM would write another one.

    Attributes:
        over: a stream has said that it is over; whoever leaves now has had all of it.
    """

    def __init__(
        self,
        call_type: str,
        mask: Mask | None,
        screen: Screen | None,
        tags: Tags | None = None,
        *,
        shown_id: str | None = None,
        after: int = -1,
    ) -> None:
        self.over = False
        self._ids: list[StoredId] = []
        self._ids_seen: set[StoredId] = set()
        self._call_type = call_type
        self._mask = mask
        self._screen = screen
        self._tags = tags
        self._shown_id = shown_id
        self._after = after
        self._events = SSEDecoder()
        self._running: dict[Source, _Running] = {}
        # By block, what has come of a text that the provider signs at its end.
        self._signed: dict[Source, Digest] = {}
        # Responses number their events: the provider's number of the next one, and how many of ours came before it.
        self._number = 0
        self._inserted = 0

    def whole(self, body: bytes) -> bytes:
        """An answer's JSON as the caller gets it.

        Raises:
            GovernanceError: it may not be passed on.
        """
        try:
            answer = decode_answer(body)
            self._note_ids(answer)
            view = answer_view(self._call_type, answer)
            changes = self._changes(view.texts) | self._tagged(view.sealed)
            named = self._show_id(answer)
            if not changes and not named:
                return body
            write_back(answer, changes)
        except (ValueError, RecursionError, UnknownShape) as error:
            if self._only_tags:
                return body
            raise self._unreadable(error) from None
        return _json(answer)

    def text(self, body: bytes) -> bytes:
        """An answer that is plain text, as the caller gets it.

        Raises:
            GovernanceError: it may not be passed on.
        """
        try:
            changes = self._changes([TextPart((), body.decode(), "assistant")])
        except UnicodeDecodeError as error:
            if self._only_tags:
                return body
            raise self._unreadable(error) from None
        return changes[()].encode(errors="surrogatepass") if changes else body

    def push(self, chunk: bytes) -> bytes:
        """What of a stream can be passed on after this piece.

        Raises:
            GovernanceError: no more may be passed on.
        """
        try:
            return self._pass_on(self._events.decode(chunk))
        except EventTooLarge as error:
            raise self._unreadable(error) from None

    def end(self) -> bytes:
        """What is left when the stream is over.

        Raises:
            GovernanceError: it may not be passed on.
        """
        rest = self._pass_on(self._events.rest())
        self.over = True
        held = b"".join(self._close(()))
        # What is cut off in the middle of an event must not become the beginning of another.
        return rest + (b"\n\n" if rest and held else b"") + held

    def _show_id(self, response: Any) -> bool:
        """Write the id that the client knows; return whether that changed anything."""
        is_one = isinstance(response, dict) and str(response.get("object")).startswith("response")
        if self._shown_id is None or not is_one:
            return False
        response["id"] = self._shown_id
        return True

    def ids_due(self, *, first: bool) -> list[StoredId]:
        """Return the ids under which the provider stores the answer, as soon as they must be known.

        Args:
            first: none was returned yet: the answer's own id is needed at once, and those of its items at its end.
        """
        due = self._ids[0].kind is Kind.RESPONSE if first and self._ids else self.over
        ids, self._ids = (self._ids, []) if due else ([], self._ids)
        return ids

    def _note_ids(self, said: Any) -> None:
        if self._call_type in _STORED and isinstance(said, dict):
            new = [each for each in made(said) if each not in self._ids_seen]
            self._ids_seen.update(new)
            self._ids += new

    def _pass_on(self, events: Iterable[ServerSentEvent]) -> bytes:
        return b"".join(map(self._event, events))

    def _event(self, each: ServerSentEvent) -> bytes:
        data = each.data
        if data is None or not data.strip():
            return each.raw  # a comment, or nothing said: a sign of life
        if data.strip() == b"[DONE]":
            self.over = True
            return b"".join(self._close(())) + each.raw
        try:
            said = decode_answer(data)
            self._note_ids(said)
            view = event_view(self._call_type, said)
            number = said.get("sequence_number")
            if type(number) is int:
                self._number = number
            changes = self._changes(view.texts) | self._tagged(view.sealed)
            before = list(self._deltas(said, view, changes))
            named = self._show_id(said.get("response"))
            if changes:
                write_back(said, changes)
        except (ValueError, RecursionError, UnknownShape) as error:
            if self._only_tags:
                return each.raw
            raise self._unreadable(error) from None
        self.over = self.over or () in view.closes
        renumbered = type(number) is int and self._inserted > 0
        if renumbered:
            said["sequence_number"] = self._number + self._inserted
        self._number += 1
        if type(number) is not int or self._number + self._inserted > self._after + 1:
            before.append(each.with_data(_json(said)) if changes or renumbered or named else each.raw)
        return b"".join(before)

    def _deltas(self, said: dict[str, Any], view: EventView, changes: dict[Path, str]) -> Iterator[bytes]:
        """Note what becomes of an event's pieces; yield what must be sent before it."""
        signatures = deque(view.signatures)
        for at, part in enumerate(view.deltas):
            while signatures and signatures[0].after <= at:
                self._sign(signatures.popleft(), changes)
            if part.sealed:
                self._signed.setdefault(part.source[:-1], Digest()).add(part.text)
            running = self._running.get(part.source)
            if running is None:
                mask = None if part.sealed else self._mask
                running = self._running[part.source] = _Running(mask, self._screen, part)
            running.like = said
            more = running.push(part.text)
            if any(_begins(part.source, closed) for closed in view.closes):
                more += self._running.pop(part.source).flush()
            if more != part.text:
                changes[part.path] = more
        for each in signatures:
            self._sign(each, changes)
        for closed in view.closes:
            yield from self._close(closed)

    def _sign(self, signature: SignaturePart, changes: dict[Path, str]) -> None:
        """Tag the signature of a text that came in pieces."""
        if self._tags is not None:
            text = self._signed.pop(signature.source, Digest())
            changes[signature.path] = self._tags.tagged(signature.value, text.value)

    def _close(self, closed: Source) -> Iterator[bytes]:
        for source in [source for source in self._running if _begins(source, closed)]:
            running = self._running.pop(source)
            if more := running.flush():
                extra = carrier(self._call_type, running.like, source, more)
                if "sequence_number" in extra:
                    extra["sequence_number"] = self._number + self._inserted
                    self._inserted += 1
                    if extra["sequence_number"] <= self._after:
                        continue
                kind = extra.get("type")
                yield event(_json(extra), kind if isinstance(kind, str) and _EVENT_NAME.fullmatch(kind) else None)

    def _unreadable(self, error: Exception) -> ContentBlocked:
        # Not where in it: a field's name may be a word of the answer.
        log.warning("an answer (%s) was withheld, for it could not be read: %s", self._call_type, type(error).__name__)
        return ContentBlocked(_UNREADABLE)

    @property
    def _only_tags(self) -> bool:
        """Say that an answer may pass unread, for nothing but its tags would be lost."""
        return self._mask is None and self._screen is None

    def _changes(self, texts: Iterable[TextPart]) -> dict[Path, str]:
        """Screen whole texts; those that change when placeholders are turned back."""
        changes: dict[Path, str] = {}
        for part in texts:
            if self._screen is not None:
                self._screen(part.text)
            if self._mask is None or part.sealed:
                continue
            if (plain := _unmasked(self._mask, part.path, part.text)) != part.text:
                changes[part.path] = plain
        return changes

    def _tagged(self, sealed: Iterable[SealedPart]) -> dict[Path, str]:
        """Tag what came whole and the provider has signed or encrypted."""
        if self._tags is None:
            return {}
        tagged = self._tags.tagged
        return {part.path: tagged(part.whole, Digest(part.signed).value) for part in sealed if part.whole}


class _Running:
    """One running text of a stream: first the screen holds back, then the placeholders' half-read beginnings."""

    __slots__ = ("_held", "_json", "_passed", "_screen", "_unmasker", "like")
    like: dict[str, Any]

    def __init__(self, mask: Mask | None, screen: Screen | None, part: DeltaPart) -> None:
        self._screen = screen
        self._json = part.kind == "json"
        prose = not self._json and not _ACTS.intersection(part.source)
        self._unmasker = mask.unmasker(inside_json=self._json, prose=prose) if mask is not None else None
        self._passed = self._held = ""

    def push(self, text: str) -> str:
        """What can be passed on after this piece."""
        return self._unmask(self._screened(text) if self._screen is not None else text)

    def flush(self) -> str:
        """What was held back; the text is over."""
        if self._held:
            self._look(self._passed + self._held)
        text = self._unmask(self._held)
        return text + self._unmasker.flush() if self._unmasker is not None else text

    def _unmask(self, text: str) -> str:
        return self._unmasker.push(text) if self._unmasker is not None else text

    def _screened(self, text: str) -> str:
        self._held += text
        seen = self._passed + self._held
        start, longer = unfinished(seen)
        free = start - len(self._passed)
        if free < (_STEP if longer else 1):
            return ""
        # Half a word is not looked at, for it could be taken for what the whole is not; but for one of which the
        # beginning has to be passed on.
        self._look(seen if longer else seen[:start])
        ready, self._held = self._held[:free], self._held[free:]
        self._passed = context(seen[:start])
        return ready

    def _look(self, text: str) -> None:
        assert self._screen is not None
        self._screen(text)
        if self._json:
            for _ in range(_ESCAPED_TIMES):
                plain = _ESCAPE.sub(_plain, text)
                if plain == text:
                    return
                text = plain
                self._screen(text)


def _unmasked(mask: Mask, path: Path, text: str) -> str:
    """A whole text of an answer with its values in it."""
    if path and path[-1] == "arguments":  # a model's JSON that cannot be read
        return mask.unmask_json(text)
    if JSON in path or "input" in path[:-1]:  # what a tool is given
        return mask.unmask_argument(text)
    return mask.unmask(text, prose=_is_prose(path))


def _is_prose(path: Path) -> bool:
    """Tell whether a whole text of an answer is for people, and no part of what a tool is given."""
    return bool(path) and path[-1] in _SAID and not any(step == "input" or isinstance(step, Step) for step in path)


def _plain(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else _ESCAPES.get(escape[2], escape[2])


def _begins(source: Source, closed: Source) -> bool:
    return source[: len(closed)] == closed


def _json(value: Any) -> bytes:
    # A lone surrogate can only be sent escaped, which JSON does as Python.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace")


def error_event(call_type: str, error: GovernanceError, call_id: str) -> bytes:
    """The end of a stream that may not go on, as the clients of that API read it."""
    return event_of_error(call_type, error.body(call_id))


def event_of_error(call_type: str, body: dict[str, Any]) -> bytes:
    """The end of a stream that failed.

    Args:
        body: the error as a whole answer says it.
    """
    if call_type == "anthropic_messages":
        return event(_json({"type": "error", **body}), "error")
    if call_type in _RESPONSES:
        error = body["error"]
        said = {"type": "error", "code": error["code"], "message": error["message"], "param": error["param"], **body}
        return event(_json(said), "error")
    return event(_json(body)) + b"data: [DONE]\n\n"
