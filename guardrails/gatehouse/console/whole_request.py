"""A request that an approval binds, as a person reads it: what is said turn by turn, tools, settings, and all the rest.

Promises: whatever is in the request is in one of its sections, whole; only the bytes of pictures, sound and films are
described instead, by type, size and SHA-256. Pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

# Longer texts are folded: their beginning is seen, and all of them after a click.
FOLDED_CHARS: Final = 2_000
_BEGINNING_CHARS: Final = 160
# Shorter ones can as well be read.
_MEDIA_CHARS: Final = 1_024
_HEADING_CHARS: Final = 64
_SETTING_CHARS: Final = 200
# Parts that are a text and nothing else; which of them it is says the route.
_TEXTS: Final = ("text", "input_text", "output_text")

_MEDIA: Final = re.compile(r"(?:image|audio|video)/[\w.+-]+|application/pdf", re.ASCII)
_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,([A-Za-z0-9+/=_-]+)", re.ASCII)
# What changes the order in which text is seen, or is not seen at all; joiners, which scripts need, are left.
_UNSEEN: Final = re.compile(
    "[\ud800-\udfff\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e0fff]"
)


@dataclass(frozen=True, slots=True)
class RequestSection:
    """A piece of a request under its heading."""

    heading: str
    text: str

    @property
    def folded(self) -> bool:
        """Say whether it is too long to be shown at once."""
        return len(self.text) > FOLDED_CHARS

    @property
    def beginning(self) -> str:
        """Return what is shown of it then."""
        return self.text[:_BEGINNING_CHARS]


def sections(request: Mapping[str, Any]) -> list[RequestSection]:
    """Return all of a request.

    Args:
        request: as it is bound: caller, route, body, policy_version.
    """
    return [RequestSection(visible(heading), visible(text)) for heading, text in _sections(request)]


def prompt_sections(prompt: str) -> Iterator[tuple[str, str]]:
    """Yield headings and texts of a summary's prompt, turn by turn; yield a prompt without messages as it stands."""
    try:
        asked = json.loads(prompt)
        found = [*_turns("messages", asked.pop("messages")), *([("besides", _pretty(asked))] if asked else [])]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        found = [("as it is kept", prompt)]
    return ((visible(heading), visible(text)) for heading, text in found)


def shown_values(values: Mapping[str, str]) -> dict[str, str]:
    """Return what placeholders stand for, with what cannot be seen written out."""
    return {visible(placeholder): visible(value) for placeholder, value in values.items()}


def visible(text: str) -> str:
    """Write out each character of a text that cannot be seen, or that reorders others."""
    return _UNSEEN.sub(lambda match: f"[U+{ord(match[0]):04X}]", text)


def _sections(request: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    body = dict(request["body"])
    for name in ("system", "instructions", "messages", "input", "prompt"):
        if name in body:
            yield from _turns(name, body.pop(name))
    for name in ("tools", "functions"):
        offered = body.get(name)
        if isinstance(offered, list) and offered:
            del body[name]
            for tool in offered:
                yield _tool_heading(tool), _pretty(tool)
    plain = {name: value for name, value in body.items() if _is_setting(value)}
    if plain:
        yield "settings", "\n".join(f"{name}: {_pretty(value)}" for name, value in plain.items())
    for name, value in body.items():
        if name not in plain:
            yield from _named(name, value if isinstance(value, str) else _pretty(value))
    yield "who asks", _pretty(request["caller"])
    rest = {name: value for name, value in request.items() if name not in ("body", "caller")}
    yield "bound with it", _pretty(rest)


def _is_setting(value: Any) -> bool:
    return len(value) <= _SETTING_CHARS if isinstance(value, str) else not isinstance(value, dict | list)


def _turns(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Return a conversation turn by turn, so that none can look like two."""
    if not isinstance(value, list) or not value:
        yield name, value if isinstance(value, str) else _pretty(value)
        return
    for index, turn in enumerate(value, 1):
        role = turn.get("role", turn.get("type")) if isinstance(turn, dict) else name
        if isinstance(turn, str):
            yield f"{index}. {name}", turn
        elif not isinstance(turn, dict) or not isinstance(role, str) or len(role) > _HEADING_CHARS:
            yield f"{index}. {name}", _pretty(turn)
        else:
            yield from _turn(f"{index}. {role}", turn)


def _turn(heading: str, turn: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    content = turn.get("content")
    for part in content if isinstance(content, list) and content else [content]:
        if isinstance(part, str):
            yield heading, part
        elif isinstance(part, dict) and part.keys() == {"type", "text"} and part["type"] in _TEXTS:
            yield heading, part["text"] if isinstance(part["text"], str) else _pretty(part)
        elif part is not None:
            yield heading, _pretty(part)
    rest = {name: value for name, value in turn.items() if name not in ("role", "content")}
    if rest:
        yield f"{heading}: of the same message", _pretty(rest)
    elif content is None:
        yield heading, _pretty(turn)


def _named(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Return what a field says, under its name; a long name stands in the text."""
    yield (name, text) if len(name) <= _HEADING_CHARS else (name[:_HEADING_CHARS], f"{name}: {text}")


def _tool_heading(tool: Any) -> str:
    function = tool.get("function") if isinstance(tool, dict) else None
    name = (function if isinstance(function, dict) else tool).get("name") if isinstance(tool, dict) else None
    return f"tool {name[:_HEADING_CHARS]}" if isinstance(name, str) else "tool"


def _pretty(value: Any) -> str:
    return json.dumps(_described(value), indent=2, ensure_ascii=False)


def _described(value: Any) -> Any:
    """Return a copy, in which media that only a machine reads is described."""
    if isinstance(value, dict):
        kind = value.get("media_type")
        return {
            name: _media(kind, inner)
            if name == "data" and isinstance(inner, str) and isinstance(kind, str) and _MEDIA.fullmatch(kind)
            else _described(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_described(inner) for inner in value]
    if isinstance(value, str) and (url := _DATA_URL.fullmatch(value)) and _MEDIA.fullmatch(url[1]):
        return _media(url[1], url[2], value)
    return value


def _media(kind: str, data: str, whole: str | None = None) -> str:
    """Describe these bytes; return them as they stand where they are few, or no base64."""
    try:
        found = base64.b64decode(data, altchars=b"-_" if "-" in data or "_" in data else None, validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if not found or len(data) < _MEDIA_CHARS:
        return whole or data
    return f"[{kind}, {len(found):,} bytes, SHA-256 {hashlib.sha256(found).hexdigest()}; the download has it]"
