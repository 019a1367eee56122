"""Decides which fields a caller may set at the top of a body: those of the route's API, new ones, and a few of LiteLLM.

Pure. Promises: a field that LiteLLM itself obeys is refused by name; a field that no API has yet moves to `extra_body`,
which LiteLLM passes on to the provider without reading it; fields of `extra_body` count as fields at the top.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from gatehouse.core.errors import InvalidRequest, TooLarge
from gatehouse.dialects import ALL_NAMES, names_of
from gatehouse.dialects.parts import plain

# Providers take at most 2,048 texts at once, and the longest known sessions of agents have some hundred messages. A
# body with more entries would slow down other callers.
MAX_MESSAGES: Final = 4_096
MAX_PARTS: Final = 16_384
# OpenAI allows 16 entries of 512 characters.
MAX_METADATA_CHARS: Final = 16_384
MAX_TAGS: Final = 32
MAX_TAG_CHARS: Final = 128
MAX_USER_CHARS: Final = 512
_MAX_DEPTH: Final = 96

_ENTRIES: Final = (
    "messages", "input", "prompt", "documents", "tools", "functions", "system", "instructions", "image", "file"
)  # fmt: skip
# For each refused field, what the caller can do instead.
_INSTEAD: Final = {
    **dict.fromkeys(("fallbacks", "context_window_fallbacks", "models"), "The operator sets fallbacks in config.yaml."),
    **dict.fromkeys(
        ("session_id", "litellm_session_id", "trace_id", "litellm_trace_id"),
        "Name a session in the header X-Gatehouse-Session.",
    ),
    **dict.fromkeys(
        ("guardrails", "policies", "disable_global_guardrails"), "policy.yaml decides which screens and rules apply."
    ),
    **dict.fromkeys(
        ("api_key", "api_base", "base_url", "custom_llm_provider", "api_version"),
        "Name a model of `GET /v1/models`; the gateway knows its address and key.",
    ),
    **dict.fromkeys(("extra_headers", "headers"), "No header of a body is passed on."),
}


# Fields that LiteLLM sends on only in `extra_body`, and drops elsewhere.
SENT_BELOW: Final[Mapping[str, tuple[str, ...]]] = {"aresponses": ("conversation",)}

# With any other type LiteLLM fails, and reports the failure as its own.
_OBJECTS: Final[Mapping[str, tuple[type, ...]]] = {
    "web_search_options": (dict,),
    "response_format": (dict,),
    "context_management": (dict, list),
}
_OBJECTS_OF: Final[Mapping[str, Mapping[str, tuple[type, ...]]]] = {
    "anthropic_messages": {"context_management": (dict,), "tool_choice": (dict,)},
}
# Fields that hold lists of objects.
_LISTS: Final = ("messages", "tools", "functions")
_NEEDED: Final = ("messages", "prompt")


class EngineFields(Protocol):
    """Describe the fields of the engine behind the gateway (`proxy.control_fields`)."""

    @property
    def numbers(self) -> frozenset[str]: ...

    def obeys(self, name: str) -> bool: ...

    def takes(self, name: str) -> bool: ...

    def obeys_in_metadata(self, name: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class CallerBounds:
    """Limit the values that a caller may set for what the operator has configured.

    Attributes:
        timeout_s: the longest time for a provider's answer that a caller may set, in seconds.
        num_retries: the most attempts after the first that a caller may set.
    """

    timeout_s: float = 600.0
    num_retries: int = 2


DEFAULT_BOUNDS: Final = CallerBounds()


def caller_request(
    call_type: str, body: Mapping[str, Any], engine: EngineFields, bounds: CallerBounds = DEFAULT_BOUNDS
) -> dict[str, Any]:
    """Return the body for LiteLLM, with fields that are new to it under `extra_body` and all others at the top.

    Args:
        call_type: LiteLLM's call type.
        body: the caller's decoded JSON; not changed.

    Raises:
        InvalidRequest: a field is forbidden, given twice, or has a wrong value.
        TooLarge: it has more messages or parts than one request may have.
    """
    flat = dict(_unfolded(body))
    if not isinstance(flat.get("model", ""), str | None):
        raise InvalidRequest("model: the name of a model was expected. Correct it and ask again.", param="model")
    _check_size(flat)
    known = names_of(call_type)
    objects = {**_OBJECTS, **_OBJECTS_OF.get(call_type, {})}
    if call_type == "aimage_generation" and flat.get("stream") is True:
        raise InvalidRequest("stream: LiteLLM does not stream pictures. Leave it out and ask again.", param="stream")
    kept: dict[str, Any] = {}
    new: dict[str, Any] = {}
    for name, value in flat.items():
        if name in objects and value is None:
            continue  # as if it were left out, because LiteLLM fails on it
        _check_kind(name, value, objects)
        if name == "metadata":
            kept[name] = value if value is None else _metadata(value, engine)
        elif name in _BOUNDED:
            kept[name] = value if value is None else _BOUNDED[name](name, value, bounds)
        elif name in SENT_BELOW.get(call_type, ()) and value is not None:
            new[name] = value
        elif name in known or (name in engine.numbers and (value is None or isinstance(value, bool | int | float))):
            kept[name] = value
        elif name in engine.numbers:
            raise _refused(name, "only a number or a switch may stand there")
        elif engine.takes(name) or name in ALL_NAMES:
            raise _refused(name, "callers may not set it on this route")
        elif value is not None:
            _check_below(name, value, engine.obeys)
            new[name] = value
    if new:
        kept["extra_body"] = new
    return kept


def _check_kind(name: str, value: Any, objects: Mapping[str, tuple[type, ...]]) -> None:
    """Refuse a value of a type that no API takes and that LiteLLM would not report as the caller's mistake."""
    expected = None
    if name in objects and not isinstance(value, objects[name]):
        expected = "an object"
    elif name in _NEEDED and value is None:
        expected = "a list of messages" if name == "messages" else "a text"
    elif name in _LISTS and isinstance(value, list) and not all(isinstance(each, dict) for each in value):
        expected = "a list of objects"
    elif name == "prompt" and isinstance(value, list) and (not value or None in value):
        expected = "a text, or several,"
    if expected:
        raise InvalidRequest(f"{name}: {expected} was expected. Correct it and ask again.", param=name)


