"""Two hundred calls at once, sync and async, while the gateway fails at random: nothing is sent without a decision when
fail_open is False, and nobody waits longer for one than its timeout when it is True."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from gatehouse_adapter.litellm import GovernanceUnavailable, Governor

from tests.support.library_gateway import Answer, Asked, LibraryGateway
from tests.support.process import wait_until
from tests.support.upstream import Upstream

CALLS = 200
HANGS_S = 300.0
SLOW_S = 0.2
_WORD = re.compile(r"call-\d+\b")


@pytest.fixture
def gateway() -> Iterator[LibraryGateway]:
    server = LibraryGateway()
    yield server
    server.close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.close()


def at_random(seed: int) -> Any:
    """Run a gateway that fails half of the time, in every way it can."""
    chance = random.Random(seed)  # one thread asks it: the server's
    ways = [
        lambda: Answer(500, {}),
        lambda: Answer(503, {"error": {"code": "governance_unavailable", "message": "not now"}}),
        lambda: Answer(200, "garbage"),
        lambda: Answer(torn=True),
        lambda: Answer(delay_s=HANGS_S),
    ]

    def answer(asked: Asked) -> Answer:
        return chance.choice(ways)() if chance.random() < 0.5 else Answer(delay_s=chance.random() * SLOW_S)

    return answer


def ask(upstream: Upstream, number: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"call-{number}"}]
    return {
        "model": "openai/gpt-4o",
        "messages": messages,
        "api_base": upstream.url,
        "api_key": "sk-of-the-provider",
        "max_retries": 0,
        "stream": number % 3 == 0,
    }


def many(governor: Governor, upstream: Upstream) -> list[Exception | None]:
    """Return each call's error, None for an answer. Even calls come from threads, odd ones from one event loop."""

    def sync(number: int) -> None:
        answer = governor.completion(**ask(upstream, number))
        if number % 3 == 0:
            list(answer)

    async def one(number: int) -> None:
        answer = await governor.acompletion(**ask(upstream, number))
        if number % 3 == 0:
            async for _ in answer:
                pass

    async def all_of_them() -> list[Exception | None]:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(CALLS // 2) as threads:
            calls = [
                one(number) if number % 2 else loop.run_in_executor(threads, sync, number) for number in range(CALLS)
            ]
            return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(all_of_them())


def calls_in(texts: Any) -> Counter[str]:
    return Counter(word for text in texts for word in _WORD.findall(text))


def test_without_fail_open_no_call_is_made_without_a_decision(gateway: LibraryGateway, upstream: Upstream) -> None:
    gateway.decides = at_random(seed=1)
    governor = Governor(gateway.url, "planner", call_timeout_seconds=10, breaker_recovery_seconds=0.3)
    results = many(governor, upstream)
    made = calls_in(body.decode() for _, body in upstream.requests)
    decided = calls_in(json.dumps(asked) for asked in gateway.allowed.values())
    answered = {f"call-{number}" for number, result in enumerate(results) if result is None}
    assert {type(result) for result in results} <= {type(None), GovernanceUnavailable}
    assert set(made) == answered
    assert set(made) <= set(decided)
    assert max(made.values()) == 1
    assert 0 < len(answered) < CALLS
    # Each is reported exactly once.
    assert governor.flush(60)
    told = Counter(report["call_id"] for report in gateway.told)
    assert set(told.values()) == {1}
    assert calls_in(json.dumps(gateway.allowed[call_id]) for call_id in told) == made
    # And with the gateway well again, the breaker closes.
    gateway.decides = lambda asked: Answer()

    def well() -> bool:
        try:
            governor.completion(**ask(upstream, 1))
        except GovernanceUnavailable:
            return False
        return True

    wait_until(well, "the breaker closes", 30)


def test_with_fail_open_every_call_is_made_and_none_waits_longer_than_its_timeout(
    gateway: LibraryGateway, upstream: Upstream
) -> None:
    gateway.decides = at_random(seed=2)
    hanging = iter([Answer(delay_s=HANGS_S)] * 10)
    gateway.audits = lambda told: next(hanging, Answer())
    # Without a breaker that would spare some of them the wait.
    governor = Governor(
        gateway.url, "planner", fail_open=True, call_timeout_seconds=2, breaker_failure_threshold=10_000
    )
    begin = time.monotonic()
    results = many(governor, upstream)
    # A hanging decision and a hanging report, 2 s each, and room for a busy machine to make two hundred calls.
    assert time.monotonic() - begin < HANGS_S / 3
    assert results == [None] * CALLS
    made = calls_in(body.decode() for _, body in upstream.requests)
    assert made == Counter(f"call-{number}" for number in range(CALLS))
    assert governor.flush(60)
