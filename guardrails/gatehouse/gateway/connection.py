"""The ASGI connection of one governed call: it notices who leaves, passes the answer on, or sends an error instead."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection, Iterable
from typing import Protocol

from gatehouse.core.errors import GovernanceError, ProviderFailed, UpstreamFailed
from gatehouse.core.http import CALL_ID_HEADER, EDITED_HEADER, Message, Receive, Scope, Send
from gatehouse.gateway.passthrough import Passthrough, Reply, request_id_header
from gatehouse.pipeline.response import Answers, error_event
from gatehouse.pipeline.scope import CallScope

# After this line of a stream its reader may leave and send the next request. No text of a model can look like it,
# because JSON escapes a line break.
_LAST_LINE = re.compile(rb"^(?:data: ?\[DONE\]|event: ?message_stop)\r?$", re.MULTILINE)


class Settler(Protocol):
    """Describe what the middleware needs of the pipeline."""

    def conclude(self, scope: CallScope) -> None: ...

    def answers(self, scope: CallScope) -> Answers | None: ...

    def block_answer(self, scope: CallScope, error: GovernanceError) -> None: ...

    def note_delivered(self, scope: CallScope) -> None: ...

    async def keep(self, scope: CallScope, answers: Answers) -> None: ...


class Slots(Protocol):
    """Hold what LiteLLM lets one caller have only so many of at a time."""

    async def release(self) -> None: ...

    def leave(self) -> None: ...


class NoSlots:
    """Stand for the slots of a call that takes none."""

    async def release(self) -> None: ...

    def leave(self) -> None: ...


class Connection:
    """Follow the client and the answer, and pass on what the pipeline allows.

    Args:
        body: the request's body, which was read already.
        slots: slots to give back before the caller has the whole answer.
    """

    def __init__(
        self,
        call: CallScope,
        scope: Scope,
        receive: Receive,
        send: Send,
        settler: Settler,
        body: bytes = b"",
        slots: Slots | None = None,
    ) -> None:
        self.complete = False
        self._call = call
        self._scope = scope
        self._receive = receive
        self._send = send
        self._settler = settler
        self._asked: bytes | None = body
        self._slots = slots or NoSlots()
        self._over = False
        self._answers: Answers | None = None
        self._passthrough = Passthrough(call)
        self._is_stream = False
        self._start: Message | None = None  # the start of an answer that is held back until it is whole
        self._body = bytearray()
        self._at_line_start = True
        self._watch: asyncio.Task[Message] | None = None

    async def receive(self) -> Message:
        """Return the request's body, and after that the client's disconnect once it has left."""
        if self._watch is None:
            self._watch = asyncio.create_task(self._disconnect())
        if self._asked is not None:
            body, self._asked = self._asked, None
            return {"type": "http.request", "body": body, "more_body": False}
        return await asyncio.shield(self._watch)

    async def _disconnect(self) -> Message:
        while (message := await self._receive())["type"] != "http.disconnect":
            pass
        self._gone()
        return message

    def _gone(self) -> None:
        self._call.ending.client_gone = not self.complete
        self._call.left.set()
        if not self.complete:
            self._slots.leave()

    async def send(self, message: Message) -> None:
        """Pass the answer on, or send an error if a stage refused the call or the answer."""
        if self._over:
            return
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif message["type"] != "http.response.body":
            await self._send(message)
        elif self._call.refusal is not None:  # the stream was kept alive while the call was held
            await self._end(self._call.refusal)
        elif (failed := self._failed()) is not None and not _is_ping(message):
            await self._end(failed)  # LiteLLM may still try another model
        elif self._start is not None:
            await self._whole(self._start, message)
        elif self._is_stream:
            await self._piece(message)
        else:
            await self._pass(message)

    def _failed(self) -> ProviderFailed | None:
        """Return why there is no answer; a provider's own words on it are better than that every attempt failed."""
        sending = self._call.sending
        tried = isinstance(sending.provider_failed, UpstreamFailed) and sending.error is not None
        return None if tried else sending.provider_failed

    async def _begin(self, message: Message) -> None:
        if self._call.refusal is None and message["status"] != 401:
            self._call.refusal = self._call.incoming.fault
        instead = self._call.refusal or self._failed()
        if instead is not None:
            await self._instead(instead)
            return
        self._call.ending.http_status = message["status"]
        message["headers"] = [*_without(message.get("headers", ()), _INNER), (CALL_ID_HEADER, self._call_id)]
        edit = self._call.approval.edit if self._call.approval is not None else None
        if edit is not None:
            message["headers"].append((EDITED_HEADER, ",".join(edit.row).encode()))
        kind = _content_type(message)
        self._answers = None if kind.startswith(_SAYS_NOTHING) else self._settler.answers(self._call)
        if message["status"] >= 400:
            self._start = message
            return
        _add(message, self._passthrough.headers())
        self._is_stream = kind == "text/event-stream"
        if self._is_stream:
            message["headers"] = _without(message["headers"], (b"content-length",))
        elif self._answers is not None or self._passthrough.takes(kind):
            self._start = message
            return
        await self._send(message)

    @property
    def _call_id(self) -> bytes:
        return str(self._call.call_id).encode()

    async def _whole(self, start: Message, message: Message) -> None:
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        kind, body = _content_type(start), bytes(self._body)
        if start["status"] >= 400:
            reply = self._passthrough.error(Reply(start["status"], (), kind, body))
            kind, body = reply.kind, reply.body
            start["status"] = self._call.ending.http_status = reply.status
            start["headers"] = _without(start["headers"], (b"content-type",))
            _add(start, (("content-type", kind), *reply.headers))
        elif kind == "application/json":
            body = self._passthrough.whole(body)
        try:
            body = self._screened(kind, body)
        except GovernanceError as error:
            self._settler.block_answer(self._call, error)
            await self._instead(error)
            return
        if self._answers is not None:
            await self._settler.keep(self._call, self._answers)
        headers = _without(start["headers"], (b"content-length",))
        await self._send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
        await self._pass({"type": "http.response.body", "body": body})

    def _screened(self, kind: str, body: bytes) -> bytes:
        """Return a whole answer as the caller gets it.

        Raises:
            GovernanceError: it may not be passed on.
        """
        answers = self._answers
        if answers is None or not body:
            return body
        if kind == "text/event-stream":
            return answers.push(body) + answers.end()
        return answers.whole(body) if kind == "application/json" else answers.text(body)

    async def _piece(self, message: Message) -> None:
        more = bool(message.get("more_body"))
        body = self._passthrough.piece(message.get("body", b""), last=not more)
        try:
            if self._answers is not None:
                body = self._answers.push(body)
                if not more:
                    body += self._answers.end()
        except GovernanceError as error:
            self._settler.block_answer(self._call, error)
            await self._end(error)
            return
        if self._answers is not None:
            await self._settler.keep(self._call, self._answers)
        if body or not more:
            await self._pass({"type": "http.response.body", "body": body, "more_body": more})

    async def _end(self, error: GovernanceError) -> None:
        """End a stream that has begun. The server then tells the app inside that the client has left."""
        self._over = self.complete = True
        await self._slots.release()
        call_type = self._call.call.call_type if self._call.call else ""
        body = error_event(call_type, error, str(self._call.call_id))
        # What is cut off in the middle of an event must not become the beginning of this one.
        await self._send({"type": "http.response.body", "body": body if self._at_line_start else b"\n\n" + body})

    async def _pass(self, message: Message) -> None:
        body = message.get("body", b"")
        self._call.ending.delivered.add(body)
        # Codex hangs up once it has read the last event, and does not wait for the end of the connection.
        if not message.get("more_body") or (self._answers is not None and self._answers.over):
            self.complete = not self._call.ending.client_gone
            if self.complete:
                self._settler.note_delivered(self._call)
            await self._slots.release()
        elif (last := _LAST_LINE.search(body)) and (last.start() or self._at_line_start):
            await self._slots.release()
        if body:
            self._at_line_start = body.endswith((b"\n", b"\r"))
        await self._send(message)

    async def _instead(self, error: GovernanceError) -> None:
        self._over = self.complete = True
        self._call.ending.http_status = error.status_on(self._scope["path"])
        await self._slots.release()
        await answer(self._scope, self._send, error, self._call)

    def close(self) -> None:
        """Note that the app inside has finished the call."""
        if self._watch is not None:
            self._watch.cancel()


