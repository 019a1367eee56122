"""Guessing keys at the console's sign-in is slow, for one address and for many."""

from __future__ import annotations

from gatehouse.console.session import Attempts


def tried(attempts: Attempts, addresses: list[str], at_s: float = 0.0) -> int:
    """How many of these refused attempts were let through."""
    return sum(attempts.begin(address, at_s) is not None for address in addresses)


def test_an_address_may_guess_ten_keys_in_five_minutes() -> None:
    attempts = Attempts()
    assert tried(attempts, ["192.0.2.1"] * 30) == 10
    assert tried(attempts, ["192.0.2.2"] * 3) == 3
    assert tried(attempts, ["192.0.2.1"], 299.0) == 0
    assert tried(attempts, ["192.0.2.1"] * 30, 300.0) == 10


def test_another_address_alone_does_not_help() -> None:
    attempts = Attempts()
    assert tried(attempts, [f"192.0.{number // 256}.{number % 256}" for number in range(20_000)]) == 100
    assert tried(attempts, ["203.0.113.1"], 299.0) == 0
    assert tried(attempts, ["203.0.113.1"], 300.0) == 1


def test_addresses_of_one_ipv6_network_are_one() -> None:
    attempts = Attempts()
    assert tried(attempts, [f"2001:db8:0:1::{number:x}" for number in range(30)]) == 10
    assert tried(attempts, ["2001:db8:0:2::1", "::ffff:192.0.2.1", "192.0.2.2", "", "unix"]) == 5


def test_attempts_that_are_under_way_count_and_right_keys_do_not() -> None:
    attempts = Attempts()
    begun = [attempts.begin("192.0.2.1", 0.0) for _ in range(10)]
    assert attempts.begin("192.0.2.1", 0.0) is None
    for each in begun:
        assert each is not None
        attempts.forget(each)
        attempts.forget(each)
    assert tried(attempts, ["192.0.2.1"] * 12, 1.0) == 10
