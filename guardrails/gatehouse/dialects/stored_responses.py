"""Reads requests about a response that the provider stores: to fetch, cancel or delete it, or to list its input.

They have an id in their path and parameters in their query, and send no content.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from urllib.parse import parse_qsl

from gatehouse.core.errors import InvalidRequest
from gatehouse.dialects.conversations import Kind, StoredId


class Action(StrEnum):
    """Name what a request does with a stored response, as LiteLLM's hooks name it."""

    FETCH = "aget_responses"
    DELETE = "adelete_responses"
    CANCEL = "acancel_responses"
    LIST_INPUT = "alist_input_items"


_PATH: Final = re.compile(r"((?:(?:/openai)?/v1)?/responses/)([^/]+)(/cancel|/input_items)?")
_ACTIONS: Final = {
    ("GET", None): Action.FETCH,
    ("DELETE", None): Action.DELETE,
    ("POST", "/cancel"): Action.CANCEL,
    ("GET", "/input_items"): Action.LIST_INPUT,
}
_ID: Final = re.compile(r"[A-Za-z0-9_.:=+-]{1,256}", re.ASCII)
_WORD: Final = re.compile(r"[a-z_.]{1,64}", re.ASCII)
_MAX_ITEMS: Final = 100
_MAX_NUMBER: Final = 9


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """Hold one request about a stored response.

    Attributes:
        id: as the client writes it.
        route: the path with a name in the place of the id.
        parameters: those of its query.
    """

    action: Action
    id: StoredId
    route: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def for_engine(self) -> dict[str, Any]:
        """Return the parameters that LiteLLM knows."""
        known = dict(self.parameters) if self.action is Action.LIST_INPUT else {}
        return {"stream": True} if self.parameters.get("stream") else known


def stored_response(method: str, path: str) -> StoredResponse | None:
    """Read a method and a path; return None where they are no request about a stored response."""
    match = _PATH.fullmatch(path)
    action = _ACTIONS.get((method, match[3])) if match else None
    if match is None or action is None or (action is Action.FETCH and match[2] in ("compact", "input_tokens")):
        return None
    return StoredResponse(action, StoredId(Kind.RESPONSE, match[2]), f"{match[1]}{{response_id}}{match[3] or ''}")


def parameters(action: Action, query: str) -> dict[str, Any]:
    """Return the API's parameters of a query, and leave out others.

    Raises:
        InvalidRequest: one has no value that the API gives it, or stands there twice.
    """
    given: dict[str, Any] = {}
    for name, value in _given(action, query):
        if name == "include":
            given.setdefault(name, []).append(value)
        elif name in given:
            raise _refused(name, "it stands there twice")
        else:
            given[name] = value
    return given


def _given(action: Action, query: str) -> Iterator[tuple[str, Any]]:
    for written, value in parse_qsl(query, keep_blank_values=True, max_num_fields=64):
        name = written.removesuffix("[]")
        if action is Action.LIST_INPUT and name in ("after", "before"):
            yield name, _checked(name, value, _ID, "the id of an item")
        elif action is Action.LIST_INPUT and name == "order":
            yield name, _checked(name, value, re.compile("asc|desc"), "asc or desc")
        elif action is Action.LIST_INPUT and name == "limit":
            yield name, _number(name, value, 1, _MAX_ITEMS)
        elif action is Action.FETCH and name == "starting_after":
            yield name, _number(name, value, 0, 10**_MAX_NUMBER)
        elif action is Action.FETCH and name in ("stream", "include_obfuscation"):
            yield name, _checked(name, value, re.compile("true|false"), "true or false") == "true"
        elif action in (Action.FETCH, Action.LIST_INPUT) and name == "include":
            yield name, _checked(name, value, _WORD, "the name of a field")


def _checked(name: str, value: str, form: re.Pattern[str], expected: str) -> str:
    if form.fullmatch(value) is None:
        raise _refused(name, f"{expected} was expected")
    return value


def _number(name: str, value: str, least: int, most: int) -> int:
    fits = value.isascii() and value.isdecimal() and len(value) <= _MAX_NUMBER
    if not fits or not least <= int(value) <= most:
        raise _refused(name, f"a number from {least} to {most} was expected")
    return int(value)


def _refused(name: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{name}: {why}. Correct it and ask again.", param=name)
