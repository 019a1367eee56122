"""Runs a model provider on loopback that records requests, and answers, waits or breaks as a test says."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.app_server import AppServer
from tests.support.process import free_port
from tests.support.stored_responses import Stored, StoredResponses


@dataclass(frozen=True)
class Arrival:
    """Holds one request as it arrived.

    Attributes:
        target: path and query, as they stood in the request.
        headers: in their order, names in lower case.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def everything(self) -> bytes:
        """Return all of the request as one text."""
        head = "\n".join((self.method, self.target, *(f"{name}: {value}" for name, value in self.headers)))
        return head.encode("utf-8", "replace") + b"\n" + self.body


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


class Upstream:
    """Speaks enough of OpenAI's API for every governed route.

    Attributes:
        requests: `(path, body)` of everything that arrived, but for LiteLLM's own look at what models there are, which
            it takes when it starts and every five minutes, whatever is called.
        arrivals: the same with all that came with it, in the same order.
        delay_s: wait before the first byte of an answer.
        holds: wait before it until this is set.
        chunk_delay_s: wait between chunks of a stream.
        status: answer with this instead of 200.
        error_headers: headers of such an answer.
        tool: name and JSON arguments of a tool that a plain chat answer asks for, and every answer of /responses until
            the request brings the tool's result.
        says: what a model answers, from the text of the request's body; a stream brings it three characters at a time.
        breaks: how an answer goes wrong: `cut` closes the connection in the middle, `ends` leaves out a stream's end,
            `unsaid` its last line alone, `half` is JSON that stops, `no json` is a proxy's page under the right type,
            `page` the same under its own.
        sends: that many bytes of one text instead, in a stream one event; `says_size` has it say so in its headers.
        location: where an answer with a status of 3xx leads to.
        on_request: called before the answer, in the server's thread.
        fails: says of a body whether it is answered with 500.
        stored: the responses that it stores; None: it stores none, and each is `resp_1`. What it stores it reads again:
            `says` then gets all items of a conversation. A response in the background is at work for one request.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes]] = []
        self.arrivals: list[Arrival] = []
        self.delay_s = 0.0
        self.holds: threading.Event | None = None
        self.chunk_delay_s = 0.0
        self.status = 200
        self.error_headers: dict[str, str] = {}
        self.tool: tuple[str, str] | None = None
        self.says: Callable[[str], str] | None = None
        self.breaks: str | None = None
        self.sends = 0
        self.says_size = False
        self.location: str | None = None
        self.on_request: Callable[[], None] | None = None
        self.fails: Callable[[bytes], bool] | None = None
        self.stored: StoredResponses | None = None
        self.port = free_port()
        routes = [
            Route("/v1/models", _models, methods=["GET"]),
            Route("/{path:path}", self._answer, methods=["POST", "GET", "DELETE"]),
        ]
        self._server = AppServer(Starlette(routes=routes), self.port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def reset(self) -> None:
        self.requests.clear()
        self.arrivals.clear()
        self.delay_s = self.chunk_delay_s = 0.0
        self.holds = None
        self.status = 200
        self.error_headers = {}
        self.tool = None
        self.says = None
        self.breaks = None
        self.sends = 0
        self.says_size = False
        self.location = None
        self.on_request = None
        self.fails = None
        self.stored = None

    @property
    def received(self) -> str:
        """Return everything that arrived, as text."""
        return "\n".join(body.decode("utf-8", "replace") for _, body in self.requests)

    def close(self, *, force: bool = False) -> None:
        self._server.close(force=force)

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        path = request.url.path
        self.requests.append((path, body))
        self.arrivals.append(arrival_of(request, body))
        if self.on_request is not None:
            self.on_request()
        await asyncio.sleep(self.delay_s)
        if self.holds is not None:
            await asyncio.to_thread(self.holds.wait)
        status = 500 if self.fails is not None and self.fails(body) else self.status
        if status != 200:
            return JSONResponse(
                {"error": {"message": "upstream says no", "type": "server_error"}},
                status_code=status,
                headers=self.error_headers | ({"location": self.location} if self.location else {}),
            )
        if path.endswith("/audio/speech"):
            return Response(b"ID3-not-really-audio", media_type="audio/mpeg")
        asked = json.loads(body) if body.startswith(b"{") else {}
        is_response = path.endswith("/responses")
        if self.stored is not None and "/responses" in path:
            return self._stored(self.stored, request, asked)
        pieces = ["Hello", " from", " upstream"]
        if self.says is not None:
            said = self.says(body.decode("utf-8", "replace"))
            pieces = [said[at : at + 3] for at in range(0, len(said), 3)]
        if self.sends:
            size = {"content-length": str(self.sends)} if self.says_size else {}
            beginning = 'data: {"text": "' if asked.get("stream") else '{"text": "'
            return StreamingResponse(_long(beginning, self.sends), media_type=_type_of(asked), headers=size)
        if self.breaks in ("no json", "page"):
            kind = "text/html" if self.breaks == "page" else _type_of(asked)
            return Response(_PAGE, media_type=kind)
        if asked.get("stream"):
            events = _response_events(self._output(asked, pieces)) if is_response else _events(path, pieces)
            if self.breaks is not None:
                events = _broken(events, self.breaks)
            return StreamingResponse(self._paced(events), media_type="text/event-stream")
        if is_response:
            waits = asked.get("background") is True  # its answer would be fetched later
            output = [] if waits else [item for item, _ in self._output(asked, pieces)]
            answer = _response_object("queued" if waits else "completed", output)
        else:
            answer = _answer_to(path, "".join(pieces))
        if self.tool is not None and path.endswith("/chat/completions"):
            name, arguments = self.tool
            call = {"id": "t1", "type": "function", "function": {"name": name, "arguments": arguments}}
            answer["choices"][0] |= {
                "finish_reason": "tool_calls",
                "message": {"role": "assistant", "tool_calls": [call]},
            }
        if self.breaks == "half":
            return Response(json.dumps(answer)[:-40], media_type="application/json")
        if self.breaks == "cut":
            return StreamingResponse(self._paced([json.dumps(answer)[:-40]]), media_type="application/json")
        return JSONResponse(answer)

    def _stored(self, kept: StoredResponses, request: Request, asked: dict[str, Any]) -> Response:
        managed = kept.managed(request.method, request.url.path, dict(request.query_params))
        if managed is not None:
            return managed
        found = kept.said(asked)
        if isinstance(found, Response):
            return found
        said, new = found
        text = "Hello from upstream" if self.says is None else self.says(json.dumps(said, ensure_ascii=False))
        output = self._output(asked, [text[at : at + 3] for at in range(0, len(text), 3)])
        for item, events in output:
            item["id"] = kept.new_id(item["type"][:3])
            events[0][1]["item"]["id"] = item["id"]
        waits = asked.get("background") is True
        given = {name: asked.get(name) for name in ("background", "previous_response_id", "conversation")}
        given |= {"id": kept.new_id("resp"), "store": asked.get("store") is not False}
        answer = _response_object("completed", [item for item, _ in output]) | given
        stream = _response_events(output, given)
        kept.keep(asked, Stored(answer, said, new, stream, int(waits)))
        if asked.get("stream"):
            return StreamingResponse(self._paced(stream), media_type="text/event-stream")
        return JSONResponse(answer | {"status": "queued", "output": [], "usage": None} if waits else answer)

    def _output(self, asked: dict[str, Any], pieces: list[str]) -> list[_Item]:
        """Return a response's output: reasoning where the request asks for it, then a call of the tool, or the text."""
        said = asked.get("input")
        told = [item.get("type") for item in said if isinstance(item, dict)] if isinstance(said, list) else []
        thought = [_reasoning()] if "reasoning.encrypted_content" in (asked.get("include") or []) else []
        if self.tool is not None and "function_call_output" not in told:
            return [*thought, _function_call(*self.tool)]
        return [*thought, _message(pieces)]

    async def _paced(self, events: list[str]) -> AsyncIterator[str]:
        for event in events:
            yield event
            await asyncio.sleep(self.chunk_delay_s)
        if self.breaks == "cut":
            raise ConnectionResetError("as told")


