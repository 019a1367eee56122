"""An approval admits the request that was approved and none of 10,000 that differ from it in one place."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
from gatehouse.approvals.binding import Unbindable, bind, edited_digest
from gatehouse.approvals.model import Edit
from gatehouse.core.keys import DerivedKey, InstallationKeys, Purpose

from tests.support.binding import digest

KEYS = InstallationKeys("n" * 32, "o" * 32)
APPROVED: dict[str, Any] = {
    "caller": {"key_hash": "a" * 64, "key_alias": "payer", "user": "ada", "team": "research", "role": "internal_user"},
    "route": "/v1/chat/completions",
    "policy_version": "f" * 64,
    "values": {"<EMAIL_ADDRESS_1>": "anna@bank.example", "<IBAN_CODE_1>": "DE89 3704 0044 0532 0130 00", "<X_1>": ""},
    "body": {
        "model": "demo",
        "messages": [
            {"role": "system", "content": "You pay bills."},
            {"role": "user", "content": [{"type": "text", "text": "Pay 10 to <EMAIL_ADDRESS_1>, <IBAN_CODE_1>"}]},
            {"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "pay", "arguments": '{"to": 1}'}}]},
            {"role": "tool", "tool_call_id": "c1", "content": '{"paid": [1.5, true, null]}'},
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "pay", "description": "Pays.", "parameters": {"type": "object", "maximum": 3}},
            }
        ],
        "tool_choice": "auto",
        "response_format": {"type": "json_schema", "json_schema": {"name": "paid", "schema": {"enum": [1, 2, None]}}},
        "prediction": {"type": "content", "content": "paid"},
        "mcp_servers": [{"url": "https://tools.example", "authorization_token": "t0ken"}],
        "headers": {"x-tool-token": "s3cret", "x-beta": "b"},
        "documents": [{"title": "Bill", "text": "10 euros", "pages": [1, 2]}],
        "metadata": {"order": "7", "tags": ["a", "b"]},
        "litellm_system_prompt": "Be kind.",
        "extra_body": {"new_field": {"deep": [{"deeper": [0, False, "", [], {}]}]}},
        "stop": ["END", "end"],
        "temperature": 0.5,
        "max_tokens": 100,
        "n": 1,
        "seed": 0,
        "stream": False,
        "logit_bias": {"50256": -100},
    },
}
OTHERS = ["", "x", "0", "1", "true", "null", 0, 1, -1, 0.25, 2**40, True, False, None, [], {}, [None], {"": None}]


def of(request: dict[str, Any], key: DerivedKey | None = None) -> str:
    return digest(**request, key=key or KEYS.key(Purpose.APPROVALS))


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same JSON: 1 is 1.0, and true is neither."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and type(one) is type(other) and one == other


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each place of a value, also of its containers."""
    if isinstance(value, dict | list):
        yield path
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, name))
    else:
        yield path


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


PLACES = [path for path in places(APPROVED) if path]


def mutated(rnd: random.Random) -> dict[str, Any]:
    """Return the approved request with one difference."""
    changed = copy.deepcopy(APPROVED)
    path = rnd.choice(PLACES)
    holder, name, value = at(changed, path[:-1]), path[-1], at(changed, path)
    texts_only = path[0] in ("caller", "values") or len(path) == 1
    ways = ["edit"] if isinstance(value, str) and value else []
    ways += [] if len(path) == 1 else ["remove"]
    ways += [] if texts_only else ["replace", "wrap"]
    ways += ["add"] if isinstance(value, dict | list) and path[0] != "route" and path != () else []
    if isinstance(value, list) and len(value) > 1:
        ways += ["swap", "repeat"]
    if isinstance(value, int | float) and not isinstance(value, bool):
        ways.append("count")
    match rnd.choice(ways or ["lengthen"]):
        case "edit":
            place = rnd.randrange(len(value))
            character = rnd.choice([c for c in "abz 09\u00e9\U0001f600\0\u200b" if c != value[place]])
            holder[name] = value[:place] + character + value[place + rnd.randrange(2) :]
        case "lengthen":
            holder[name] = f"{value}x"
        case "remove":
            del holder[name]
        case "replace":
            holder[name] = rnd.choice(OTHERS)
        case "wrap":
            holder[name] = rnd.choice([[value], {"value": value}, [value, value]])
        case "add":
            new = str(rnd.randrange(10**6))
            if isinstance(value, list):
                value.insert(rnd.randrange(len(value) + 1), new)
            else:
                value[new] = new
        case "swap":
            first, second = rnd.sample(range(len(value)), 2)
            value[first], value[second] = value[second], value[first]
        case "repeat":
            value.append(value[-1])
        case "count":
            holder[name] = value + rnd.choice([-1, 1, 0.5])
    return changed


def shuffled(value: Any, rnd: random.Random) -> Any:
    if isinstance(value, dict):
        names = list(value)
        rnd.shuffle(names)
        return {name: shuffled(value[name], rnd) for name in names}
    return [shuffled(inner, rnd) for inner in value] if isinstance(value, list) else value


