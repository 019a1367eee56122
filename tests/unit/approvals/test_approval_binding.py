"""An approval's digest is the same for the same request, and another for every other request."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from gatehouse.approvals.binding import Unbindable
from hypothesis import given
from hypothesis import strategies as st

from tests.support.binding import digest

CALLER = {"key_hash": "a" * 64, "user": "ada", "team": "research"}
BODY = {
    "model": "demo",
    "messages": [{"role": "user", "content": "transfer 10"}],
    "temperature": 0.5,
    "tools": [{"type": "function", "function": {"name": "pay", "parameters": {"max": 3}}}],
    "stream": False,
}

texts = st.text(st.characters(codec="utf-8"), max_size=8)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
bodies = st.dictionaries(texts.map(lambda name: f"x{name}"), values, min_size=1, max_size=5)


def of(body: Any = BODY, caller: Any = CALLER, route: str = "/v1/chat/completions", version: str = "v1") -> str:
    return digest(caller=caller, route=route, body=body, policy_version=version)


def said(value: Any) -> Any:
    """Return a value as JSON tells it from others: 1 is 1.0, and true is neither."""
    if isinstance(value, dict):
        return ("object", frozenset((name, said(inner)) for name, inner in value.items()))
    if isinstance(value, list):
        return ("array", tuple(said(inner) for inner in value))
    return (type(value).__name__ if isinstance(value, bool | str) or value is None else "number", value)


def shuffled(value: Any, rnd: Any) -> Any:
    if isinstance(value, dict):
        names = list(value)
        rnd.shuffle(names)
        return {name: shuffled(value[name], rnd) for name in names}
    return [shuffled(inner, rnd) for inner in value] if isinstance(value, list) else value


@given(bodies, st.randoms(use_true_random=False))
def test_the_order_of_keys_changes_nothing(body: dict[str, Any], rnd: Any) -> None:
    assert of(shuffled(body, rnd)) == of(body)


@given(bodies, bodies)
def test_two_bodies_share_a_digest_only_when_they_are_the_same_json(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (of(one) == of(other)) == (said(one) == said(other))


@given(bodies, st.data())
def test_any_changed_value_changes_the_digest(body: dict[str, Any], data: st.DataObject) -> None:
    changed = copy.deepcopy(body)
    place: Any = changed
    name: Any = data.draw(st.sampled_from(sorted(place)))
    while isinstance(place[name], dict | list) and place[name]:
        place = place[name]
        name = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
    place[name] = data.draw(values.filter(lambda value: said(value) != said(place[name])))
    assert of(changed) != of(body)


@given(bodies, texts.map(lambda name: f"y{name}"), values)
def test_any_added_or_removed_field_changes_the_digest(body: dict[str, Any], name: str, value: Any) -> None:
    assert of({**body, name: value}) != of(body)


@given(texts, texts)
def test_another_key_user_route_or_policy_is_another_request(one: str, other: str) -> None:
    for change in (
        lambda text: of(caller={**CALLER, "key_hash": text}),
        lambda text: of(caller={**CALLER, "user": text}),
        lambda text: of(route=text),
        lambda text: of(version=text),
    ):
        assert (change(one) == change(other)) == (one == other)


def test_no_field_can_pass_for_another() -> None:
    assert of(caller={"user": "ada"}) != of(caller={"team": "ada"})
    assert of(body={"a": {"b": 1}}) != of(body={"a": 1, "b": 1})
    assert of(route="/a", version="b") != of(route="/b", version="a")


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, 2**53, -(2**53), "\ud800", {1: "a"}, {"\udfff": 1}, b"file", object(), {1, 2}],
)
def test_what_has_no_canonical_form_cannot_be_bound(value: object) -> None:
    for body in ({"x": value}, {"x": [{"y": value}]}):
        with pytest.raises(Unbindable):
            of(body)


def test_a_body_too_deep_cannot_be_bound() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Unbindable):
        of({"x": deep})