def arrival_of(request: Request, body: bytes) -> Arrival:
    """Return a request as it arrived."""
    query = request.url.query
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw)
    return Arrival(request.method, request.url.path + (f"?{query}" if query else ""), headers, body)


async def _models(request: Request) -> Response:
    return JSONResponse({"object": "list", "data": [{"id": "up", "object": "model", "owned_by": "tests"}]})


async def _long(beginning: str, size: int) -> AsyncIterator[bytes]:
    yield beginning.encode()
    left = size - len(beginning)
    while left > 0:
        piece = min(left, 1_000_000)
        yield b"a" * piece
        left -= piece


_PAGE = "<html><body>502 Bad Gateway</body></html>"


def _type_of(asked: dict[str, Any]) -> str:
    return "text/event-stream" if asked.get("stream") else "application/json"


def _broken(events: list[str], how: str) -> list[str]:
    """Return the events of a stream that breaks after its answer began."""
    if how == "unsaid":
        return [event for event in events if "[DONE]" not in event]
    first = next((at for at, event in enumerate(events) if ".delta" in event), 2)
    begun = events[: max(first, 2) + 1]
    return [*begun, events[len(begun)][:30]] if how == "half" else begun


def _events(path: str, pieces: list[str]) -> list[str]:
    return _message_events(pieces) if path.endswith("/messages") else _chat_events(path, pieces)