def _unfolded(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield each field, whether it stands at the top or in `extra_body`."""
    extra = body.get("extra_body")
    if extra is not None and not isinstance(extra, dict):
        raise InvalidRequest("extra_body: an object was expected. Correct it and ask again.", param="extra_body")
    for name, value in body.items():
        if name != "extra_body":
            yield name, value
    for name, value in (extra or {}).items():
        if name in body:
            raise _refused(name, "it stands at the top and in extra_body" if name != "extra_body" else "it is nested")
        yield name, value


# Names are repeated in messages up to this length, because LiteLLM's own are longer than `plain` allows.
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}", re.ASCII)


def _refused(name: str, why: str) -> InvalidRequest:
    shown = name if _WORD.fullmatch(name) else None
    instead = _INSTEAD.get(name, "Leave it out and ask again.")
    return InvalidRequest(f"{shown or 'a field'}: {why}. {instead}", param=shown)


def _metadata(value: Any, engine: EngineFields) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest("metadata: an object was expected. Correct it and ask again.", param="metadata")
    _check_below("metadata", {name: inner for name, inner in value.items() if name != "tags"}, engine.obeys_in_metadata)
    if len(json.dumps(value)) > MAX_METADATA_CHARS:
        raise InvalidRequest(
            f"metadata: it may have {MAX_METADATA_CHARS} characters as JSON. Shorten it and ask again.",
            param="metadata",
        )
    return value if value.get("tags") is None else {**value, "tags": _tags("metadata.tags", value["tags"], None)}


def _check_below(name: str, value: Any, obeys: Callable[[str], bool]) -> None:
    """Refuse fields that the engine obeys, at any depth of a container."""
    left: list[tuple[Any, int]] = [(value, 0)]
    while left:
        inner, depth = left.pop()
        if depth > _MAX_DEPTH:
            raise _refused(name, "it is nested too deep")
        if isinstance(inner, dict):
            for below, more in inner.items():
                if obeys(below):
                    raise InvalidRequest(
                        f"{plain(name) or 'a field'}: {plain(below) or 'a field in it'} may not be set by callers. "
                        f"{_INSTEAD.get(below, 'Leave it out and ask again.')}",
                        param=plain(name),
                    )
                left.append((more, depth + 1))
        elif isinstance(inner, list):
            left.extend((more, depth + 1) for more in inner)


def _tags(name: str, value: Any, _bounds: CallerBounds | None) -> list[str]:
    fits = isinstance(value, list) and len(value) <= MAX_TAGS
    if not fits or not all(isinstance(tag, str) and 0 < len(tag) <= MAX_TAG_CHARS for tag in value):
        raise InvalidRequest(
            f"{name}: at most {MAX_TAGS} words of {MAX_TAG_CHARS} characters were expected. Correct it and ask again.",
            param=name,
        )
    return list(value)


def _user(name: str, value: Any, _bounds: CallerBounds) -> str:
    if not isinstance(value, str) or len(value) > MAX_USER_CHARS:
        raise InvalidRequest(
            f"user: a text of at most {MAX_USER_CHARS} characters was expected. Correct it and ask again.", param=name
        )
    return value


def _timeout(name: str, value: float, bounds: CallerBounds) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= bounds.timeout_s:
        raise InvalidRequest(
            f"timeout: a number of seconds up to {bounds.timeout_s:g} was expected. Correct it and ask again.",
            param=name,
        )
    return value


def _num_retries(name: str, value: int, bounds: CallerBounds) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= bounds.num_retries:
        raise InvalidRequest(
            f"num_retries: a whole number up to {bounds.num_retries} was expected. Correct it and ask again.",
            param=name,
        )
    return value


def _cache(name: str, value: Any, _bounds: CallerBounds) -> dict[str, Any]:
    if (
        not isinstance(value, dict)
        or not value.keys() <= {"no-cache", "no-store"}
        or not all(isinstance(inner, bool) for inner in value.values())
    ):
        raise InvalidRequest(
            "cache: only the switches no-cache and no-store may be set. Correct it and ask again.", param=name
        )
    return value


_BOUNDED: Final[dict[str, Callable[[str, Any, CallerBounds], Any]]] = {
    "tags": _tags,
    "user": _user,
    "timeout": _timeout,
    "num_retries": _num_retries,
    "cache": _cache,
}


def _check_size(body: Mapping[str, Any]) -> None:
    """Refuse more messages, or parts of messages, than one request may have."""
    parts = 0
    for name in _ENTRIES:
        entries = body.get(name)
        if not isinstance(entries, list):
            continue
        if len(entries) > MAX_MESSAGES:
            raise TooLarge(f"{name}: at most {MAX_MESSAGES:,} entries may be sent at once. Send fewer.", param=name)
        for entry in entries:
            content = entry.get("content") if isinstance(entry, dict) else entry
            parts += len(content) if isinstance(content, list) else 1
    if parts > MAX_PARTS:
        raise TooLarge(f"At most {MAX_PARTS:,} parts of messages may be sent at once. Send fewer.")
