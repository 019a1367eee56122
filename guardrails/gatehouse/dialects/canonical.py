"""Reads a body once into the canonical request, from which Gatehouse decides and sends everything.

Promises: LiteLLM's own notes beside a request never count as a part of it; a field that neither an API nor LiteLLM
knows is refused where it could hold text; the fields behind facts have the type that their API gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gatehouse.core.errors import InvalidRequest
from gatehouse.dialects import names_of, request_view
from gatehouse.dialects.litellm_fields import BY_OPERATOR
from gatehouse.dialects.parts import JSON, FilePart, Path, SealedPart, StoredPart, TextPart
from gatehouse.dialects.requested import Requested, requested
from gatehouse.dialects.tags import Digest, Tags
from gatehouse.dialects.writing import write_back

# Where LiteLLM keeps its own notes beside the caller's entries.
_SHARED: Final = ("metadata", "litellm_metadata")
# The caller's headers that the operator makes LiteLLM forward; these differ between a request and its repetition.
_FORWARDED: Final = "headers"
_PER_REQUEST: Final = (
    "x-gatehouse-",
    "x-litellm-trace-id",
    "x-litellm-session-id",
    "x-request-id",
    "x-correlation-id",
    "traceparent",
    "tracestate",
    "x-b3-",
)


@dataclass(frozen=True, slots=True)
class CallerNames:
    """List which names of a request are the caller's, where LiteLLM keeps its own notes beside them.

    Attributes:
        top: names at the top of its body.
        metadata: names of its metadata's entries.
        tags: how many tags its metadata has; LiteLLM appends others.
    """

    top: frozenset[str] = frozenset()
    metadata: frozenset[str] = frozenset()
    tags: int = 0

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> CallerNames:
        """Return the caller's names in a body that LiteLLM has not changed yet."""
        given = body.get("metadata")
        if not isinstance(given, Mapping):
            return cls(frozenset(body))
        tags = given.get("tags")
        return cls(frozenset(body), frozenset(given), len(tags) if isinstance(tags, list) else 0)


@dataclass(frozen=True, slots=True)
class CanonicalRequest:
    """Hold one request.

    Attributes:
        call_type: LiteLLM's call type.
        texts: all texts that a model may read, in the order of the body.
        values: other values to scan: identifiers, numbers, data that only a provider can read.
        files: what the model may read that is not text.
        stored: references to what the provider holds.
        requested: how long an answer may be, and how many are requested.
        tools: names of the offered tools.
        temperature: None where the request sets none.
        stream: whether the answer is to come as a stream.
    """

    call_type: str
    texts: tuple[TextPart, ...] = field(repr=False)
    values: tuple[TextPart, ...] = field(repr=False)
    files: tuple[FilePart, ...] = field(repr=False)
    stored: tuple[StoredPart, ...] = field(repr=False)
    requested: Requested
    tools: frozenset[str]
    temperature: float | None
    stream: bool
    _body: MutableMapping[str, Any] = field(repr=False)
    _names: CallerNames = field(repr=False)

    @property
    def fields(self) -> dict[str, Any]:
        """Return the request as it would now go upstream, without LiteLLM's notes: JSON that must not be changed."""
        return dict(_fields(self.call_type, self._body, self._names))

    @property
    def scanned(self) -> tuple[TextPart, ...]:
        """Return everything to scan."""
        return self.texts + self.values

    @property
    def model(self) -> Any:
        """Return the requested model, as the body names it."""
        return self._body.get("model")

    def masked(self, changes: Mapping[Path, str]) -> CanonicalRequest:
        """Write texts into the body, and return the changed request.

        Raises:
            UnknownShape: a text cannot be written where it was read.
        """
        write_back(self._body, dict(changes))
        texts, values = (
            tuple(replace(part, text=str(changes[part.path])) if part.path in changes else part for part in parts)
            for parts in (self.texts, self.values)
        )
        return replace(self, texts=texts, values=values)

    def limited(self, change: Callable[[MutableMapping[str, Any]], None]) -> CanonicalRequest:
        """Change settings in the body, and no text; return the changed request."""
        change(self._body)
        return replace(self, requested=requested(self.fields))


