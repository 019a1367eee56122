"""However much one key sends, another key's calls are answered."""

from __future__ import annotations

import json
import random
import select
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.support.gateway import Gateway
from tests.support.process import wait_until
from tests.support.upstream import Upstream

HOSTILE_CALLERS = 16
WORDS = "why is the sky over Genoa blue at noon 1815 and what would Ada Lovelace say of it".split()


def chat(*texts: str) -> dict[str, Any]:
    return {"model": "up-chat", "max_tokens": 5, "messages": [{"role": "user", "content": text} for text in texts]}


def long_texts(seed: int) -> list[str]:
    """Return new texts, each nearly as long as one may be."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=44_000))[:190_000] for _ in range(5)]


def test_a_key_that_sends_more_than_can_be_scanned_is_refused_and_others_are_answered(
    governed: Gateway, upstream: Upstream
) -> None:
    hostile, other = governed.new_key(), governed.new_key()
    over = threading.Event()

    def attack(seed: int) -> list[httpx.Response]:
        with governed.client(hostile) as client:
            return [client.post("/v1/chat/completions", json=chat(*long_texts(10 * seed + n))) for n in range(2)]

    def behave() -> list[httpx.Response]:
        answers = []
        with governed.client(other) as client:
            while not over.is_set() or len(answers) < 20:
                said = f"Question {len(answers)}: who is ada{len(answers)}@example.com?"
                answers.append(client.post("/v1/chat/completions", json=chat(said)))
        return answers

    with ThreadPoolExecutor(HOSTILE_CALLERS + 1) as threads:
        attacks = [threads.submit(attack, seed) for seed in range(HOSTILE_CALLERS)]
        behaving = threads.submit(behave)
        try:
            attacked = [answer for each in attacks for answer in each.result()]
        finally:
            over.set()
        answered = behaving.result()
    assert Counter(answer.status_code for answer in answered) == {200: len(answered)}
    statuses = Counter(answer.status_code for answer in attacked)
    assert statuses.keys() <= {200, 429, 503}
    assert statuses[200] > 0
    refused = [answer for answer in attacked if answer.status_code == 429]
    assert refused
    for answer in refused:
        assert answer.json()["error"]["code"] == "too_many_requests"
        assert "waiting to be scanned" in answer.json()["error"]["message"]
        assert answer.headers["retry-after"]
    wait_until(lambda: governed.lines_of(refused[0].headers["x-gatehouse-call-id"]) != [], "the refusal's line")
    with governed.client(hostile) as client:
        assert client.post("/v1/chat/completions", json=chat("And now?")).status_code == 200


def test_bodies_of_one_key_leave_room_for_others(governed: Gateway, upstream: Upstream) -> None:
    """One key begins to send eight bodies of 24 MB; five fit in half of what the gateway may hold."""
    hostile, other = governed.new_key(), governed.new_key()
    with governed.client(hostile) as client:
        assert client.post("/v1/chat/completions", json=chat("hello")).status_code == 200
    blanks, asked = b" " * 24_000_000, json.dumps(chat("hello")).encode()
    finish = threading.Event()

    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {hostile}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(blanks) + len(asked)}\r\nconnection: close\r\n\r\n"
    ).encode()

    def hold(_: int) -> int:
        """Send all but the end of a body, and the end when it is time; return the answer's status."""
        with socket.create_connection(("127.0.0.1", governed.port), timeout=120) as connection:
            try:
                connection.sendall(head + blanks)
                while not finish.wait(0.1):
                    if select.select([connection], [], [], 0)[0]:
                        break
                else:
                    connection.sendall(asked)
                return int(connection.recv(65_536).split()[1])
            except OSError:  # hung up on while it still sent
                return 429

    with ThreadPoolExecutor(8) as threads:
        held = [threads.submit(hold, number) for number in range(8)]
        try:
            wait_until(lambda: sum(each.done() for each in held) == 3, "what has no room is refused")
            with governed.client(other) as client:
                answers = [client.post("/v1/chat/completions", json=chat(f"hello {n}")).status_code for n in range(5)]
        finally:
            finish.set()
        statuses = Counter(each.result() for each in held)
    assert answers == [200] * 5
    assert statuses == {200: 5, 429: 3}