def _chat_events(path: str, pieces: list[str]) -> list[str]:
    text = "text" if path.endswith("/completions") and "chat" not in path else None
    events = []
    for piece in (*pieces, None):
        choice: dict[str, Any] = {"index": 0, "finish_reason": None if piece else "stop"}
        choice |= {text: piece or ""} if text else {"delta": {"content": piece} if piece else {}}
        events.append({"id": "u1", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": [choice]})
    events.append(
        {"id": "u1", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": [], "usage": USAGE}
    )
    return [f"data: {json.dumps(event)}\n\n" for event in events] + ["data: [DONE]\n\n"]


def _message_events(pieces: list[str]) -> list[str]:
    message = _answer_to("/messages", "") | {"content": [], "stop_reason": None}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in pieces
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]


# An item of a response as it is when it is complete, and the events that bring it: type, and fields.
_Item: TypeAlias = tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]
# What only the provider can read, as OpenAI writes it; it has to come back as it is.
ENCRYPTED_REASONING = "gAAAAABo" + base64.urlsafe_b64encode(b"what the model thought" * 20).decode()


def _message(pieces: list[str]) -> _Item:
    text = "".join(pieces)
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    item = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [part]}
    return item, [
        ("output_item.added", {"item": item | {"status": "in_progress", "content": []}}),
        ("content_part.added", {"content_index": 0, "part": part | {"text": ""}}),
        *(("output_text.delta", {"content_index": 0, "delta": piece, "logprobs": []}) for piece in pieces),
        ("output_text.done", {"content_index": 0, "text": text, "logprobs": []}),
        ("content_part.done", {"content_index": 0, "part": part}),
    ]


def _function_call(name: str, arguments: str) -> _Item:
    item = {"type": "function_call", "id": "fc1", "call_id": "t1", "name": name, "arguments": arguments}
    item["status"] = "completed"
    return item, [
        ("output_item.added", {"item": item | {"status": "in_progress", "arguments": ""}}),
        *(("function_call_arguments.delta", {"delta": arguments[at : at + 3]}) for at in range(0, len(arguments), 3)),
        ("function_call_arguments.done", {"arguments": arguments, "name": name}),
    ]


def _reasoning() -> _Item:
    summary = {"type": "summary_text", "text": "Thinking."}
    item = {"type": "reasoning", "id": "rs1", "summary": [summary], "encrypted_content": ENCRYPTED_REASONING}
    return item, [
        ("output_item.added", {"item": item | {"summary": []}}),
        ("reasoning_summary_part.added", {"summary_index": 0, "part": summary | {"text": ""}}),
        ("reasoning_summary_text.delta", {"summary_index": 0, "delta": summary["text"]}),
        ("reasoning_summary_text.done", {"summary_index": 0, "text": summary["text"]}),
        ("reasoning_summary_part.done", {"summary_index": 0, "part": summary}),
    ]


def _response_object(status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    usage = {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 5,
    }
    unset = ("error", "incomplete_details", "instructions", "max_output_tokens", "previous_response_id", "user")
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "up",
        "output": output,
        "usage": usage if status == "completed" else None,
        "parallel_tool_calls": False,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "metadata": {},
        **dict.fromkeys(unset),
    }


def _response_events(output: list[_Item], given: dict[str, Any] | None = None) -> list[str]:
    given = given or {}
    begun = {"response": _response_object("in_progress", []) | given}
    events = [("created", begun), ("in_progress", begun)]
    for index, (item, inner) in enumerate(output):
        place = {"output_index": index}
        events += [
            (kind, place | ({} if kind == "output_item.added" else {"item_id": item["id"]}) | own)
            for kind, own in inner
        ]
        events.append(("output_item.done", place | {"item": item}))
    events.append(("completed", {"response": _response_object("completed", [item for item, _ in output]) | given}))
    numbered = [{"type": f"response.{kind}", "sequence_number": n, **own} for n, (kind, own) in enumerate(events)]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in numbered]


def _answer_to(path: str, text: str) -> dict[str, Any]:
    if path.endswith("/embeddings"):
        vector = {"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}
        return {"object": "list", "model": "up", "data": [vector], "usage": {"prompt_tokens": 3, "total_tokens": 3}}
    if path.endswith("/invocations"):  # as SageMaker answers
        return {"embedding": [[0.1, 0.2]]}
    if path.endswith("/moderations"):
        return {"id": "mod1", "model": "up", "results": [{"flagged": False, "categories": {}, "category_scores": {}}]}
    if path.endswith("/rerank"):
        found = {"index": 0, "relevance_score": 0.9, "document": {"text": text}}
        return {"id": "rerank1", "results": [found], "usage": {"total_tokens": 3}}
    if path.endswith("/images/generations"):
        return {"created": 1, "data": [{"url": "http://127.0.0.1/image.png", "revised_prompt": text}]}
    if path.endswith("/audio/transcriptions"):
        return {"text": text}
    if path.endswith("/messages"):
        content = [{"type": "text", "text": text}]
        usage = {"input_tokens": 3, "output_tokens": 2}
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "up",
            "content": content,
            "stop_reason": "end_turn",
            "usage": usage,
        }
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
    if path.endswith("/chat/completions"):
        choice["message"] = {"role": "assistant", "content": text}
    else:
        choice["text"] = text
    return {"id": "u1", "object": "chat.completion", "created": 1, "model": "up", "choices": [choice], "usage": USAGE}
