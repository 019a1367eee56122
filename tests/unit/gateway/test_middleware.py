"""The middleware sees every call to its end, whatever the app inside does."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from gatehouse.core.errors import GovernanceError, GovernanceUnavailable, UpstreamCutOff
from gatehouse.core.http import SENDER, Message, Receive, Scope, Send
from gatehouse.gateway.connection import NoSlots
from gatehouse.gateway.middleware import GovernanceMiddleware
from gatehouse.pipeline.response import Answers
from gatehouse.pipeline.scope import CallScope, current_scope

from tests.support.edge import edge


class Settled:
    def __init__(self, answers: Answers | None = None) -> None:
        self.calls: list[CallScope] = []
        self.sent: list[Message] = []
        self.kept_after: list[int] = []
        self._answers = answers

    def conclude(self, scope: CallScope) -> None:
        scope.ending.settled = True
        self.calls.append(scope)

    def answers(self, scope: CallScope) -> Answers | None:
        return self._answers

    async def keep(self, *_: Any) -> None:
        await asyncio.sleep(0)
        self.kept_after.append(sum(bool(message.get("body")) for message in self.sent))

    def note_delivered(self, scope: CallScope) -> None:
        """Note nothing."""

    def block_answer(self, scope: CallScope, error: GovernanceError) -> None:
        raise AssertionError("nothing is screened here")


class Slots:
    """Notes how much of the answer the caller had when the slots were given back."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.released_after: list[int] = []
        self.left = False

    async def release(self) -> None:
        self.released_after.append(len(self.sent))

    def leave(self) -> None:
        self.left = True


