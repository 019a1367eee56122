"""A caller's headers make approvals stricter than the rules, and never less strict."""

from __future__ import annotations

import pytest
from gatehouse.approvals.caller_options import BY_CALLER, CallerOptions, caller_options
from gatehouse.core.decision import Decision, Verdict
from gatehouse.core.errors import InvalidRequest

ALLOW = Decision(Verdict.ALLOW, ("noted",), "v1")


def test_headers_are_read_in_any_case() -> None:
    said = {"X-Gatehouse-Approval": "request", "X-GATEHOUSE-APPROVAL-OVER-USD": "1e-05", "x-gatehouse-hold": "0"}
    assert caller_options(said) == CallerOptions(only_ask=True, over_usd=1e-05, hold_s=0.0)
    assert (
        caller_options({})
        == caller_options({"x-gatehouse-approval": "01a1fd22-6512-7c11-8a4e-0d1d9c4f7a55"})
        == CallerOptions()
    )


@pytest.mark.parametrize("value", ["", "-1", "nan", "inf", "1e9", "a", "1,5", "٣", " 1", "1" * 11])
@pytest.mark.parametrize("header", ["X-Gatehouse-Hold", "X-Gatehouse-Approval-Over-Usd"])
def test_what_cannot_be_read_refuses_the_request(header: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match=header):
        caller_options({header: value})


@pytest.mark.parametrize(
    ("wish", "estimated", "asks"),
    [
        (CallerOptions(), 9.0, False),
        (CallerOptions(over_usd=5.0), 5.0, False),
        (CallerOptions(over_usd=5.0), 5.01, True),
        (CallerOptions(over_usd=5.0), None, True),
        (CallerOptions(over_usd=5.0), float("nan"), True),
        (CallerOptions(only_ask=True), 0.0, True),
    ],
)
def test_a_person_must_agree_where_the_caller_wants_one(
    wish: CallerOptions, estimated: float | None, asks: bool
) -> None:
    decision = wish.stricter(ALLOW, estimated)
    assert (decision.verdict is Verdict.REQUIRE_APPROVAL) is asks
    assert decision.policies == (("noted", BY_CALLER) if asks else ("noted",))


@pytest.mark.parametrize("verdict", [Verdict.DENY, Verdict.REQUIRE_APPROVAL])
def test_what_the_rules_want_stays_as_it_is(verdict: Verdict) -> None:
    decision = Decision(verdict, ("rule",), "v1", "because")
    assert CallerOptions(only_ask=True, over_usd=0.0).stricter(decision, 1.0) is decision
