"""Reads which stored conversation a request continues, and under which ids the provider stores its answer.

Only OpenAI's responses are stored in this way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

_RESPONSES: Final = frozenset(("responses", "aresponses"))


class Kind(StrEnum):
    """Name what an id is of."""

    RESPONSE = "response"
    CONVERSATION = "conversation"
    ITEM = "item"


@dataclass(frozen=True, slots=True)
class StoredId:
    """Hold the id of something that a provider stores, as the client or the provider writes it."""

    kind: Kind
    id: str


class ReadId(NamedTuple):
    """Hold an id in two forms.

    Attributes:
        routed: with the deployment, as LiteLLM needs it.
        provider: as the provider writes it.
    """

    routed: str
    provider: str


def is_stored(call_type: str, fields: Mapping[str, Any]) -> bool:
    """Tell whether the provider stores the answer to a request, which it does unless the request says no."""
    return call_type in _RESPONSES and (fields.get("store") is not False or conversation_of(fields) is not None)


def conversation_of(fields: Mapping[str, Any]) -> StoredId | None:
    """Return the id of the conversation that a request adds to."""
    below = fields.get("extra_body")  # where LiteLLM sends it on
    given = fields.get("conversation") or (below.get("conversation") if isinstance(below, Mapping) else None)
    named = given.get("id") if isinstance(given, Mapping) else given
    return StoredId(Kind.CONVERSATION, named) if isinstance(named, str) and named else None


def continued(call_type: str, fields: Mapping[str, Any]) -> tuple[StoredId, ...]:
    """Return the ids of what the provider adds to a request."""
    if call_type not in _RESPONSES:
        return ()
    ids = dict.fromkeys(_continued(fields))
    return tuple(ids)


def _continued(fields: Mapping[str, Any]) -> Iterator[StoredId]:
    before = fields.get("previous_response_id")
    if isinstance(before, str) and before:
        yield StoredId(Kind.RESPONSE, before)
    if (conversation := conversation_of(fields)) is not None:
        yield conversation
    given = fields.get("input")
    for item in given if isinstance(given, list) else ():
        # OpenAI takes an item for a reference that has an id and no type, too.
        if isinstance(item, Mapping) and item.get("type") in ("item_reference", None) and "role" not in item:
            named = item.get("id")
            if isinstance(named, str) and named:
                yield StoredId(Kind.ITEM, named)


def made(said: Mapping[str, Any]) -> Iterator[StoredId]:
    """Yield the ids that an answer, or an event of one, makes known."""
    kind = said.get("type")
    if kind is None:
        yield from _made(said)
    elif isinstance(said.get("response"), Mapping):
        yield from _made(said["response"])
    elif isinstance(said.get("item"), Mapping):
        yield from _named(Kind.ITEM, said["item"])


def _made(response: Mapping[str, Any]) -> Iterator[StoredId]:
    if response.get("object") == "response":
        yield from _named(Kind.RESPONSE, response)
        output = response.get("output")
        for item in output if isinstance(output, list) else ():
            if isinstance(item, Mapping):
                yield from _named(Kind.ITEM, item)


def _named(kind: Kind, thing: Mapping[str, Any]) -> Iterator[StoredId]:
    if isinstance(named := thing.get("id"), str) and named:
        yield StoredId(kind, named)
