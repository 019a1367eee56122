"""On any route a provider sees what the caller's request says by its API, or the gateway refuses the call.

The requests are made up from seeds (tests/support/caller_requests.py). To see one that failed alone, run
`GATEHOUSE_SEEDS=first-last ./test.sh stack -k what_is_sent`.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest

from tests.support.caller_requests import WORD, Case, make
from tests.support.gateway import Gateway
from tests.support.process import PATIENCE_S
from tests.support.raw_client import RawAnswer, send
from tests.support.upstream import Arrival, Upstream
from tests.support.what_arrived import codes, faults

_AT_ONCE = 16


def seeds(first: int, count: int) -> range:
    """Return these seeds, or those that the environment names."""
    asked = os.environ.get("GATEHOUSE_SEEDS")
    if not asked:
        return range(first, first + count)
    begin, _, end = asked.partition("-")
    return range(int(begin), int(end or begin) + 1)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Upstream]:
    """Start a server that requests name and that no request may reach."""
    server = Upstream()
    yield server
    server.close()


@pytest.fixture(scope="module")
def key(governed: Gateway) -> str:
    return governed.new_key()


async def asked(gateway: Gateway, key: str, case: Case) -> RawAnswer:
    """Send the request of a case, with a good key beside its own fields."""
    names = {name.lower() for name, _ in case.headers}
    headers = list(case.headers)
    if "host" not in names:
        headers.insert(0, ("host", "gateway"))
    if "content-length" not in names:
        headers.append(("content-length", str(len(case.body))))
    headers.append(("authorization" if "x-litellm-api-key" in names else "x-litellm-api-key", f"Bearer {key}"))
    headers.append(("connection", "close"))
    async with asyncio.timeout(PATIENCE_S):
        return await send(gateway.port, f"{case.path}?{case.query}" if case.query else case.path, headers, case.body)


async def ask_all(gateway: Gateway, key: str, cases: list[Case]) -> list[RawAnswer]:
    turns = asyncio.Semaphore(_AT_ONCE)

    async def ask(case: Case) -> RawAnswer:
        async with turns:
            return await asked(gateway, key, case)

    return await asyncio.gather(*map(ask, cases))


async def look(gateway: Gateway, key: str, upstream: Upstream, elsewhere: Upstream, wanted: range) -> None:
    """Send the requests of these seeds, and check each."""
    cases = [make(seed, elsewhere.url) for seed in wanted]
    failing = {case.code.encode() for case in cases if case.fails}
    upstream.fails = lambda body: any(match[1].lower() in failing for match in WORD.finditer(body))
    answers = await ask_all(gateway, key, cases)
    by_case: dict[str, list[Arrival]] = defaultdict(list)
    wrong: list[str] = []
    unmarked: Counter[str] = Counter()
    for arrival in upstream.arrivals:
        found = codes(arrival)
        if not found:
            unmarked[arrival.target] += 1
        elif len(found) > 1:
            wrong.append(f"what arrived is of {len(found)} requests: {arrival}")
        for code in found:
            by_case[code].append(arrival)
    sent = 0
    for case, answer in zip(cases, answers, strict=True):
        arrivals = by_case[case.code]
        sent += len(arrivals) == 1
        wrong += [f"{case}: {fault}; {answer.text[:300]}" for fault in faults(case, answer, arrivals)]
    # An empty text has no mark: what arrived of such a request is told by the answer alone.
    answered = Counter(
        case.route.arrives
        for case, answer in zip(cases, answers, strict=True)
        if answer.status == 200 and not case.decides and not by_case[case.code]
    )
    wrong += [
        f"{count} without a mark arrived at {path}, and {answered[path]} may have"
        for path, count in unmarked.items()
        if count > answered[path]
    ]
    wrong += [f"a server that a caller named was asked: {arrival}" for arrival in elsewhere.arrivals]
    if not await asyncio.to_thread(gateway.ready):
        wrong.append("the gateway is not well")
    assert not wrong, f"{len(wrong)} faults:\n" + "\n".join(wrong)
    assert sent > len(cases) / 5 or len(cases) < 50  # or nothing was looked at


@pytest.mark.timeout(900)
async def test_a_provider_sees_what_the_api_says_and_nothing_else(
    governed: Gateway, key: str, upstream: Upstream, elsewhere: Upstream
) -> None:
    await look(governed, key, upstream, elsewhere, seeds(0, 500))


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("first", range(1_000, 21_000, 1_000))
async def test_a_provider_sees_it_of_many_more(
    governed: Gateway, key: str, upstream: Upstream, elsewhere: Upstream, first: int
) -> None:
    await look(governed, key, upstream, elsewhere, seeds(first, 1_000))
