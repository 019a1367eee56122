"""The table classifies every route of the installed LiteLLM, and no others."""

from __future__ import annotations

import re

import pytest
from gatehouse.gateway import route_table
from gatehouse.gateway.routes import RouteKind, classify, entries

from tests.support.litellm_routes import registered

# Files of the UI, which are read and no more; and the MCP server, whose paths are closed one by one.
MOUNTS = {"/ui", "/_next", "/litellm-asset-prefix/_next", "/swagger", "/mcp"}
# LiteLLM serves it where its environment says so (DOCS_URL).
ELSEWHERE = {("GET", "/docs")}
# A route answers these beside what it was made for.
COMES_ALONG = {"HEAD", "OPTIONS"}

GOVERNED = set(entries(route_table.GOVERNED))
STORED = set(entries(route_table.STORED))
OPEN = set(entries(route_table.OPEN + route_table.REPLACED))
CLOSED = set(entries("\n".join(route_table.CLOSED.values())))


def filled(path: str) -> str:
    """Return a path that the route stands for."""
    return re.sub(r"\{\w+:path\}", "one/two", re.sub(r"\{\w+\}", "one", path))


def listed(method: str, path: str) -> bool:
    return any((name, path) in GOVERNED | STORED | OPEN | CLOSED for name in (method, "ANY"))


def test_every_route_of_litellm_is_in_the_table() -> None:
    routes = {(method, path) for method, path in registered() if method not in COMES_ALONG}
    mounts = {path for method, path in routes if method == "MOUNT"}
    unread = sorted(route for route in routes if route[0] != "MOUNT" and not listed(*route))
    assert not unread, (
        "LiteLLM has routes that are not in route_table.py. Read the handler of each, then add it: to OPEN if it calls "
        "no model, sends no text to a provider and changes nothing that the pipeline rests on, else to CLOSED under "
        f"its reason: {unread}"
    )
    assert mounts == MOUNTS, "LiteLLM mounts another app. Read it, then open or close its paths in routes.py."


def test_the_table_has_no_route_that_litellm_does_not() -> None:
    there = registered() | ELSEWHERE | {("ANY", path) for _, path in registered()}
    gone = sorted((GOVERNED | STORED | OPEN | CLOSED) - there)
    assert not gone, f"These routes are gone from LiteLLM. Take them out of route_table.py: {gone}"


def test_a_route_is_in_one_part_of_the_table() -> None:
    assert not GOVERNED & OPEN
    assert not GOVERNED & CLOSED
    assert not OPEN & CLOSED
    lines = [
        *entries(route_table.GOVERNED),
        *entries(route_table.STORED),
        *entries(route_table.OPEN),
        *entries(route_table.REPLACED),
        *entries("".join(route_table.CLOSED.values())),
    ]
    assert len(lines) == len(set(lines))


@pytest.mark.parametrize(("method", "path"), sorted(GOVERNED | STORED))
def test_what_the_table_calls_governed_is_governed(method: str, path: str) -> None:
    assert classify(method, filled(path.replace(":path", ""))) is RouteKind.GOVERNED


def test_no_path_is_governed_but_those_of_the_table() -> None:
    """Below /openai LiteLLM passes on to OpenAI every path that is not a route of its own."""
    ends = {re.sub(r"^(/engines|/openai/deployments)/[^/]+|^(/openai)?/v1", "", path) for _, path in GOVERNED}
    begins = ("", "/v1", "/openai", "/openai/v1", "/engines/{model:path}", "/openai/deployments/{model:path}", "/v2")
    paths = [begin + end for begin in begins for end in sorted(ends)]
    governed = {path for path in paths if classify("POST", path.replace("{model:path}", "one")) is RouteKind.GOVERNED}
    assert governed == {path for _, path in GOVERNED}


def test_what_the_table_calls_open_is_open() -> None:
    closed = [route for route in sorted(OPEN) if classify(route[0], filled(route[1])) is not RouteKind.OPEN]
    assert closed == []


def test_what_the_table_calls_closed_is_refused() -> None:
    opened = [route for route in sorted(CLOSED) if classify(route[0], filled(route[1])) is not RouteKind.UNGOVERNED]
    assert opened == []


def test_a_closed_route_is_refused_whatever_stands_for_its_parameters() -> None:
    """`/{provider}/v1/files` is also `/key/v1/files`; where LiteLLM's routes overlap, the closed one counts."""
    heads = sorted({path.split("/")[1] for _, path in OPEN})
    opened = []
    for method, path in sorted(CLOSED):
        if not path.startswith("/{"):
            continue
        for head in heads:
            one = filled(re.sub(r"^/\{\w+\}", f"/{head}", path))
            if head and (method, one) not in OPEN and classify(method, one) is not RouteKind.UNGOVERNED:
                opened.append((method, one))
    assert opened == []


def test_where_an_open_route_and_a_closed_one_overlap_litellm_serves_the_open_one() -> None:
    """An open route without parameters wins over a closed one with parameters; we have checked each such pair."""
    patterns = [
        (method, re.compile(re.sub(r"\{\w+\}", "[^/]+", path.replace(":path", ""))))
        for method, path in CLOSED
        if "{" in path
    ]
    both = {
        (method, path)
        for method, path in OPEN
        if "{" not in path and any(name in (method, "ANY") and found.fullmatch(path) for name, found in patterns)
    }
    assert both == {("GET", "/fallback/login"), ("GET", "/prompts/list"), ("GET", "/v1/mcp/server/submissions")}
