"""Three gateways hold many calls: one is killed while it holds 50, and decisions come in random order.

Each call that was approved arrives at the provider once, and nothing that was rejected, or came too late, ever does. 60
calls are decided on in random order; GATEHOUSE_HELD_CALLS says another number, GATEHOUSE_HELD_SEED repeats a run.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.support.gateway import METRICS_TOKEN, Gateway
from tests.support.postgres import Postgres
from tests.support.process import START_S, wait_until
from tests.support.redis_server import Redis
from tests.support.upstream import Upstream

pytestmark = pytest.mark.timeout(900)

HELD_BY_THE_VICTIM = 50
CALLS = int(os.environ.get("GATEHOUSE_HELD_CALLS", "60"))
SEED = int(os.environ.get("GATEHOUSE_HELD_SEED", random.randrange(2**32)))
REVIEWERS = ("grace", "alan")
AT_ONCE = 8

POLICY = """
version: 1
approvals: {max_open_per_key: 1000}
rules:
  - id: waits
    when: agent.id == "waits"
    then: require_approval
    approvers: {users: [grace, alan], hold: 600s}
  - id: comes-back
    when: agent.id == "comes-back"
    then: require_approval
    approvers: {users: [grace, alan]}
"""


@dataclass(frozen=True)
class Three:
    """Holds three gateways on one database and one audit file, with a caller's key and the reviewers'."""

    gateways: tuple[Gateway, ...]
    key: str
    reviewers: tuple[str, ...]

    @property
    def url(self) -> str:
        return self.gateways[0].database_url


@dataclass(frozen=True)
class Answer:
    """Holds an answer: `status` is None where the connection broke, `code` is a refusal's, `said` is for people."""

    status: int | None
    code: str | None = None
    said: str = field(default="", compare=False)


@pytest.fixture(scope="module")
def three(
    postgres: Postgres, redis_server: Redis, upstream_config: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Three]:
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text(POLICY)
    url, folder = postgres.create_database(), tmp_path_factory.mktemp("three")
    gateways = tuple(
        Gateway(url, redis_server.port, config=upstream_config, policy=policy, folder=folder) for _ in range(3)
    )
    try:
        for gateway in gateways:
            gateway.server.start()
        for gateway in gateways:
            wait_until(gateway.ready, "all three start at once on an empty database", START_S)
        reviewers = []
        for user in REVIEWERS:
            with gateways[0].client() as client:
                body = {"user_id": user, "user_role": "internal_user", "auto_create_key": False}
                client.post("/user/new", json=body).raise_for_status()
            reviewers.append(gateways[0].new_key(user_id=user))
        yield Three(gateways, gateways[0].new_key(), tuple(reviewers))
    finally:
        for gateway in gateways:
            gateway.close()


@asynccontextmanager
async def clients(three: Three, key: str) -> AsyncIterator[tuple[httpx.AsyncClient, ...]]:
    """Open a client of each gateway."""
    async with AsyncExitStack() as stack:
        yield tuple(
            [
                await stack.enter_async_context(
                    httpx.AsyncClient(
                        base_url=gateway.url,
                        headers={"authorization": f"Bearer {key}"},
                        timeout=600,
                        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
                    )
                )
                for gateway in three.gateways
            ]
        )


async def ask(
    client: httpx.AsyncClient, name: str, *, agent: str = "waits", stream: bool = False, approval: str | None = None
) -> Answer:
    """Send the request called `name`, which its prompt and its session say."""
    headers = {"x-gatehouse-agent": agent, "x-gatehouse-session": name}
    if approval is not None:
        headers["x-gatehouse-approval"] = approval
    body = {"model": "up-chat", "stream": stream, "messages": [{"role": "user", "content": f"request {name}."}]}
    try:
        answer = await client.post("/v1/chat/completions", json=body, headers=headers)
    except httpx.HTTPError:
        return Answer(None)
    if answer.status_code == 200:
        for line in answer.text.splitlines():  # a stream that was kept alive is refused in an event
            if line.startswith("data: {") and (refused := json.loads(line.removeprefix("data: ")).get("error")):
                return Answer(403, refused["code"], refused["message"])
        assert answer.text.rstrip().endswith("[DONE]") == stream, answer.text
        return Answer(200)
    error = answer.json()["error"]
    return Answer(answer.status_code, error["code"], error["message"])


async def insist(client: httpx.AsyncClient, name: str, **options: Any) -> Answer:
    """Ask as `ask` does, and again when a gateway on a slow machine says to try again soon."""
    for _ in range(20):
        answer = await ask(client, name, **options)
        if answer.code != "governance_unavailable":
            break
        await asyncio.sleep(2)
    return answer


async def vote(client: httpx.AsyncClient, reviewer: str, approval: str, decision: str = "approve") -> int:
    answer = await client.post(
        f"/governance/v1/approvals/{approval}/votes",
        json={"decision": decision},
        headers={"authorization": f"Bearer {reviewer}"},
    )
    return answer.status_code


