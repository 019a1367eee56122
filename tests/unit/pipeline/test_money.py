"""What a call may cost and who pays, and what it did cost where the engine does not say."""

from __future__ import annotations

from typing import Any, cast

import pytest
from gatehouse.core.call import Attempt, CostSource, Outcome, Status
from gatehouse.pipeline.money import attempts_to_reserve, delivered_usd, priced
from gatehouse.pipeline.scope import Delivered, LetThrough, Sending

ANSWERED = Outcome(Status.SUCCESS, http_status=200, cost_usd=0.0)
PASSED = LetThrough(attempt_usd=1.0, input_usd=0.25, output_usd_per_token=0.125)


def delivered(*bodies: bytes) -> Delivered:
    found = Delivered()
    for body in bodies:
        found.add(body)
    return found


@pytest.mark.parametrize(
    ("changes", "usd", "attempt", "expected"),
    [
        ({"cost_usd": 0.5}, 9.0, 9.0, (0.5, None)),
        ({}, 0.5, 9.0, (0.5, None)),
        ({}, 0.0, 9.0, (0.0, None)),
        ({"cost_usd": None}, 0.5, None, (0.5, None)),
        ({}, None, 0.75, (0.75, CostSource.ESTIMATED)),
        ({}, None, 0.0, (0.0, CostSource.ESTIMATED)),
        ({}, None, None, (None, CostSource.NO_PRICE)),
        ({"cache_hit": True}, 0.5, 0.5, (0.0, None)),
    ],
)
def test_an_answer_costs_what_its_deployment_takes_and_never_nothing_for_want_of_a_price(
    changes: dict[str, Any], usd: float | None, attempt: float | None, expected: tuple[float | None, CostSource | None]
) -> None:
    outcome = Outcome(
        **{**{name: getattr(ANSWERED, name) for name in ("status", "http_status", "cost_usd")}, **changes}
    )
    found = priced(outcome, usd, LetThrough(attempt_usd=attempt))
    assert (found.cost_usd, found.cost_source) == expected


def test_a_delivered_answer_costs_its_input_and_the_tokens_that_it_says() -> None:
    whole = b'{"choices":[{"message":{"content":"\\"completion_tokens\\": 9"}}],"usage":{"completion_tokens": 2}}'
    assert delivered_usd(delivered(whole), PASSED) == 0.5
    assert delivered_usd(delivered(b'data: {"usage":{"output_', b'tokens":4}}\n\n'), PASSED) == 0.75


def test_of_a_stream_that_does_not_say_it_each_event_counts_and_never_more_than_the_estimate() -> None:
    event = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
    assert delivered_usd(delivered(event, event, event), PASSED) == 0.625
    assert delivered_usd(delivered(*[event] * 100), PASSED) == 1.0
    assert delivered_usd(delivered(b"{}" * 50), PASSED) == 1.0


@pytest.mark.parametrize(
    ("unanswered", "reserved", "more"),
    [([], 1, 0), ([False], 1, 0), ([True], 1, 1), ([True, False, True], 1, 2), ([True], 2, 0), ([False], 2, 0)],
)
def test_another_attempt_has_room_beside_those_that_may_be_billed(
    unanswered: list[bool], reserved: int, more: int
) -> None:
    sending = Sending(attempts=[Attempt("plain", unanswered=each) for each in unanswered], reserved=reserved)
    assert attempts_to_reserve(sending) == more


def test_nothing_is_counted_where_nothing_came_or_there_is_no_price() -> None:
    assert delivered_usd(delivered(), PASSED) is None
    assert delivered_usd(delivered(b"data:"), None) is None
    assert delivered_usd(delivered(b"data:"), LetThrough()) is None
    assert delivered_usd(delivered(b"ID3"), LetThrough(attempt_usd=0.5, input_usd=0.5)) == 0.5


def test_however_long_an_answer_is_only_its_end_is_kept() -> None:
    found = delivered(*[b"x" * 10_000] * 3, b"end")
    assert (found.size, len(found.end), found.end[-4:]) == (30_003, 4096, b"xend")
    assert cast("int", found.events) == 0