def test_none_of_10000_changed_requests_has_the_digest_of_the_approved_one() -> None:
    rnd, approved = random.Random(12), of(APPROVED)
    tried, where = 0, set()
    while tried < 10_000:
        changed = mutated(rnd)
        if same(changed, APPROVED):
            continue
        tried += 1
        where |= {name for name in APPROVED if not same(changed[name], APPROVED[name])}
        assert of(changed) != approved, changed
    assert where == set(APPROVED)


def test_the_approved_request_has_its_digest_in_any_order_and_nothing_else_counts() -> None:
    rnd = random.Random(12)
    assert {of(shuffled(APPROVED, rnd)) for _ in range(50)} == {of(APPROVED)}


def test_values_behind_placeholders_cannot_trade_places_or_run_into_each_other() -> None:
    def with_values(**values: str) -> str:
        return of(APPROVED | {"values": values})

    assert with_values(A="b", C="d") == with_values(C="d", A="b")
    assert len({with_values(**each) for each in ({"A": "b", "C": "d"}, {"A": "d", "C": "b"}, {"A": "bCd"})}) == 3


def test_a_body_that_spells_a_placeholder_is_not_one_in_which_it_stands_for_a_value() -> None:
    assert of(APPROVED | {"values": {}}) != of(APPROVED)


def test_a_new_secret_ends_approvals_of_personal_data_and_no_others() -> None:
    new, old = KEYS.keys(Purpose.APPROVALS)
    assert of(APPROVED, new) != of(APPROVED, old)
    body = {name: value for name, value in APPROVED["body"].items() if name not in ("mcp_servers", "headers")}
    nobody = APPROVED | {"values": {}, "body": body}
    assert of(nobody, new) == of(nobody, old)


def test_what_is_kept_of_values_tells_nobody_what_they_are() -> None:
    bound = bind(**APPROVED, key=KEYS.key(Purpose.APPROVALS))
    assert b"values_mac" in bound.canonical
    assert not any(value.encode() in bound.canonical for value in APPROVED["values"].values() if value)


def test_credentials_are_bound_and_shown_to_nobody() -> None:
    server = {"type": "mcp", "server_url": "https://s", "authorization": "c1", "headers": {"X-Any": "c2"}}
    body = {
        "tools": [server, {"type": "function", "name": "f", "authorization": "read by a model"}],
        "mcp_servers": [{"url": "https://s", "authorization_token": "c3"}],
        "extra_body": {"mcp_servers": [{"authorization_token": "c4"}], "tools": "t"},
        "headers": {"Authorization": "c5", "x-beta": "seen"},
        "messages": [{"content": [{"type": "tool_use", "input": {"authorization": "said"}}]}],
    }
    bound = bind(caller={}, route="/", body=body, policy_version="v", key=KEYS.key(Purpose.APPROVALS))
    said = json.loads(bound.canonical)["body"]
    assert not any(f'"c{n}"' in json.dumps(said) for n in range(1, 6))
    assert said["tools"][1] == body["tools"][1]
    assert said["messages"] == body["messages"]
    assert said["headers"]["x-beta"] == "seen"
    assert len(set(re.findall(r"CREDENTIAL_\w+", json.dumps(said)))) == 5


def test_values_without_a_key_cannot_be_bound() -> None:
    with pytest.raises(Unbindable):
        digest(**APPROVED)


def test_an_approval_outlives_an_update_for_the_form_that_is_bound_does_not_change() -> None:
    key = KEYS.key(Purpose.APPROVALS)
    body = {"model": "m", "headers": {"authorization": "Bearer x"}}
    asked: dict[str, Any] = {"caller": {"user": "ada"}, "route": "/r", "body": body, "policy_version": "v"}
    bound = bind(**asked, values={"<B_2>": "b", "<A_1>": "a"}, key=key)
    secret, values = key.mac("credential", "Bearer x").hex(), key.mac("values", "<A_1>", "a", "<B_2>", "b").hex()
    assert bound.canonical.decode() == (
        f'{{"body":{{"headers":{{"authorization":"<CREDENTIAL_{secret}>"}},"model":"m"}},"caller":{{"user":"ada"}},'
        f'"policy_version":"v","route":"/r","values_mac":"{values}"}}'
    )
    assert bound.digest == hashlib.sha256(bound.canonical).hexdigest()
    edited = b'{"asked":"d","edit":{"max_tokens":5,"model":"small"}}'
    assert edited_digest("d", Edit("small", 5)) == hashlib.sha256(edited).hexdigest()


@pytest.mark.parametrize("value", [float("nan"), "\ud800", object()])
def test_what_cannot_be_bound_says_so_without_saying_what_it_is(value: object) -> None:
    with pytest.raises(Unbindable, match=r"^the request has no canonical form \(\w+\)$"):
        bind(caller={}, route="/r", body={"x": value}, policy_version="v")
