"""What every request to the proxy may carry: settings of the API, and what an operator has LiteLLM add.

Callers cannot say what LiteLLM obeys (`dialects.caller_fields`), and what LiteLLM keeps beside a request is taken out
before it is read (`dialects.canonical`). What is on no list is refused where it could hold text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gatehouse.dialects.fields import Reader, as_role, fields, kind_only, refuse, skip, text, token, tokens
from gatehouse.dialects.freejson import free
from gatehouse.dialects.parts import KEY, Path, View
from gatehouse.dialects.stored import settings

other_text = as_role("other", text)
other_free = as_role("other", free)

# What callers may say to LiteLLM itself, within the edge's bounds, and where it keeps notes of its own beside what they
# say: `callers_metadata` reads the callers' words there.
_APART = "metadata litellm_metadata tags timeout num_retries cache".split()

_COMMON: dict[str, Reader] = {
    "model": token,
    "stream": token,
    "stream_options": fields({"include_usage": token, "include_obfuscation": token}),
    "user": other_text,
    "safety_identifier": other_text,
    "prompt_cache_key": other_text,
    "prompt_cache_retention": token,
    "prompt_cache_options": kind_only,
    "service_tier": token,
    "inference_geo": token,
}
# A key's or a team's settings, or config.yaml, may have LiteLLM put these there; no caller can.
BY_OPERATOR: dict[str, Reader] = {
    "litellm_system_prompt": as_role("system", text),
    "mock_response": other_free,
    "extra_headers": other_free,
    "extra_query": other_free,
    "headers": other_free,
    "provider_specific_header": other_free,
}


class Request:
    """A dialect's whole request: its own fields, its plain settings, and what every request may carry.

    Args:
        table: readers of the dialect's own fields.
        settings: names of its plain settings.
        added: readers of what LiteLLM itself puts there for its hooks.

    Attributes:
        names: the fields that the API has, so that a caller may say them.
    """

    def __init__(
        self, table: Mapping[str, Reader], settings: Iterable[str] = (), added: Mapping[str, Reader] | None = None
    ) -> None:
        own: dict[str, Reader] = {**_COMMON, **dict.fromkeys(settings, tokens), **table}
        self.names = frozenset(own)
        known = {**own, **BY_OPERATOR, **(added or {})}
        # What no API has is read to its last word; what one has is read as if it stood at the top.
        below = fields({**known, "metadata": other_free}, otherwise=_unknown, names=False)
        internal: dict[str, Reader] = dict.fromkeys(_APART, skip)
        self._read = fields({**internal, **known, "extra_body": below}, otherwise=_number, names=False)

    def __call__(self, view: View, value: Any, path: Path, role: str) -> None:
        """Read a request that the edge has let through, without what LiteLLM put beside it."""
        self._read(view, value, path, role)


def _unknown(view: View, value: Any, path: Path, role: str) -> None:
    view.text((*path, KEY), str(path[-1]), "other")
    settings(view, value, path, "other")


def _number(view: View, value: Any, path: Path, role: str) -> None:
    """What no API has at the top: a number or a switch, for all else stands in `extra_body`. Its name is LiteLLM's."""
    refuse(View(), value, path, role)
    other_free(view, value, path, role)


def callers_metadata(view: View, body: Mapping[str, Any], names: frozenset[str], read: frozenset[str]) -> None:
    """Read what the caller says in metadata, and in tags, wherever LiteLLM has put it.

    Args:
        names: of the entries that are the caller's.
        read: the fields that the dialect itself reads.
    """
    for place in ("metadata", "litellm_metadata"):
        held = body.get(place)
        if not isinstance(held, dict):
            continue
        for name in names if place not in read else ():
            if name in held:
                view.text((place, name, KEY), name, "other")
                if held[name] is not None:
                    other_free(view, held[name], (place, name), "other")
    if isinstance(body.get("tags"), list):
        other_free(view, body["tags"], ("tags",), "other")