async def each(work: Callable[[Any], Awaitable[Any]], of: Iterable[Any]) -> list[Any]:
    """Do the work for each, a few at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(item: Any) -> Any:
        async with gate:
            return await work(item)

    return await asyncio.gather(*map(one, of))


async def until(ready: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(wait_until, ready, what)


def approvals(url: str, trial: str) -> dict[str, list[tuple[str, str]]]:
    """Return ids and states of a trial's approvals, by the request's name."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            """select summary ->> 'session', id::text, state from gatehouse.approvals
                where summary ->> 'session' like %s order by id""",
            (f"{trial}-%",),
        ).fetchall()
    found: dict[str, list[tuple[str, str]]] = {}
    for name, approval, state in rows:
        found.setdefault(name, []).append((approval, state))
    return found


def held(gateways: Iterable[Gateway]) -> int:
    """Return how many calls these gateways say that they hold."""
    return counted(gateways, "gatehouse_calls_held")


def counted(gateways: Iterable[Gateway], gauge: str) -> int:
    """Return the sum of these gateways' metric."""
    total = 0
    for gateway in gateways:
        with gateway.client(METRICS_TOKEN) as prometheus:
            page = prometheus.get("/metrics").text
        total += sum(int(float(count)) for count in re.findall(rf"^{gauge} ([0-9.]+)$", page, re.M))
    return total


def arrived(upstream: Upstream) -> Counter[str]:
    """Return how often each request reached the provider."""
    return Counter(re.findall(r"request ([a-z0-9-]+)\.", upstream.received))


def check_ledger(three: Three, through: int) -> None:
    """Check that every intent is one capsule and one line, and that so many say that a person approved the call."""
    # A refused call has no row before it is settled: of those only their gateway knows.
    wait_until(lambda: counted(three.gateways, "gatehouse_calls_unsettled") == 0, "all endings are written")
    three.gateways[0].wait_settled()
    with psycopg.connect(three.url) as connection:
        rows = connection.execute("select call_id::text from gatehouse.calls").fetchall()
        capsules = connection.execute("select id::text, canonical from gatehouse.capsules").fetchall()
    assert Counter(capsule for capsule, _ in capsules) == Counter(call for (call,) in rows)
    lines = Counter(line["data"]["call_id"] for line in three.gateways[0].lines())
    assert lines == Counter(call for (call,) in rows)
    approved = [
        each["authority"]["chain"][0]["approval_id"]
        for _, canonical in capsules
        if (each := json.loads(canonical))["authority"]["type"] == "human_approved"
        and each["outcome"]["status"] == "success"
    ]
    assert len(set(approved)) == len(approved)
    assert len(approved) >= through


async def test_calls_held_by_a_gateway_that_dies_go_through_with_the_approvals_given_while_it_was_down(
    three: Three, upstream: Upstream
) -> None:
    victim, survivors = three.gateways[0], three.gateways[1:]
    names = [f"died-{number}" for number in range(HELD_BY_THE_VICTIM)]
    streamed = {name: number % 4 < 2 for number, name in enumerate(names)}
    async with clients(three, three.key) as (to_victim, *to_survivors):
        waiting = [asyncio.create_task(ask(to_victim, name, stream=streamed[name])) for name in names]
        await until(lambda: held([victim]) == len(names), "all are held")
        victim.server.kill()
        assert set(await asyncio.gather(*waiting)) == {Answer(None)}

        ids = {name: found[0][0] for name, found in approvals(three.url, "died").items()}
        votes = await each(lambda approval: vote(to_survivors[0], three.reviewers[0], approval), ids.values())
        assert votes == [200] * len(names)
        assert upstream.requests == []

        async def come_back(name: str) -> Answer:
            """Ask again: every other caller knows the id; half ask another gateway, half the one that is back."""
            number = names.index(name)
            client = to_victim if number < len(names) // 2 else to_survivors[number % len(survivors)]
            return await insist(client, name, stream=streamed[name], approval=ids[name] if number % 2 else None)

        victim.server.start()
        half = len(names) // 2
        answers = await each(come_back, names[half:])
        await until(victim.ready, "the one that was killed is back")
        answers += await each(come_back, names[:half])
        assert answers == [Answer(200)] * len(names)
        again = await each(lambda name: ask(to_victim, name, approval=ids[name], stream=streamed[name]), names[:5])
        assert again == [Answer(403, "approval_expired")] * 5
    assert approvals(three.url, "died") == {name: [(ids[name], "consumed")] for name in names}
    assert arrived(upstream) == Counter(names)
    check_ledger(three, len(names))