async def drive(
    app: Any,
    *,
    path: str = "/v1/chat/completions",
    armed: bool = True,
    leave: bool = False,
    method: str = "POST",
    body: bytes = b"{}",
    query: bytes = b"",
    slots: Slots | None = None,
    answers: Answers | None = None,
) -> tuple[list[Message], Settled]:
    settled = Settled(answers)
    middleware = GovernanceMiddleware(
        app,
        armed=lambda: armed,
        metrics_token=None,
        grace_s=0.05,
        edge=edge(),
        slots=(lambda: slots) if slots else NoSlots,
    )
    middleware.settler = settled
    sent: list[Message] = slots.sent if slots else settled.sent
    first = True

    async def receive() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        if not leave:
            await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": query}
    try:
        await middleware(scope, receive, send)
    finally:
        await asyncio.sleep(0.1)
    return sent, settled


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def test_a_call_gets_an_id_that_is_in_the_answer_and_in_the_scope() -> None:
    seen: list[CallScope | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(current_scope.get())
        await answer(scope, receive, send)

    sent, settled = await drive(app)
    (call,) = settled.calls
    assert seen == [call]
    assert (b"x-gatehouse-call-id", str(call.call_id).encode()) in sent[0]["headers"]
    assert current_scope.get() is None


async def test_a_call_is_settled_when_the_app_breaks() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("a bug inside")

    with pytest.raises(RuntimeError):
        await drive(app)


async def test_a_client_that_left_is_noticed_while_the_app_works() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        call = current_scope.get()
        assert call is not None
        call.intent = True
        await receive()
        await asyncio.sleep(0.02)
        assert call.ending.client_gone
        assert (await receive())["type"] == "http.disconnect"

    _, settled = await drive(app, leave=True)
    assert settled.calls[0].ending.client_gone


DELTA = b'data: {"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"hi"}\n\n'
DONE = b'data: {"type":"response.output_text.done","output_index":0,"content_index":0,"text":"hi"}\n\n'
LAST = b'data: {"type":"response.completed","response":{"output":[]}}\n\n'


@pytest.mark.parametrize(("sent_before", "gone"), [((DELTA, DONE, LAST), False), ((DELTA, DONE), True)])
async def test_a_client_that_leaves_after_the_last_event_of_a_stream_has_had_its_answer(
    sent_before: tuple[bytes, ...], gone: bool
) -> None:
    """Codex leaves like this: it does not wait for the connection's end."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        call = current_scope.get()
        assert call is not None
        call.intent = True
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for event in sent_before:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await receive()
        await receive()

    _, settled = await drive(app, leave=True, answers=Answers("aresponses", None, lambda text: None))
    assert settled.calls[0].ending.client_gone is gone


async def test_litellm_gets_a_moment_to_account_for_an_answered_call() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        call = current_scope.get()
        assert call is not None
        call.intent = True
        await answer(scope, receive, send)
        asyncio.get_running_loop().call_later(0.01, accounts_for, call)

    def accounts_for(call: CallScope) -> None:
        call.ending.settled = True
        assert call.ending.on_settled is not None
        call.ending.on_settled()

    _, settled = await drive(app)
    assert settled.calls == []


async def test_our_refusal_replaces_whatever_the_app_answers() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        call = current_scope.get()
        assert call is not None
        call.refusal = GovernanceUnavailable("not now")
        await send({"type": "http.response.start", "status": 500, "headers": [(b"x-inner", b"1")]})
        await send({"type": "http.response.body", "body": b"inner text"})

    sent, settled = await drive(app)
    assert sent[0]["status"] == 503
    assert (b"retry-after", b"2") in sent[0]["headers"]
    error = json.loads(sent[1]["body"])["error"]
    assert error["code"] == "governance_unavailable"
    assert error["gatehouse"]["call_id"] == str(settled.calls[0].call_id)
    assert len(sent) == 2


def streaming(*pieces: bytes) -> Any:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


@pytest.mark.parametrize(
    ("pieces", "before"),
    [
        ([b"data: a\n\n", b"data: [DONE]\n\n"], 2),
        ([b"event: x\ndata: {}\n\n", b"event: y\ndata: {}\n\nevent: message_stop\ndata: {}\n\n"], 2),
        ([b"data: a\r\n\r\n", b"data: [DONE]\r\n\r\n"], 2),
        # A text that says so is within a line, wherever the stream is cut.
        ([b'data: {"text": "data: [DONE]"}\n\n', b"data: b\n\n"], 3),
        ([b'data: {"text": "', b'data: [DONE]"}\n\n', b"data: b\n\n"], 4),
        ([b'data: {"text": "', b"data: [DONE]", b'"}\n\n'], 4),
        ([b"data: a\n\n", b"", b"data: [DONE]\n\n"], 2),
    ],
)
async def test_slots_are_given_back_before_the_caller_has_the_last_line(pieces: list[bytes], before: int) -> None:
    slots = Slots()
    await drive(streaming(*pieces), slots=slots)
    assert slots.released_after[0] == before


async def test_slots_are_given_back_however_the_app_ends() -> None:
    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("a bug inside")

    async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
        call = current_scope.get()
        assert call is not None
        call.refusal = GovernanceUnavailable("not now")
        await send({"type": "http.response.start", "status": 500, "headers": []})

    slots = Slots()
    with pytest.raises(RuntimeError):
        await drive(breaks, slots=slots)
    assert slots.released_after == [0]
    slots = Slots()
    await drive(refuses, slots=slots)
    assert slots.released_after[0] == 0


async def test_slots_hear_of_a_client_that_leaves_in_the_middle_and_of_none_that_has_all() -> None:
    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        assert (await receive())["type"] == "http.disconnect"

    slots = Slots()
    await drive(waits, slots=slots, leave=True)
    assert slots.left

    async def answers_first(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(scope, receive, send)
        await waits(scope, receive, send)

    slots = Slots()
    await drive(answers_first, slots=slots, leave=True)
    assert not slots.left


async def test_slots_of_a_route_that_is_not_governed_are_given_back_too() -> None:
    slots = Slots()
    await drive(answer, slots=slots, path="/models", method="GET")
    assert slots.released_after == [2]


async def test_a_stream_whose_provider_failed_ends_with_that_error() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        call = current_scope.get()
        assert call is not None
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: a\n\n", "more_body": True})
        call.sending.provider_failed = UpstreamCutOff("It stopped.")
        # LiteLLM may be about to try another model.
        await send({"type": "http.response.body", "body": b": ping\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": b"event: ping\ndata: {}\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    sent, _ = await drive(app)
    bodies = [message["body"] for message in sent[1:]]
    assert bodies[:3] == [b"data: a\n\n", b": ping\n\n", b"event: ping\ndata: {}\n\n"]
    assert len(bodies) == 4
    assert json.loads(bodies[3].splitlines()[0].removeprefix(b"data: "))["error"]["code"] == "upstream_cut_off"


async def test_without_the_plugin_nothing_reaches_the_app() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        pytest.fail("the app was called")

    sent, _ = await drive(app, armed=False)
    assert sent[0]["status"] == 500
    assert (b"x-should-retry", b"false") in sent[0]["headers"]


async def test_an_unknown_route_never_reaches_the_app() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        pytest.fail("the app was called")

    sent, settled = await drive(app, path="/v1/next-years-route")
    assert sent[0]["status"] == 403
    assert settled.calls == []


async def test_settings_that_carry_messages_never_reach_the_app() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("reached")

    body = json.dumps({"router_settings": {"fallbacks": [{"a": [{"messages": []}]}]}}).encode()
    for method, path in (("POST", "/key/generate"), ("PATCH", "/team/some-team"), ("PUT", "/v1/access_group/g")):
        sent, _ = await drive(app, method=method, path=path, body=body)
        assert sent[0]["status"] == 400
        assert json.loads(sent[1]["body"])["error"]["code"] == "invalid_request"


async def test_a_management_request_reaches_the_app_as_it_came() -> None:
    received: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        received.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    sent, _ = await drive(app, path="/key/generate", body=b'{"models": ["a"]}')
    assert (sent[0]["status"], received) == (200, [b'{"models": ["a"]}'])


async def test_a_route_of_our_own_is_told_who_sends_so_that_it_works_in_their_turns() -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope.get(SENDER))
        await answer(scope, receive, send)

    await drive(app, path="/governance/v1/decide")
    assert seen == ["address "]


async def test_metrics_stay_closed_without_a_token() -> None:
    sent, _ = await drive(answer, path="/metrics", method="GET")
    assert sent[0]["status"] == 401


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        (b"application/x-ndjson", True),
        (b"application/xml", True),
        (b"", True),
        (b"text/plain; charset=utf-8", True),
        (b"audio/mpeg", False),
        (b"application/octet-stream", False),
    ],
)
async def test_an_answer_is_read_whatever_it_calls_itself(kind: bytes, read: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", kind)] if kind else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"a word"})

    seen: list[str] = []
    await drive(app, answers=Answers("acompletion", None, seen.append))
    assert seen == (["a word"] if read else [])


# --- what the provider stores


async def test_what_a_provider_stores_is_kept_before_the_client_reads_any_of_it() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kind = b"text/event-stream" if json.loads((await receive())["body"]) else b"application/json"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        if kind == b"application/json":
            await send({"type": "http.response.body", "body": b'{"output": []}'})
            return
        for event in (DELTA, LAST):
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    for body, kept_after in ((b"{}", [0]), (b'{"stream": true}', [0, 1, 2])):
        _, settled = await drive(app, body=body, path="/v1/responses", answers=Answers("aresponses", None, None))
        assert settled.kept_after == kept_after


async def test_a_request_about_a_stored_response_has_its_parameters_and_no_id_in_its_record() -> None:
    seen: list[tuple[str, bytes]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope["path"], (await receive())["body"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    path = "/v1/responses/resp_1/input_items"
    _, settled = await drive(app, method="GET", path=path, body=b"", query=b"limit=2&order=asc&model=x")
    assert seen == [(path, b'{"limit":2,"order":"asc"}')]
    assert settled.calls[0].route == "/v1/responses/{response_id}/input_items"


@pytest.mark.parametrize(("body", "query"), [(b'{"model": "x"}', b""), (b"", b"limit=x"), (b"[]", b"")])
async def test_a_request_about_a_stored_response_has_nothing_else_to_say(body: bytes, query: bytes) -> None:
    faults: list[GovernanceError | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        call = current_scope.get()
        assert call is not None
        faults.append(call.incoming.fault)
        await answer(scope, receive, send)

    await drive(app, method="GET", path="/v1/responses/resp_1/input_items", body=body, query=query)
    assert faults[0] is not None
    assert faults[0].status == 400
