"""The breaker opens after so many failures in a row, lets one probe through, and closes when that succeeds."""

from __future__ import annotations

from gatehouse_adapter._internal.breaker import Breaker, Permit, State


def fails(breaker: Breaker, now: float) -> bool:
    permit = breaker.enter(now)
    assert permit is not None
    return breaker.failed(permit, now)


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    breaker = Breaker(3, 30)
    assert [fails(breaker, 0), fails(breaker, 0)] == [False, False]
    breaker.succeeded(Permit.ORDINARY)
    assert [fails(breaker, 0), fails(breaker, 0), fails(breaker, 0)] == [False, False, True]
    assert breaker.state(0) is State.OPEN
    assert breaker.enter(29.9) is None


def test_half_open_lets_one_probe_through() -> None:
    breaker = Breaker(1, 30)
    fails(breaker, 0)
    assert breaker.state(30) is State.HALF_OPEN
    assert breaker.enter(30) is Permit.PROBE
    assert [breaker.enter(30), breaker.enter(1000)] == [None, None]


def test_the_probe_closes_it_or_opens_it_again() -> None:
    breaker = Breaker(1, 30)
    fails(breaker, 0)
    assert fails(breaker, 30)
    assert breaker.enter(59) is None
    assert breaker.enter(60) is Permit.PROBE
    breaker.succeeded(Permit.PROBE)
    assert breaker.enter(60) is Permit.ORDINARY


def test_a_probe_that_is_called_off_leaves_the_next_call_to_find_out() -> None:
    breaker = Breaker(1, 30)
    fails(breaker, 0)
    assert breaker.enter(30) is Permit.PROBE
    breaker.left(Permit.PROBE)
    assert breaker.enter(30) is Permit.PROBE


def test_what_calls_from_before_hear_does_not_change_an_open_breaker() -> None:
    breaker = Breaker(2, 30)
    early, late = breaker.enter(0), breaker.enter(0)
    assert early
    assert late
    fails(breaker, 0)
    fails(breaker, 0)
    breaker.succeeded(early)
    assert not breaker.failed(late, 20)
    assert breaker.enter(29) is None
    assert breaker.enter(30) is Permit.PROBE
