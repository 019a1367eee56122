"""Scanning begins before LiteLLM knows the caller, for those only whose last call was admitted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, cast

import pytest
from gatehouse.core.http import Message, Receive, Scope, Send
from gatehouse.gateway.middleware import GovernanceMiddleware
from gatehouse.gateway.prescan import MAX_BYTES, Prescan
from gatehouse.guards.worker_pool import Scanner
from gatehouse.pipeline.scope import CallScope, current_scope

from tests.support.edge import edge

KEY, OTHER = (b"authorization", b"Bearer sk-one"), (b"authorization", b"Bearer sk-two")
CHAT = json.dumps({"model": "m", "messages": [{"role": "user", "content": "who is jane@example.com?"}]}).encode()
TEXTS = ["who is jane@example.com?"]


class Begun:
    """Stands for the scanner, and notes what it is told to begin."""

    def __init__(self) -> None:
        self.texts: list[list[str]] = []

    def begin(self, texts: Sequence[str]) -> None:
        self.texts.append(list(texts))


class Settled:
    def conclude(self, scope: CallScope) -> None:
        scope.ending.settled = True

    def answers(self, scope: CallScope) -> None:
        return None

    async def keep(self, *_: Any) -> None:
        """Keep nothing."""

    def note_delivered(self, scope: CallScope) -> None:
        """Note nothing."""

    def block_answer(self, *_: Any) -> None:
        raise AssertionError("nothing is screened here")


class Gateway:
    """Runs the middleware around an app that admits calls or refuses them, and notes what was begun by then."""

    def __init__(self) -> None:
        self.begun, self.admits = Begun(), True
        self.seen: list[list[str]] = []
        prescan = Prescan(lambda: cast("Scanner", self.begun))
        self._middleware = GovernanceMiddleware(
            self._app, armed=lambda: True, metrics_token=None, grace_s=0.01, edge=edge(), prescan=prescan
        )
        self._middleware.settler = Settled()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        self.seen = list(self.begun.texts)
        call = current_scope.get()
        assert call is not None
        call.intent = self.admits
        await send({"type": "http.response.start", "status": 200 if self.admits else 403, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def ask(
        self, *pieces: bytes, key: tuple[bytes, bytes] | None = KEY, path: str = "/v1/chat/completions"
    ) -> list[list[str]]:
        """Return what was begun of this request when the app had read it."""
        self.begun.texts.clear()
        left = list(pieces or (CHAT,))

        async def receive() -> Message:
            if not left:
                await asyncio.sleep(60)
            return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

        async def send(_: Message) -> None:
            pass

        headers = [(b"content-type", b"application/json"), *([key] if key else [])]
        await self._middleware({"type": "http", "method": "POST", "path": path, "headers": headers}, receive, send)
        return self.seen


async def test_who_was_admitted_is_scanned_ahead() -> None:
    gateway = Gateway()
    assert await gateway.ask() == []
    assert await gateway.ask() == [TEXTS]


async def test_who_is_not_known_is_not() -> None:
    gateway = Gateway()
    await gateway.ask()
    assert await gateway.ask(key=OTHER) == []
    assert await gateway.ask(key=None) == []
    assert await gateway.ask(key=None) == []


async def test_nor_is_who_was_refused() -> None:
    gateway = Gateway()
    await gateway.ask()
    gateway.admits = False
    assert await gateway.ask() == [TEXTS]
    assert await gateway.ask() == []


async def test_of_a_long_conversation_it_is_the_end() -> None:
    gateway = Gateway()
    await gateway.ask()
    said = [{"role": "user", "content": f"turn {number}"} for number in range(20)]
    assert await gateway.ask(json.dumps({"model": "m", "messages": said}).encode()) == [
        [f"turn {number}" for number in range(14, 20)]
    ]


async def test_a_body_in_pieces_is_read_as_one() -> None:
    gateway = Gateway()
    await gateway.ask()
    assert await gateway.ask(CHAT[:7], CHAT[7:30], CHAT[30:]) == [TEXTS]


@pytest.mark.parametrize(
    "pieces",
    [
        (b"{}",),
        (b"[1]",),
        (b"{no json",),
        (b'{"messages": [{"role": "user", "content": {"a": 1}}]}',),
        (b'{"messages": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",),
        (b" " * MAX_BYTES, CHAT),
        (CHAT, b" " * MAX_BYTES),
    ],
)
async def test_what_is_not_understood_or_too_long_is_left_to_the_pipeline(pieces: tuple[bytes, ...]) -> None:
    gateway = Gateway()
    await gateway.ask()
    assert not any(await gateway.ask(*pieces))
    assert await gateway.ask() == [TEXTS]


async def test_a_route_without_json_is_left_to_the_pipeline() -> None:
    gateway = Gateway()
    await gateway.ask()
    assert await gateway.ask(path="/v1/audio/transcriptions") == []
    assert await gateway.ask(path="/v1/messages") == [TEXTS]


async def test_no_more_callers_are_remembered_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatehouse.gateway.prescan._MAX_CALLERS", 2)
    scanner = Begun()
    ahead = Prescan(lambda: cast("Scanner", scanner))
    callers = [ahead.caller([(b"x-api-key", str(n).encode())]) for n in range(3)]
    for caller in callers:
        ahead.remember(caller, "key", admitted=True)
    begun = []
    for caller in callers:
        await ahead.begin(caller, "/v1/messages", json.loads(CHAT), len(CHAT))
        begun.append(len(scanner.texts))
    assert begun == [0, 1, 2]


def test_bodies_count_for_a_key_that_was_seen_and_else_for_an_address() -> None:
    gateway = Gateway()

    def held_by(*headers: tuple[bytes, bytes]) -> set[str]:
        scope = {"type": "http", "headers": list(headers), "client": ("192.0.2.7", 4711)}
        with gateway._middleware._share(scope) as share:
            share.add(1)
            return set(gateway._middleware._edge.reader.shares.beginnings.held)

    ahead = gateway._middleware._prescan
    ahead.remember(ahead.caller([KEY]), "hash", admitted=False)
    ahead.remember(ahead.caller([KEY, (b"x-api-key", b"more")]), "hash", admitted=True)
    ahead.remember(ahead.caller([OTHER]), None, admitted=False)  # who that is did not become known
    assert held_by(KEY) == held_by(KEY, (b"x-api-key", b"more")) == {"key hash"}
    assert held_by(OTHER) == held_by() == {"address 192.0.2.7"}


async def test_a_refused_caller_stays_known_and_is_not_scanned_ahead() -> None:
    gateway = Gateway()
    await gateway.ask()
    gateway.admits = False
    await gateway.ask()
    ahead = gateway._middleware._prescan
    assert ahead.key_of(ahead.caller([KEY])) == "unnamed"
    assert await gateway.ask() == []
