"""Stores responses and conversations as OpenAI does, for the recording provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from starlette.responses import JSONResponse, Response, StreamingResponse

Item = dict[str, Any]


@dataclass
class Stored:
    """Holds one response.

    Attributes:
        said: all items before its answer, those of the turns before it included.
        new: the items of its own request.
        events: those of its stream.
        polls: how many more requests find it at work.
    """

    response: dict[str, Any]
    said: list[Item]
    new: list[Item]
    events: list[str]
    polls: int = 0


@dataclass
class StoredResponses:
    """Holds what a provider stores."""

    responses: dict[str, Stored] = field(default_factory=dict)
    conversations: dict[str, list[Item]] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def new_id(self, kind: str) -> str:
        return f"{kind}_{next(self._numbers):04}{'0' * 28}"

    def said(self, asked: dict[str, Any]) -> tuple[list[Item], list[Item]] | Response:
        """Return all items of the conversation that a request continues, and those of the request itself."""
        new: list[Item] = []
        for item in _items(asked.get("input")):
            if item.get("type") == "item_reference":
                if item["id"] not in self.items:
                    return _error(404, f"Item with id '{item['id']}' not found.", "input")
                new.append(self.items[item["id"]])
            else:
                item = item | {"id": item.get("id") or self.new_id("msg")}
                self.items[item["id"]] = item
                new.append(item)
        before: list[Item] = []
        if previous := asked.get("previous_response_id"):
            if previous not in self.responses:
                return _error(400, f"Previous response with id '{previous}' not found.", "previous_response_id")
            stored = self.responses[previous]
            before = [*stored.said, *stored.response["output"]]
        if conversation := asked.get("conversation"):
            before = self.conversations.setdefault(conversation, [])
        return [*before, *new], new

    def keep(self, asked: dict[str, Any], stored: Stored) -> None:
        output = stored.response["output"]
        self.items.update({item["id"]: item for item in output})
        if asked.get("store") is not False:
            self.responses[stored.response["id"]] = stored
        if conversation := asked.get("conversation"):
            self.conversations[conversation] = [*stored.said, *output]

    def managed(self, method: str, path: str, query: dict[str, str]) -> Response | None:
        """Answer a request about a stored response; None where it is none."""
        _, _, rest = path.partition("/responses/")
        name, _, action = rest.partition("/")
        if not name:
            return None
        if name not in self.responses:
            return _error(404, f"Response with id '{name}' not found.", "response_id")
        stored = self.responses[name]
        if method == "DELETE" and not action:
            del self.responses[name]
            return JSONResponse({"id": name, "object": "response", "deleted": True})
        if method == "POST" and action == "cancel":
            if not stored.response.get("background"):
                return _error(400, "Only responses with background=true can be cancelled.", None)
            stored.response |= {"status": "cancelled", "output": []}
            stored.polls = 0
            return JSONResponse(stored.response)
        if method == "GET" and action == "input_items":
            return JSONResponse(_listed(stored.said, query))
        if method == "GET" and not action:
            if query.get("stream") == "true":
                after = int(query.get("starting_after", -1))
                events = [event for at, event in enumerate(stored.events) if at > after]
                return StreamingResponse(iter(events), media_type="text/event-stream")
            if stored.polls:
                stored.polls -= 1
                return JSONResponse(stored.response | {"status": "in_progress", "output": [], "usage": None})
            return JSONResponse(stored.response)
        return _error(404, "Invalid URL", None)


def _items(given: Any) -> list[Item]:
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    return [{"type": "message", **item, **_content(item)} for item in given]


def _content(item: Item) -> Item:
    said = item.get("content")
    return {"content": [{"type": "input_text", "text": said}]} if isinstance(said, str) else {}


def _listed(items: list[Item], query: dict[str, str]) -> dict[str, Any]:
    ordered = items if query.get("order") == "asc" else items[::-1]
    ids = [item["id"] for item in ordered]
    start = ids.index(query["after"]) + 1 if query.get("after") else 0
    limit = int(query.get("limit", 20))
    page = ordered[start : start + limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": start + limit < len(ordered),
    }


def _error(status: int, message: str, param: str | None) -> Response:
    body = {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": None}}
    return Response(json.dumps(body), status, media_type="application/json")
