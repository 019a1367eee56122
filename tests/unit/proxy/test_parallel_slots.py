"""A call gives its slots back once, also after its client left, and Redis hears of the slots that are still held."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from gatehouse.proxy import parallel_slots
from gatehouse.proxy.parallel_slots import LEASE_S, CallSlots, SlotLeases, renew_all
from litellm.proxy.hooks import parallel_request_limiter_v3 as limiter_v3

Sent = tuple[str, list[str], list[Any]]


class Limiter:
    """Notes which slots are given back."""

    def __init__(self) -> None:
        self.back: list[str] = []
        self.told = asyncio.Event()

    async def _release_parallel_request_slots(self, slot: Any) -> None:
        await asyncio.sleep(0)
        self.back.append(slot["slot_id"])
        self.told.set()


@pytest.fixture
def limiter(monkeypatch: pytest.MonkeyPatch) -> Limiter:
    limiter = Limiter()
    monkeypatch.setattr(parallel_slots, "limiter_in_use", lambda: limiter)
    return limiter


def slot(name: str, *gauges: str) -> limiter_v3.ParallelSlotAcquisition:
    return limiter_v3.ParallelSlotAcquisition(slot_id=name, counter_keys=list(gauges) or ["key"])


def calling(leases: SlotLeases, *slots: limiter_v3.ParallelSlotAcquisition) -> CallSlots:
    """Return what a call holds after LiteLLM took the slots for it."""
    call = leases.open()
    for each in slots:
        limiter_v3.get_or_create_request_stash().parallel_slot = each
    return call


async def test_slots_are_given_back_once(limiter: Limiter) -> None:
    leases = SlotLeases()
    call = calling(leases, slot("a", "key", "team"))
    assert leases.held == {"a": ["key", "team"]}
    await asyncio.gather(call.release(), call.release())
    await call.release()
    assert (limiter.back, leases.held) == (["a"], {})


async def test_litellm_finds_no_slot_to_give_back(limiter: Limiter) -> None:
    calling(SlotLeases(), slot("a"))
    assert limiter_v3.get_or_create_request_stash().parallel_slot is None


async def test_a_call_that_litellm_takes_up_twice_gives_all_of_its_slots_back(limiter: Limiter) -> None:
    call = calling(SlotLeases(), slot("a"), slot("b"))
    await call.release()
    assert limiter.back == ["a", "b"]


async def test_a_call_that_is_cancelled_while_it_gives_back_gives_back(limiter: Limiter) -> None:
    call = calling(SlotLeases(), slot("a"))
    giving = asyncio.create_task(call.release())
    await asyncio.sleep(0)
    giving.cancel()
    await limiter.told.wait()
    assert limiter.back == ["a"]


async def test_a_call_whose_client_left_keeps_its_slots_a_while_and_no_longer(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel_slots, "KEPT_AFTER_LEAVING_S", 0.05)
    leases = SlotLeases()
    call = calling(leases, slot("a"))
    call.leave()
    assert leases.held
    await limiter.told.wait()
    await call.release()
    assert (limiter.back, leases.held) == (["a"], {})


async def test_a_call_that_ends_after_its_client_left_gives_back_at_once(limiter: Limiter) -> None:
    call = calling(SlotLeases(), slot("a"))
    call.leave()
    await call.release()
    assert limiter.back == ["a"]


class Redis:
    """Notes the scripts that run; `meanwhile` happens while one does."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []

    async def renew(self, keys: Sequence[str], args: Sequence[Any]) -> None:
        self.sent.append(("renew", list(keys), list(args)))
        self.meanwhile()

    async def release(self, keys: Sequence[str], args: Sequence[Any]) -> None:
        self.sent.append(("release", list(keys), list(args)))

    def meanwhile(self) -> None: ...


async def test_each_gauge_hears_of_the_slots_that_are_held() -> None:
    redis = Redis()
    await renew_all({"a": ["key 1", "team"], "b": ["key 2", "team"]}, redis.renew, redis.release)
    assert redis.sent == [
        ("renew", ["key 1"], [LEASE_S, "a"]),
        ("renew", ["team"], [LEASE_S, "a", "b"]),
        ("renew", ["key 2"], [LEASE_S, "b"]),
    ]


async def test_nothing_is_sent_while_no_slot_is_held() -> None:
    redis = Redis()
    await renew_all({}, redis.renew, redis.release)
    assert redis.sent == []


async def test_a_slot_that_is_given_back_while_it_is_renewed_does_not_come_back() -> None:
    redis, held = Redis(), {"a": ["key"], "b": ["key"], "c": ["key"]}

    def meanwhile() -> None:
        held.pop("a", None)
        held.pop("c", None)

    redis.meanwhile = meanwhile  # type: ignore[method-assign]
    await renew_all(held, redis.renew, redis.release)
    assert redis.sent == [("renew", ["key"], [LEASE_S, "a", "b", "c"]), ("release", ["key", "key"], ["a", "c"])]
