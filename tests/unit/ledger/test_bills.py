"""Who pays for which calls: what intents reserve and what settlements charge, in one order for all gateways."""

from __future__ import annotations

from decimal import Decimal

from gatehouse.core.call import Payer
from gatehouse.core.errors import BudgetExceeded, LimitExceeded
from gatehouse.ledger.bills import Charge, charges, may_cost, payer_rows, payers_of
from gatehouse.ledger.intent_writer import exceeded
from gatehouse.ledger.rows import IntentRow
from gatehouse.ledger.store.budgets import Full
from gatehouse.ledger.store.calls import Ended

KEY, TEAM = ("key", "k", "", "limited"), ("team", "t", "", "limited")
USER = ("user", "u", "", "")


def intent(*payers: tuple[str, ...], **fields: object) -> IntentRow:
    row = {"call_id": "1", "started_at": "", "request": {"model": "up-chat"}, "decision": None, "payers": payers}
    return {**row, **fields}  # type: ignore[typeddict-item]


def test_a_payer_stands_once_and_in_order_and_limits_if_it_does_anywhere() -> None:
    payers = [
        Payer("user", "u", limited=False),
        Payer("team", "t"),
        Payer("key", "k"),
        Payer("key", "k", limited=False),
    ]
    assert payer_rows(payers) == [KEY, TEAM, USER]


def test_the_order_is_the_same_whatever_order_the_payers_come_in() -> None:
    names = [Payer("tag", name) for name in ("b", "é", "a", "Z", "10", "9")]
    assert payer_rows(names) == payer_rows(names[::-1])


def test_budgets_are_asked_only_for_what_may_cost_something() -> None:
    assert may_cost(intent(KEY, reserve=0.01))
    assert may_cost(intent(KEY, reserve=None))
    assert not may_cost(intent(KEY, reserve=0.0))
    assert not may_cost(intent(KEY))
    assert not may_cost(intent(USER, reserve=0.01))
    assert not may_cost(intent(reserve=0.01))


def test_each_budget_is_asked_once_for_all_calls_of_a_commit() -> None:
    found = payers_of([intent(KEY, TEAM, USER), intent(TEAM), intent(USER)])
    assert found == ([["key", "k", ""], ["team", "t", ""]], [[0, 1], [1], []])


def test_a_payer_is_charged_the_sum_of_its_calls_to_the_last_digit() -> None:
    rows = [(Ended(1, [KEY, USER], [KEY], Decimal("0.3")), 0.1) for _ in range(3)]
    assert charges(rows) == [
        Charge("key", "k", "", Decimal("0.3"), Decimal("0.9")),
        Charge("user", "u", "", Decimal("0.3"), Decimal(0)),
    ]


def test_a_call_without_a_cost_gives_its_reservation_back_and_charges_nobody() -> None:
    assert charges([(Ended(1, [KEY, USER], [KEY], Decimal("0.3")), None)]) == [
        Charge("key", "k", "", Decimal(0), Decimal("0.3"))
    ]
    assert charges([(Ended(1, None, None, None), 0.5), (Ended(2, [KEY], None, None), 0.0)]) == []


def test_the_refusal_names_budget_cost_and_what_is_left_in_the_words_of_litellm() -> None:
    full = Full("team", "t", Decimal("1.25"), Decimal("0.5"), Decimal(2))
    refusal = exceeded(full, 0.3)
    assert isinstance(refusal, BudgetExceeded)
    assert refusal.message.startswith(
        "Budget has been exceeded! This request may cost $0.3. Of the budget of $2.00 of "
    )
    assert "the key's team, $1.25 are spent and $0.5 are reserved by calls under way." in refusal.message
    assert (refusal.status, refusal.body(None)["error"]["type"]) == (422, "budget_exceeded")


def test_without_a_price_the_refusal_says_so_and_what_to_do() -> None:
    refusal = exceeded(Full("key", "k", Decimal(0), Decimal(0), Decimal(2)), None, "up-chat")
    assert isinstance(refusal, LimitExceeded)
    assert "The price of model up-chat" in refusal.message
    assert "the key has a budget of $2.00" in refusal.message
    assert "limits.allow_unpriced_models" in refusal.message
