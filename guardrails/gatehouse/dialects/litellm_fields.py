"""Reads what every request to LiteLLM may carry: settings of the API, and additions that an operator configures.

Callers cannot set what LiteLLM obeys (`dialects.caller_fields`), and LiteLLM's notes beside a request are removed
before it is read (`dialects.canonical`). Any other field is refused where it could hold text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gatehouse.dialects.fields import as_role, fields, kind_only, refuse, skip, text, token, tokens
from gatehouse.dialects.freejson import free
from gatehouse.dialects.parts import KEY, BodyView, Path, Reader
from gatehouse.dialects.stored import settings

other_text = as_role("other", text)
other_free = as_role("other", free)

# Fields that callers may set for LiteLLM itself, within the edge's bounds, and fields where LiteLLM keeps its own notes
# beside the caller's entries, which `callers_metadata` reads.
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
# Settings of a key, a team or config.yaml may make LiteLLM add these; no caller can.
BY_OPERATOR: dict[str, Reader] = {
    "litellm_system_prompt": as_role("system", text),
    "mock_response": other_free,
    "extra_headers": other_free,
    "extra_query": other_free,
    "headers": other_free,
    "provider_specific_header": other_free,
}


class Request:
    """Read a dialect's whole request: its own fields, its plain settings, and what every request may carry.

    Args:
        table: readers of the dialect's own fields.
        settings: names of its plain settings.
        added: readers of what LiteLLM itself adds for its hooks.

    Attributes:
        names: the API's fields, which a caller may set.
    """

    def __init__(
        self, table: Mapping[str, Reader], settings: Iterable[str] = (), added: Mapping[str, Reader] | None = None
    ) -> None:
        own: dict[str, Reader] = {**_COMMON, **dict.fromkeys(settings, tokens), **table}
        self.names = frozenset(own)
        known = {**own, **BY_OPERATOR, **(added or {})}
        # Read a field that no API has in full, and any other field as if it stood at the top.
        below = fields({**known, "metadata": other_free}, otherwise=_unknown, names=False)
        internal: dict[str, Reader] = dict.fromkeys(_APART, skip)
        self._read = fields({**internal, **known, "extra_body": below}, otherwise=_number, names=False)

    def __call__(self, view: BodyView, value: Any, path: Path, role: str) -> None:
        """Read a request that the edge has admitted, without LiteLLM's notes."""
        self._read(view, value, path, role)


def _unknown(view: BodyView, value: Any, path: Path, role: str) -> None:
    view.text((*path, KEY), str(path[-1]), "other")
    settings(view, value, path, "other")


def _number(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read a number or a switch that no API has at the top; all else is in `extra_body`. LiteLLM chose its name."""
    refuse(BodyView(), value, path, role)
    other_free(view, value, path, role)


def callers_metadata(view: BodyView, body: Mapping[str, Any], names: frozenset[str], read: frozenset[str]) -> None:
    """Read the caller's entries of metadata, and tags, wherever LiteLLM has put them.

    Args:
        names: names of the caller's entries.
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