def canonical_request(
    call_type: str,
    body: MutableMapping[str, Any],
    names: CallerNames,
    is_note: Callable[[str], bool] = lambda _: False,
    tags: Tags | None = None,
) -> CanonicalRequest:
    """Read a body, and take the tags out of it.

    Args:
        call_type: LiteLLM's call type.
        body: the body that the edge admitted and the operator's hooks changed; later changes are written to it.
        names: the caller's names in it.
        is_note: tells whether LiteLLM keeps a note beside a request under a name that no API has.
        tags: tell what a model wrote itself; None: nothing of it.

    Raises:
        UnknownShape: it could hide text.
        InvalidRequest: a field has another type than its API gives it.
    """
    fields = dict(_fields(call_type, body, names))
    if call_type.endswith("text_completion") and "prompt" in fields and fields["prompt"] is None:
        raise InvalidRequest("prompt: a text was expected. Correct it and ask again.", param="prompt")
    # Read everything in place, so that it can be written there.
    read = {name: value for name, value in body.items() if name in fields or name in _SHARED or not is_note(str(name))}
    # LiteLLM copies a caller's tags into its own notes.
    entries = names.metadata | ({"tags"} if "tags" in names.top else frozenset())
    view = request_view(call_type, read, metadata=entries)
    write_back(body, {part.path: part.value for part in view.sealed if part.tag})
    proven = _proven(view.sealed, tags)
    plain = _of_form(fields) if call_type.endswith("transcription") else fields
    return CanonicalRequest(
        call_type,
        _marked(view.texts, proven),
        _marked(view.values, proven),
        tuple(view.files),
        tuple(view.stored),
        requested(fields),
        frozenset(offered_tools(fields)),
        _number(plain, "temperature"),
        _switch(plain, "stream"),
        body,
        names,
    )


def _proven(sealed: Iterable[SealedPart], tags: Tags | None) -> frozenset[Path]:
    """Return the places of everything that tags fit."""
    fitting = [
        part for part in sealed if part.tag and tags and tags.fits(part.tag, part.value, Digest(part.signed).value)
    ]
    return frozenset(path for part in fitting for path in (part.path, part.text) if path is not None)


def _marked(parts: Iterable[TextPart], proven: frozenset[Path]) -> tuple[TextPart, ...]:
    if not proven:
        return tuple(parts)
    return tuple(replace(part, proven=True) if _outside_json(part.path) in proven else part for part in parts)


def _outside_json(path: Path) -> Path:
    """Return the place of the string that holds what is at a path."""
    return path[: path.index(JSON)] if JSON in path else path


def _fields(call_type: str, body: Mapping[str, Any], names: CallerNames) -> Iterator[tuple[str, Any]]:
    api = names_of(call_type)
    for name, value in body.items():
        if name == "metadata" and name in api:
            yield name, value
        elif name in _SHARED:
            continue
        elif name == _FORWARDED:
            if (headers := _forwarded(value)) is not None:
                yield name, headers
        elif name in api or name in BY_OPERATOR or name == "extra_body" or name in names.top:
            yield name, value
    if "metadata" not in api and (given := _callers_metadata(body, names)):
        yield "metadata", given


def _callers_metadata(body: Mapping[str, Any], names: CallerNames) -> dict[str, Any]:
    """Return the caller's entries of metadata, wherever LiteLLM has put them."""
    given: dict[str, Any] = {}
    for place in _SHARED:
        held = body.get(place)
        if isinstance(held, Mapping):
            given |= {name: held[name] for name in names.metadata if name in held}
    if isinstance(tags := given.get("tags"), list):
        given["tags"] = tags[: names.tags]
    return given


def _forwarded(headers: Any) -> Any:
    """Return the headers that go upstream with the request, except those that differ per request."""
    if not isinstance(headers, Mapping):
        return headers
    return {name: value for name, value in headers.items() if not str(name).lower().startswith(_PER_REQUEST)}


def _of_form(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a form, which holds numbers and switches as text."""
    written = {name: value.strip().lower() for name, value in fields.items() if isinstance(value, str)}
    read: dict[str, Any] = dict(fields)
    if written.get("stream") in ("true", "false"):
        read["stream"] = written["stream"] == "true"
    with suppress(ValueError, KeyError):
        read["temperature"] = float(written["temperature"])
    return read


def _switch(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest(f"{name}: true or false was expected. Correct it and ask again.", param=name)
    return value is True


def _number(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"{name}: a number was expected. Correct it and ask again.", param=name)
    return float(value)


def offered_tools(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the tools that a request offers, wherever it may offer them."""
    lists = [fields.get("tools"), fields.get("functions")]
    for name in ("input", "messages"):  # responses: tools within the conversation
        for item in _objects(fields.get(name)):
            lists.append(item.get("tools"))
            lists.extend([part.get("tool")] for part in _objects(item.get("content")))  # messages: `tool_addition`
    while lists:
        for tool in _objects(lists.pop()):
            inner = tool.get("function")
            named = inner.get("name") if isinstance(inner, Mapping) else tool.get("name")
            if isinstance(named, str):
                yield named
            lists.append(tool.get("tools"))  # the tools of a namespace


def _objects(items: Any) -> Iterator[Mapping[str, Any]]:
    return (item for item in items if isinstance(item, Mapping)) if isinstance(items, list | tuple) else iter(())