async def test_an_approval_is_not_used_up_by_a_call_that_the_ledger_did_not_take(
    three: Three, upstream: Upstream
) -> None:
    for gateway in three.gateways:
        gateway.start()
    async with clients(three, three.key) as to:
        waiting = asyncio.create_task(ask(to[0], "ledger-1"))
        await until(lambda: held(three.gateways) == 1, "it is held")
        ((approval, _),) = approvals(three.url, "ledger")["ledger-1"]
        with psycopg.connect(three.url) as connection:
            connection.execute("lock table gatehouse.calls in share row exclusive mode")
            assert await vote(to[1], three.reviewers[0], approval) == 200
            assert await waiting == Answer(503, "governance_unavailable")
        assert upstream.requests == []
        assert await ask(to[2], "ledger-1", approval=approval) == Answer(200)
        assert await ask(to[1], "ledger-1", approval=approval) == Answer(403, "approval_expired")
    assert arrived(upstream) == Counter(["ledger-1"])
    assert approvals(three.url, "ledger") == {"ledger-1": [(approval, "consumed")]}


@dataclass(frozen=True)
class Case:
    """Holds a request, where it waits, and how it ends.

    Attributes:
        gateways: which of the three hold it; two where its caller asks twice.
        fate: `late` is approved in time and used too late.
    """

    name: str
    gateways: tuple[int, ...]
    stream: bool
    fate: str

    @property
    def agent(self) -> str:
        return "comes-back" if self.fate == "late" else "waits"


def cases(dice: random.Random) -> list[Case]:
    """Make cases: half are approved, the others rejected, expired, or used too late; one in five is asked for twice."""
    fates = ("approved", "approved", "approved", "rejected", "expired", "late")
    return [
        Case(
            f"fire-{number}",
            tuple(dice.sample(range(3), 2 if number % 5 == 0 and fates[number % 6] != "late" else 1)),
            dice.random() < 0.5,
            fates[number % 6],
        )
        for number in range(CALLS)
    ]


def end_time(url: str, approval: str) -> None:
    """End an approval's time, as its gateways notice by their own clock eight hours later."""
    with psycopg.connect(url) as connection:
        connection.execute("update gatehouse.approvals set expires_at = clock_timestamp() where id = %s", (approval,))
        connection.execute("select pg_notify('gatehouse_approvals', %s)", (approval,))


REFUSED_AFTER = {
    "approved": Answer(403, "approval_expired"),  # it was used
    "rejected": Answer(403, "approval_rejected"),
    "expired": Answer(403, "approval_expired"),
    "late": Answer(403, "approval_expired"),
}


def expected(case: Case) -> Counter[Answer]:
    """Return the answers that the callers get, in any order."""
    if case.fate == "late":
        return Counter([Answer(403, "approval_required")])
    answers = [REFUSED_AFTER[case.fate]] * len(case.gateways)
    return Counter([Answer(200), *answers[1:]] if case.fate == "approved" else answers)


async def test_of_many_calls_decided_in_random_order_each_approved_one_goes_through_once_and_no_other(
    three: Three, upstream: Upstream
) -> None:
    print(f"GATEHOUSE_HELD_CALLS={CALLS} GATEHOUSE_HELD_SEED={SEED}")
    dice = random.Random(SEED)
    for gateway in three.gateways:
        gateway.start()
    all_of = cases(dice)
    async with clients(three, three.key) as to:
        tasks = {
            case.name: [
                asyncio.create_task(insist(to[at], case.name, agent=case.agent, stream=case.stream))
                for at in case.gateways
            ]
            for case in all_of
        }
        waiting = [task for case in all_of for task in tasks[case.name] if case.fate != "late"]
        await until(lambda: held(three.gateways) == len(waiting), "all are held")
        await until(lambda: len(approvals(three.url, "fire")) == CALLS, "all wait for approval")
        ids = {name: found[0][0] for name, found in approvals(three.url, "fire").items()}
        assert upstream.requests == []
        assert not any(task.done() for task in waiting)

        async def decide(case: Case) -> None:
            approval, client = ids[case.name], dice.choice(to)
            reviewer = dice.choice(three.reviewers)
            if case.fate == "expired":
                await asyncio.to_thread(end_time, three.url, approval)
                assert await vote(client, reviewer, approval) == 409
                return
            assert await vote(client, reviewer, approval, "reject" if case.fate == "rejected" else "approve") == 200
            if case.fate == "late":
                await asyncio.to_thread(end_time, three.url, approval)

        await each(decide, dice.sample(all_of, len(all_of)))
        answers = {name: Counter(await asyncio.gather(*asked)) for name, asked in tasks.items()}
        assert answers == {case.name: expected(case) for case in all_of}
        approved = [case.name for case in all_of if case.fate == "approved"]
        assert arrived(upstream) == Counter(approved)

        async def come_back(case: Case) -> Answer:
            """Ask again with the approval's id, on any of the three."""
            client, approval = dice.choice(to), ids[case.name]
            return await ask(client, case.name, agent=case.agent, stream=case.stream, approval=approval)

        assert await each(come_back, all_of) == [REFUSED_AFTER[case.fate] for case in all_of]
    assert arrived(upstream) == Counter(approved)
    assert {name: len(found) for name, found in approvals(three.url, "fire").items()} == dict.fromkeys(ids, 1)
    check_ledger(three, len(approved))
