"""What `python -m bench hostile` sends is what it says, and its report holds all that matters."""

from __future__ import annotations

import json

from gatehouse.dialects.caller_fields import caller_request
from gatehouse.proxy.control_fields import control_fields

from bench.hostile import Served, text
from bench.hostile_callers import BODIES, CALLERS, HUGE, callers


def test_there_are_64_callers_of_all_kinds_and_half_of_each_kind_have_its_key() -> None:
    kinds = list(callers([f"key {kind}" for kind in CALLERS]))
    assert len(kinds) == 64
    for kind, count in CALLERS.items():
        keys = [key for each, key in kinds if each == kind]
        assert len(keys) == count
        assert [*keys].count(f"key {kind}") == keys.count(None) == count / 2


def test_the_bodies_are_what_they_are_called() -> None:
    asked = {kind: json.loads(body()) for kind, body in BODIES.items()}
    for body in asked.values():
        caller_request("acompletion", body, control_fields())  # and not refused for what the edge refuses at once
    assert len(BODIES["huge"]()) > HUGE
    assert len(asked["scan"]["messages"][0]["content"]) > 190_000
    assert BODIES["scan"]() != BODIES["scan"]()
    depth, inner = 0, asked["deep"]["unread"][0]
    while isinstance(inner, dict):
        depth, inner = depth + 1, inner["a"]
    assert depth == 90


def test_the_report_says_how_the_key_was_served_beside_how_it_was_alone() -> None:
    said = text(
        Served([10.0] * 99 + [20.0], []),
        Served([30.0] * 98 + [60.0] * 2, ["503: x"]),
        (700.0, 900.0),
        {"huge": {"429": 7}},
    )
    assert "beside them / alone: p50 3.0, p99 3.0" in said
    assert "error: 503: x" in said
    assert "429: 7" in said
    assert "900" in said