async def answer(scope: Scope, send: Send, error: GovernanceError, call: CallScope | None) -> None:
    """Answer with an error, in OpenAI's shape (`anthropic_errors.py` changes it where that is not the route's)."""
    call_id = str(call.call_id) if call else None
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": error.code})
        return
    headers = [(b"content-type", b"application/json")]
    headers += [(name.encode(), value.encode()) for name, value in error.headers.items()]
    if call_id:
        headers += [(name, call_id.encode()) for name in (CALL_ID_HEADER, request_id_header(scope["path"]).encode())]
    await respond(send, error.status_on(scope["path"]), json.dumps(error.body(call_id)).encode(), headers)


async def respond(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """Send a whole response."""
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _is_ping(message: Message) -> bool:
    """Tell whether LiteLLM's message only keeps a stream alive."""
    return bool(message.get("body", b"").startswith((b":", b"event: ping")))


# Headers of LiteLLM's that say where a model is.
_INNER = (b"x-litellm-model-api-base",)


def _without(headers: Iterable[tuple[bytes, bytes]], names: Collection[bytes]) -> list[tuple[bytes, bytes]]:
    return [pair for pair in headers if pair[0].lower() not in names]


def _add(start: Message, headers: Iterable[tuple[str, str]]) -> None:
    """Set headers, in place of those of the same name."""
    added = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    start["headers"] = [*_without(start["headers"], [name for name, _ in added]), *added]


# Types of answers that hold no words; every other answer is read as JSON or as text.
_SAYS_NOTHING = ("audio/", "image/", "video/", "application/octet-stream")


def _content_type(start: Message) -> str:
    kind = next((value for name, value in start["headers"] if name.lower() == b"content-type"), b"")
    return str(kind.decode("latin-1").partition(";")[0].strip().lower())
