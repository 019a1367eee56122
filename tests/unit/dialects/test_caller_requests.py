"""In thousands of made-up requests LiteLLM gets only what the API has, and the gateway reads all of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gatehouse.core.errors import GovernanceError, InvalidRequest
from gatehouse.dialects import ALL_NAMES, names_of, request_view
from gatehouse.dialects.caller_fields import CallerBounds, caller_request
from gatehouse.dialects.caller_headers import CREDENTIALS, ConfiguredHeaders, passed_on
from gatehouse.dialects.parts import UnknownShape
from gatehouse.gateway.request_body import json_object
from gatehouse.proxy.control_fields import control_fields

from tests.support.caller_requests import WORD, Case, make

FIELDS = control_fields()
BOUNDS = CallerBounds(timeout_s=600, num_retries=0)
FEW = frozenset("metadata tags user timeout num_retries cache".split())


def marks(value: Any) -> set[str]:
    return {match[0].decode() for match in WORD.finditer(json.dumps(value).encode())}


def names_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(names_in, value.values()))
    return set().union(*map(names_in, value)) if isinstance(value, list) else set()


def faults(case: Case) -> list[str]:
    body = case.body
    try:
        given = json_object(body)
        if case.decides:
            given = given.get("body") or {}
        asked = caller_request(case.route.call_type, given, FIELDS, BOUNDS)
    except GovernanceError as refused:
        said = refused.message
        found = [f"the refusal says {word}" for word in marks(said) - case.named] if case.ordinary else []
        if case.ordinary:
            found.append(f"it is ordinary, and refused: {said}")
        if case.named and isinstance(refused, InvalidRequest) and not any(name in said for name in case.named):
            found.append(f"the refusal names none of {case.named}: {said}")
        return found
    later = ("a secret", "header", "packed", "odd: deep")  # other parts refuse these
    found = [f"it is not refused: {why}" for why in case.refused if not why.startswith(later)]
    return found + faults_of(case, asked)


def faults_of(case: Case, asked: dict[str, Any]) -> list[str]:
    """Return what is wrong with a request as LiteLLM gets it."""
    found: list[str] = []
    own = names_of(case.route.call_type)
    new = asked.get("extra_body") or {}
    known = own | FEW | FIELDS.numbers | {"extra_body"}
    found += [f"LiteLLM is given {name!r}" for name in asked.keys() - known]
    found += [f"extra_body holds {name!r}" for name in new if FIELDS.takes(name) or name in ALL_NAMES]
    found += [f"extra_body holds {name!r} below" for name in names_in(list(new.values())) if FIELDS.obeys(name)]
    noted = names_in(asked.get("metadata"))
    found += [f"metadata holds {name!r}" for name in noted if FIELDS.obeys_in_metadata(name)]
    try:
        view = request_view(case.route.call_type, asked, metadata=asked.get("metadata") or ())
    except UnknownShape:
        return found
    unread = marks(asked) - marks([part.text for part in view.scanned])
    return found + [f"nobody reads {case.marks[word]}" for word in unread if case.marks[word].kind != "word"]


# Of these the values may be the caller's words: who asks, what their client is, and what Gatehouse itself is told.
SAID = (*CREDENTIALS, *b"host accept content-type content-length connection user-agent anthropic-beta".split())


def header_faults(case: Case) -> list[str]:
    given = [(name.lower().encode(), value.encode()) for name, value in case.headers]
    try:
        passed = passed_on(given, BOUNDS, ConfiguredHeaders())
    except InvalidRequest as refused:
        return [f"a header is refused: {refused.message}"] if case.ordinary else []
    found = [f"it is not refused: {why}" for why in case.refused if why.startswith("header")]
    for name, value in passed:
        if WORD.search(name) or (WORD.search(value) and name not in SAID and not name.startswith(b"x-gatehouse-")):
            found.append(f"LiteLLM sees {name!r}: {value!r}")
    if len({name for name, _ in passed if name in CREDENTIALS}) > 1:
        found.append("LiteLLM sees two credentials")
    return found


def look(seeds: range) -> None:
    wrong = []
    for seed in seeds:
        case = make(seed)
        wrong += [f"{case}: {fault}" for fault in header_faults(case)]
        if case.route.call_type != "atranscription" and not any(name == "content-encoding" for name, _ in case.headers):
            wrong += [f"{case}: {fault}" for fault in faults(case)]
    assert not wrong, f"{len(wrong)} faults:\n" + "\n".join(wrong)


@pytest.mark.parametrize("first", range(0, 4_000, 1_000))
def test_what_litellm_may_have_is_what_the_api_has_and_all_of_it_is_read(first: int) -> None:
    look(range(first, first + 1_000))


@pytest.mark.long
@pytest.mark.parametrize("first", range(4_000, 104_000, 5_000))
def test_it_is_so_for_many_more(first: int) -> None:
    look(range(first, first + 5_000))
