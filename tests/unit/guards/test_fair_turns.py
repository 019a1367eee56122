"""Callers take turns by the size of what they send; one caller's queue delays no other caller."""

from __future__ import annotations

import pytest
from gatehouse.guards import fair_turns
from gatehouse.guards.fair_turns import WHEN_IDLE, FairTurns
from hypothesis import given
from hypothesis import strategies as st

MAX_WAITING, MAX_SHORT = 1_000, 100


def turns(max_waiting: int = MAX_WAITING) -> FairTurns[str]:
    return FairTurns(max_waiting=max_waiting, max_short=MAX_SHORT)


def order(queue: FairTurns[str], *, only_short: bool = False) -> list[str]:
    taken = []
    while entries := queue.take(only_short=only_short):
        taken += [entry.item for entry in entries]
    return taken


def test_a_small_item_waits_for_one_of_each_other_caller_and_not_for_their_queues() -> None:
    queue = turns()
    for number in range(50):
        for caller in ("one", "two"):
            queue.put(caller, number, f"{caller} {number}", MAX_SHORT + 1)
    queue.take()
    queue.put("small", 0, "small", 1)
    assert order(queue).index("small") <= 2


def test_shares_are_by_size_and_not_by_count() -> None:
    queue = turns()
    for number in range(40):
        queue.put("large", 0, "large", 90)
        queue.put("small", number, "small", 30)
    assert order(queue)[:40].count("small") in (29, 30, 31)


def test_the_calls_of_one_caller_share_its_turns() -> None:
    queue = turns()
    for number in range(20):
        queue.put("one", 1, f"first call {number}", 10)
    queue.put("one", 2, "second call", 10)
    assert order(queue).index("second call") == 1


def test_short_and_long_items_of_one_caller_alternate() -> None:
    queue = turns()
    for _ in range(3):
        queue.put("one", 1, "long", MAX_SHORT + 1)
        queue.put("one", 2, "short", 1)
    assert order(queue) == ["short", "long"] * 3


def test_long_items_wait_where_only_short_ones_are_taken() -> None:
    queue = turns()
    queue.put("one", 1, "long", MAX_SHORT + 1)
    queue.put("two", 2, "short", MAX_SHORT)
    assert order(queue, only_short=True) == ["short"]
    assert order(queue) == ["long"]


def test_who_was_idle_has_no_larger_share_later() -> None:
    queue = turns()
    queue.put("idle", 0, "idle", 10)
    order(queue)
    for _ in range(50):
        queue.put("busy", 0, "busy", 10)
    for _ in range(20):
        queue.take()
    for _ in range(20):
        queue.put("idle", 0, "idle", 10)
    assert order(queue)[:20].count("idle") == 10


def test_of_two_that_have_had_as_much_who_came_first_is_first() -> None:
    queue = turns()
    for caller in ("b", "c", "a"):
        queue.put(caller, 0, caller, 10)
    assert order(queue) == ["b", "c", "a"]


def test_newcomers_without_end_do_not_starve_who_waits() -> None:
    queue = turns()
    queue.put("waits", 0, "waits", MAX_SHORT)
    queue.put("waits", 0, "waits", MAX_SHORT)
    taken = []
    for number in range(20):
        queue.put(f"new {number}", 0, "new", MAX_SHORT)
        taken += [entry.item for entry in queue.take()]
    assert taken.count("waits") == 2


def test_work_ahead_comes_when_nobody_waits() -> None:
    queue = turns()
    queue.put(WHEN_IDLE, 0, "ahead", 1)
    for number in range(5):
        queue.put("one", number, "asked", MAX_SHORT + 1)
    assert order(queue) == ["asked"] * 5 + ["ahead"]


def test_what_one_caller_has_waiting_is_bounded_and_no_others_bound() -> None:
    queue = turns()
    assert queue.fits("one", 10 * MAX_WAITING)  # a first call gets in, whatever its size
    entry = queue.put("one", 0, "large", MAX_WAITING - 10)
    assert queue.fits("one", 10)
    assert not queue.fits("one", 11)
    assert queue.fits("two", MAX_WAITING)
    queue.drop(entry)
    queue.drop(entry)
    assert queue.fits("one", 10 * MAX_WAITING)
    assert order(queue) == []


def test_small_items_of_one_call_go_together_within_bounds() -> None:
    queue = turns()
    for _ in range(10):
        queue.put("one", 1, "one", 10)
        queue.put("two", 2, "two", 10)
    queue.put("two", 3, "two", 10)
    assert [each.item for each in queue.take(max_size=55, max_items=32)] == ["one"] * 5
    assert [each.item for each in queue.take(max_size=55, max_items=3)] == ["two"] * 3
    # Two that are free share what waits, but for what is not worth it.
    assert len(queue.take(workers=2, max_size=1_000, min_size=10, max_items=32)) == 1
    assert len(queue.take(workers=2, max_size=1_000, min_size=10, max_items=32)) == 4
    assert len(queue.take(workers=4, max_size=1_000, min_size=40, max_items=32)) == 4


@pytest.mark.parametrize("waits", [True, False])
def test_callers_without_anything_waiting_are_forgotten(waits: bool) -> None:
    queue = turns()
    for number in range(3 * fair_turns._MAX_REMEMBERED):
        if waits:
            queue.put("waits", 0, "x", 1)
        queue.put(str(number), 0, "x", 1)
        queue.take()
        if waits:
            queue.take()
    assert len(queue._lanes) <= fair_turns._MAX_REMEMBERED + 1


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.integers(1, 2 * MAX_SHORT)),
            st.booleans(),
            st.integers(0, 20),
        ),
        max_size=60,
    )
)
def test_every_item_is_taken_once_in_the_order_of_its_call(steps: list[object]) -> None:
    queue: FairTurns[tuple[str, int, int]] = FairTurns(max_waiting=MAX_WAITING, max_short=MAX_SHORT)
    put, taken, dropped = [], [], set()
    entries = []
    for serial, step in enumerate(steps):
        if isinstance(step, tuple):
            caller, call, size = step
            entry = queue.put(caller, call, (caller, call, serial), size)
            entries.append(entry)
            put.append(entry)
        elif isinstance(step, bool):
            taken += queue.take(only_short=step, max_size=150, max_items=3)
        elif isinstance(step, int) and step < len(entries) and not entries[step].gone:
            queue.drop(entries[step])
            dropped.add(entries[step])
    while more := queue.take(max_size=150, max_items=3):
        taken += more
    assert len(taken) == len(set(taken))
    assert {*taken} | dropped == {*put}
    assert not {*taken} & dropped
    for caller in "abc":
        for call in range(4):
            for is_long in (False, True):
                mine = [
                    each.item[2]
                    for each in taken
                    if (each.caller, each.call) == (caller, call) and queue.is_long(each) == is_long
                ]
                assert mine == sorted(mine)
    assert all(queue.fits(caller, 10 * MAX_WAITING) for caller in "abc")
