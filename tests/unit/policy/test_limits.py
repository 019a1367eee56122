"""The strictest limit wins, a caller never raises one, and what cannot be read refuses the request."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import pytest
from gatehouse.core.errors import GovernanceError, InvalidRequest, LimitExceeded, Misconfigured
from gatehouse.policy.limits import Ceiling, Estimate, ceiling, check, is_allowed_unpriced
from gatehouse.policy.model import LimitsPolicy
from hypothesis import given
from hypothesis import strategies as st

TOKENS, COST = "X-Gatehouse-Max-Tokens", "X-Gatehouse-Max-Cost-Usd"


def limits(tokens: int | None = None, cost: float | None = None, unpriced: tuple[str, ...] = ()) -> LimitsPolicy:
    return LimitsPolicy(max_tokens_per_request=tokens, max_cost_per_request_usd=cost, allow_unpriced_models=unpriced)


def metadata(tokens: Any = None, cost: Any = None) -> dict[str, Any]:
    return {"gatehouse": {"max_tokens_per_request": tokens, "max_cost_per_request_usd": cost}}


def estimate(inside: int = 10, outside: int = 5, usd: float | None = 0.5, model: str = "demo") -> Estimate:
    return Estimate(model, inside, outside, usd, 1e-6, 2e-6, "config" if usd is not None else "none")


@pytest.mark.parametrize(
    ("policy", "key", "team", "headers", "expected"),
    [
        (None, {}, {}, {}, Ceiling()),
        (limits(), {}, {}, {}, Ceiling()),
        (limits(100, 1.0), {}, {}, {}, Ceiling(100, 1.0, "policy.yaml", "policy.yaml")),
        (limits(100), metadata(50), metadata(70), {}, Ceiling(50, None, "the key", "")),
        (limits(100), metadata(70), metadata(50), {}, Ceiling(50, None, "the key's team", "")),
        (limits(100, 1.0), metadata(200, 0.5), {}, {}, Ceiling(100, 0.5, "policy.yaml", "the key")),
        (limits(50, 0.5), metadata(50, 0.5), {}, {}, Ceiling(50, 0.5, "policy.yaml", "policy.yaml")),
        (None, metadata(1, 1e9), {}, {}, Ceiling(1, 1e9, "the key", "the key")),
        (None, metadata(10**12 - 1), {}, {TOKENS: "1"}, Ceiling(1, None, f"the header {TOKENS}", "")),
        (None, {}, {}, {COST: "1000000000"}, Ceiling(None, 1e9, "", f"the header {COST}")),
        (None, metadata(None, 3), {}, {}, Ceiling(None, 3.0, "", "the key")),
        (None, metadata(None, 0), {}, {}, Ceiling(None, 0.0, "", "the key")),
        (None, {"gatehouse": None, "tags": ["x"]}, {"gatehouse": {}}, {}, Ceiling()),
        (None, {}, {}, {TOKENS.lower(): "7"}, Ceiling(7, None, f"the header {TOKENS}", "")),
        (limits(9, 0.1), {}, {}, {TOKENS: "10", COST: "0.2"}, Ceiling(9, 0.1, "policy.yaml", "policy.yaml")),
        (
            limits(9, 0.1),
            {},
            {},
            {TOKENS: "8", COST: "1e-05"},
            Ceiling(8, 1e-5, f"the header {TOKENS}", f"the header {COST}"),
        ),
        (None, {}, {}, {COST: "0"}, Ceiling(None, 0.0, "", f"the header {COST}")),
        (None, {}, {}, {"x-gatehouse-max-tokens": "5", TOKENS: "3"}, Ceiling(3, None, f"the header {TOKENS}", "")),
    ],
)
def test_the_strictest_wins(
    policy: LimitsPolicy | None,
    key: Mapping[str, Any],
    team: Mapping[str, Any],
    headers: Mapping[str, str],
    expected: Ceiling,
) -> None:
    assert ceiling(policy, key, team, headers) == expected


MALFORMED = [
    "",
    " ",
    "-1",
    "+1",
    "nan",
    "NaN",
    "inf",
    "-inf",
    "Infinity",
    "true",
    "None",
    "1,000",
    "1_000",
    "0x10",
    "1e3",
    "1e400",
    "9" * 13,
    "9" * 5000,
    "5, 10",
    "\uff11\uff12",  # full-width digits
    "١٢",
    "1\n",
    "$1",
]


@pytest.mark.parametrize("value", [*MALFORMED, "0", "1.5", "1e-05"])
def test_a_malformed_token_header_is_refused_by_name(value: str) -> None:
    with pytest.raises(InvalidRequest, match=TOKENS):
        ceiling(limits(100), {}, {}, {TOKENS: value})


@pytest.mark.parametrize("value", [*MALFORMED, ".5", "1.", "-0.5", "1e5", "1e-500", "2000000000"])
def test_a_malformed_cost_header_is_refused_by_name(value: str) -> None:
    with pytest.raises(InvalidRequest, match=COST):
        ceiling(limits(100), {}, {}, {COST: value})


BAD_NUMBERS = [True, False, "100", -1, math.nan, math.inf, -math.inf, 10**30, 10**400, [], {}, [1], 1e300]


@pytest.mark.parametrize(
    "bad",
    [
        *(metadata(tokens=number) for number in [*BAD_NUMBERS, 0, 1.5, 10.0, 10**12]),
        *(metadata(cost=number) for number in BAD_NUMBERS),
        {"gatehouse": []},
        {"gatehouse": "max"},
        {"gatehouse": {"max_token_per_request": 5}},
        {"gatehouse": {"max_cost": 5}},
        ["gatehouse"],
        "gatehouse",
    ],
)
@pytest.mark.parametrize("of_team", [False, True])
def test_metadata_that_cannot_be_read_refuses_the_call_and_tells_the_operator(
    bad: Any, of_team: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(Misconfigured) as refused:
        ceiling(None, {} if of_team else bad, bad if of_team else {}, {}, key_name="billing-bot")
    whose = "the key's team" if of_team else "the key"
    assert whose in refused.value.message
    assert "billing-bot" in caplog.text
    assert "metadata" in caplog.text


def test_what_metadata_says_is_in_no_message(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(Misconfigured) as refused:
        ceiling(None, {"gatehouse": {"max_tokens_per_request": "hunter2", "secret": "hunter2"}}, {}, {})
    assert "hunter2" not in caplog.text + refused.value.message


any_tokens = st.none() | st.integers(1, 10**12 - 1)
any_cost = st.none() | st.floats(0.000001, 1e9, allow_nan=False)


@given(any_tokens, any_cost, any_tokens, any_cost, any_tokens, any_cost, st.text(), st.text())
def test_headers_never_raise_a_ceiling(
    tokens: int | None,
    cost: float | None,
    key_tokens: int | None,
    key_cost: float | None,
    team_tokens: int | None,
    team_cost: float | None,
    tokens_header: str,
    cost_header: str,
) -> None:
    said = (limits(tokens, cost), metadata(key_tokens, key_cost), metadata(team_tokens, team_cost))
    before = ceiling(*said, {})
    try:
        after = ceiling(*said, {TOKENS: tokens_header, COST: cost_header})
    except InvalidRequest:
        return
    assert_not_raised(before, after)


@given(any_tokens, any_cost, st.integers(1, 10**12 - 1), st.floats(0, 1e9, allow_nan=False))
def test_good_headers_only_lower(tokens: int | None, cost: float | None, asked: int, usd: float) -> None:
    before = ceiling(limits(tokens, cost), {}, {}, {})
    text = f"{usd:.17f}"
    after = ceiling(limits(tokens, cost), {}, {}, {TOKENS: str(asked), COST: text})
    assert_not_raised(before, after)
    assert after.max_tokens == min(asked, asked if tokens is None else tokens)
    assert after.max_cost_usd == min(float(text), float(text) if cost is None else cost)


def assert_not_raised(before: Ceiling, after: Ceiling) -> None:
    if before.max_tokens is not None:
        assert after.max_tokens is not None
        assert 0 < after.max_tokens <= before.max_tokens
    if before.max_cost_usd is not None:
        assert after.max_cost_usd is not None
        assert 0 <= after.max_cost_usd <= before.max_cost_usd


@pytest.mark.parametrize(
    ("asked", "most", "says"),
    [
        (estimate(10, 5), Ceiling(14, None, "policy.yaml", ""), ["15 tokens", "10 in", "5 out", "14", "policy.yaml"]),
        (estimate(10, 5), Ceiling(14, None, "the key", ""), ["the key allows", "at most 4 tokens"]),
        (estimate(10, 5), Ceiling(10, None, "the key", ""), ["Send less text"]),
        (estimate(10, 0), Ceiling(9, None, "the key", ""), ["Send less text"]),
        (estimate(10**12, 5), Ceiling(9, None, "the key", ""), ["1,000,000,000,005 tokens"]),
        (estimate(usd=0.51), Ceiling(None, 0.5, "", "policy.yaml"), ["$0.51", "$0.5 ", "policy.yaml", "cheaper model"]),
        (estimate(usd=12.5), Ceiling(None, 10.0, "", "the key"), ["$12.50", "$10.00", "the key"]),
        (estimate(usd=12.345), Ceiling(None, 1.0, "", "the key"), ["$12.345 (", "$1.00 "]),
        (estimate(usd=0.000002), Ceiling(None, 0.0, "", "the key"), ["$2e-06", "$0 "]),
        (estimate(usd=math.nan), Ceiling(None, 0.5, "", "policy.yaml"), ["policy.yaml"]),
        (estimate(usd=math.inf), Ceiling(None, 0.5, "", "policy.yaml"), ["policy.yaml"]),
        (
            estimate(usd=None),
            Ceiling(None, 0.5, "", f"the header {COST}"),
            [
                "model demo, or of a model that it falls back to, is not known",
                COST,
                "allow_unpriced_models",
                "$0.5 ",
            ],
        ),
        (
            estimate(usd=None, model="a name\nof sorts"),
            Ceiling(None, 0.5, "", "policy.yaml"),
            ["The price of this model"],
        ),
    ],
)
def test_what_is_over_the_ceiling_is_refused_with_the_numbers_and_the_next_step(
    asked: Estimate, most: Ceiling, says: list[str]
) -> None:
    with pytest.raises(LimitExceeded) as refused:
        check(asked, most, limits())
    for words in says:
        assert words in refused.value.message
    error = refused.value.body(None)["error"]
    assert (refused.value.status, error["code"], error["type"]) == (413, "limit_exceeded", "invalid_request_error")


@pytest.mark.parametrize(
    ("asked", "most"),
    [
        (estimate(), Ceiling()),
        (estimate(10, 5), Ceiling(15, 0.5, "policy.yaml", "policy.yaml")),
        (estimate(usd=None), Ceiling()),
        (estimate(usd=None), Ceiling(15, None, "policy.yaml", "")),
        (estimate(usd=0.0), Ceiling(None, 0.0, "", "the key")),
    ],
)
def test_what_is_at_or_below_the_ceiling_passes(asked: Estimate, most: Ceiling) -> None:
    check(asked, most, None)


@pytest.mark.parametrize(
    ("named", "model", "allowed"),
    [
        ((), "demo", False),
        (("demo",), "demo", True),
        (("demo",), "demo-2", False),
        (("demo",), "Demo", False),
        (("ollama/*",), "ollama/llama3", True),
        (("ollama/*",), "ollama", False),
        (("ollama/*",), "x/ollama/llama3", False),
        (("*",), "anything", True),
        (("a*b",), "axb", False),
        (("x", "y*"), "yes", True),
    ],
)
def test_a_model_without_a_price_passes_a_cost_limit_only_by_name(
    named: tuple[str, ...], model: str, allowed: bool
) -> None:
    assert is_allowed_unpriced(model, limits(unpriced=named)) is allowed
    free = estimate(usd=None, model=model)
    most = Ceiling(None, 1.0, "", "policy.yaml")
    if allowed:
        check(free, most, limits(unpriced=named))
        with pytest.raises(LimitExceeded):  # its tokens are still counted
            check(free, Ceiling(3, 1.0, "policy.yaml", "policy.yaml"), limits(unpriced=named))
    else:
        with pytest.raises(LimitExceeded):
            check(free, most, limits(unpriced=named))
    assert not is_allowed_unpriced(model, None)


@given(
    st.dictionaries(st.text(), st.text()),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
)
def test_whatever_is_sent_is_an_error_of_ours_or_a_ceiling(headers: dict[str, str], junk: Any) -> None:
    for said in (junk, {"gatehouse": junk}, metadata(junk, junk)):
        try:
            found = ceiling(limits(50, 2.0), said, {}, headers)
        except GovernanceError:
            continue
        assert_not_raised(Ceiling(50, 2.0), found)
