"""Requests about a response that the provider stores: which they are, and what their queries may say."""

from __future__ import annotations

from typing import Any

import pytest
from gatehouse.core.errors import InvalidRequest
from gatehouse.dialects.conversations import Kind, StoredId
from gatehouse.dialects.stored_responses import Action, StoredResponse, parameters, stored_response

BEFORE = ["", "/v1", "/openai/v1"]


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize(
    ("method", "after", "action"),
    [
        ("GET", "", Action.FETCH),
        ("DELETE", "", Action.DELETE),
        ("POST", "/cancel", Action.CANCEL),
        ("GET", "/input_items", Action.LIST_INPUT),
    ],
)
def test_a_path_says_what_is_done_with_which_response(before: str, method: str, after: str, action: Action) -> None:
    assert stored_response(method, f"{before}/responses/resp_1=-{after}") == StoredResponse(
        action, StoredId(Kind.RESPONSE, "resp_1=-"), f"{before}/responses/{{response_id}}{after}"
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/responses/resp_1"),
        ("PUT", "/v1/responses/resp_1"),
        ("GET", "/v1/responses"),
        ("GET", "/v1/responses/"),
        ("GET", "/v1/responses/resp_1/"),
        ("GET", "/v1/responses/resp_1/cancel"),
        ("POST", "/v1/responses/resp_1/input_items"),
        ("GET", "/v1/responses/resp_1/input_items/x"),
        ("GET", "/v1/responses/a/b"),
        ("GET", "/openai/responses/resp_1"),
        ("GET", "/V1/responses/resp_1"),
        ("GET", "/v1/responses/compact"),
        ("GET", "/v1/responses/input_tokens"),
        ("WEBSOCKET", "/v1/responses/resp_1"),
    ],
)
def test_any_other_path_is_none(method: str, path: str) -> None:
    assert stored_response(method, path) is None


@pytest.mark.parametrize(
    ("action", "query", "given"),
    [
        (Action.FETCH, "", {}),
        (Action.FETCH, "stream=true&starting_after=12&include_obfuscation=false", {
            "stream": True, "starting_after": 12, "include_obfuscation": False
        }),
        (Action.FETCH, "include[]=a.b_c&include=d&api-version=2026&limit=5", {"include": ["a.b_c", "d"]}),
        (Action.LIST_INPUT, "limit=100&order=asc&after=msg_1&before=msg-2", {
            "limit": 100, "order": "asc", "after": "msg_1", "before": "msg-2"
        }),
        (Action.LIST_INPUT, "stream=true", {}),
        (Action.CANCEL, "limit=x&stream=y", {}),
    ],
)  # fmt: skip
def test_a_query_has_the_apis_parameters(action: Action, query: str, given: dict[str, Any]) -> None:
    assert parameters(action, query) == given


@pytest.mark.parametrize(
    ("action", "query", "param"),
    [
        (Action.FETCH, "stream=yes", "stream"),
        (Action.FETCH, "stream=true&stream=true", "stream"),
        (Action.FETCH, "starting_after=-1", "starting_after"),
        (Action.FETCH, "starting_after=1234567890", "starting_after"),
        (Action.FETCH, "include=a/b", "include"),
        (Action.LIST_INPUT, "limit=0", "limit"),
        (Action.LIST_INPUT, "limit=101", "limit"),
        (Action.LIST_INPUT, "limit=%C2%B2", "limit"),
        (Action.LIST_INPUT, "limit=", "limit"),
        (Action.LIST_INPUT, "order=up", "order"),
        (Action.LIST_INPUT, "after=a/../b", "after"),
        (Action.LIST_INPUT, f"after={'a' * 257}", "after"),
    ],
)
def test_another_value_is_refused_by_name(action: Action, query: str, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parameters(action, query)
    assert refused.value.param == param


def test_only_what_litellm_knows_goes_to_it() -> None:
    id_ = StoredId(Kind.RESPONSE, "resp_1")
    assert StoredResponse(Action.FETCH, id_, "", {"include": ["a"], "starting_after": 3}).for_engine == {}
    assert StoredResponse(Action.FETCH, id_, "", {"stream": True, "starting_after": 3}).for_engine == {"stream": True}
    assert StoredResponse(Action.LIST_INPUT, id_, "", {"limit": 3}).for_engine == {"limit": 3}
