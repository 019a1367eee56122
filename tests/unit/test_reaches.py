"""What a provider would reach out to is a fact; no server that it would call by itself passes unless it is named."""

from __future__ import annotations

from typing import Any

import pytest
from gatehouse.dialects.reaches import check_servers, reaches
from gatehouse.errors import PolicyDenied
from gatehouse.shapes import request_view

SERVER = {"type": "mcp", "server_label": "tickets", "server_url": "https://mcp.example.com/sse"}
MAIL = {"type": "mcp", "server_label": "mail", "connector_id": "connector_gmail"}
ANTHROPIC = {"type": "url", "name": "tickets", "url": "https://mcp.example.com/sse"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"tools": [SERVER]}, "tools[0].server_url"),
        ({"tools": [{"type": "function", "name": "f"}, MAIL]}, "tools[1].connector_id"),
        ({"tools": [{"type": "mcp", "server_label": "tickets"}]}, "tools[0].type"),
        ({"tools": [{"type": "of_next_year", "server_url": "https://mcp.example.com"}]}, "tools[0].server_url"),
        ({"tools": [{"type": "namespace", "name": "n", "tools": [SERVER]}]}, "tools[0].tools[0].server_url"),
        ({"tools": [SERVER | {"server_url": ["https://mcp.example.com"]}]}, "tools[0].server_url"),
        ({"tools": [SERVER | {"server_url": "litellm_proxy/mcp/tickets"}]}, "tools[0].server_url"),
        ({"mcp_servers": [ANTHROPIC]}, "mcp_servers[0]"),
        ({"mcp_servers": ["https://mcp.example.com"]}, "mcp_servers[0]"),
        ({"mcp_servers": {"url": "https://mcp.example.com"}}, "mcp_servers"),
    ],
)
def test_no_server_is_allowed_as_shipped(body: dict[str, Any], field: str) -> None:
    with pytest.raises(PolicyDenied) as refused:
        check_servers(body, ())
    assert refused.value.param == field
    assert refused.value.policies == ("hosted_mcp",)


@pytest.mark.parametrize(
    "body", [{}, {"tools": None}, {"tools": []}, {"mcp_servers": []}, {"tools": [{"type": "function", "name": "mcp"}]}]
)
def test_what_calls_no_server_passes(body: dict[str, Any]) -> None:
    check_servers(body, ())


@pytest.mark.parametrize(
    ("allowed", "address", "passes"),
    [
        ("https://mcp.example.com/", "https://mcp.example.com/sse", True),
        ("https://mcp.example.com", "https://mcp.example.com", True),
        ("https://mcp.example.com", "https://MCP.example.com:443/sse?x=1", True),
        ("https://mcp.example.com/team", "https://mcp.example.com/team/a", True),
        ("https://mcp.example.com/team/", "https://mcp.example.com/team", True),
        ("https://mcp.example.com/team", "https://mcp.example.com/teams", False),
        ("https://mcp.example.com/team", "https://mcp.example.com/team/../other", False),
        ("https://mcp.example.com/team", "https://mcp.example.com/team/%2E./other", False),
        ("https://mcp.example.com/", "https://mcp.example.com.evil.example/", False),
        ("https://mcp.example.com/", "https://mcp.example.com@evil.example/", False),
        ("https://mcp.example.com/", "https://evil.example\\@mcp.example.com/", False),
        ("https://mcp.example.com/", "https://mcp.example.com:8443/", False),
        ("https://mcp.example.com/", "https://mcp.example.com:x/", False),
        ("https://mcp.example.com/", "http://mcp.example.com/", False),
        ("https://mcp.example.com/", "https://mcp.example.com/ x", False),
        ("https://mcp.example.com/", "//mcp.example.com/", False),
        ("https://mcp.example.com/", "", False),
        ("connector_gmail", "connector_gmail", True),
        ("connector_gmail", "connector_gmail_2", False),
        ("connector_gmail", "connector_gmail/x", False),
        ("litellm_proxy", "litellm_proxy/mcp/tickets", True),
    ],
)
def test_a_server_is_allowed_by_its_address_or_name(allowed: str, address: str, passes: bool) -> None:
    for body in (
        {"tools": [{"type": "mcp", "server_url": address}]},
        {"mcp_servers": [{"type": "url", "url": address, "name": "a"}]},
    ):
        if passes:
            check_servers(body, ["https://another.example", allowed])
        else:
            with pytest.raises(PolicyDenied):
                check_servers(body, ["https://another.example", allowed])


def test_each_of_several_servers_must_be_allowed() -> None:
    with pytest.raises(PolicyDenied) as refused:
        check_servers({"tools": [SERVER, MAIL]}, ["https://mcp.example.com/"])
    assert refused.value.param == "tools[1].connector_id"
    both = SERVER | {"connector_id": "connector_gmail"}
    with pytest.raises(PolicyDenied):
        check_servers({"tools": [both]}, ["https://mcp.example.com/"])


def of(call_type: str, **fields: Any) -> tuple[str, ...]:
    body = {"model": "m", **fields}
    return reaches(body, request_view(call_type, body).files)


def says(*content: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "hello"}, *content]}]


def test_links_are_facts_by_their_host_in_every_api() -> None:
    link = {"type": "image_url", "image_url": {"url": "https://Images.example.com/a.png"}}
    data = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert of("acompletion", messages=says(link, data)) == ("link:images.example.com",)
    assert of("acompletion", messages=says(data)) == ()
    odd = {"type": "image_url", "image_url": {"url": "https://x y@/a.png"}}
    assert of("acompletion", messages=says(odd)) == ("link:unknown",)
    source = {"type": "url", "url": "http://files.example/a.pdf"}
    assert of("anthropic_messages", max_tokens=5, messages=says({"type": "document", "source": source})) == (
        "link:files.example",
    )
    parts = [
        {"type": "input_image", "image_url": "https://a.example/"},
        {"type": "input_file", "file_url": "HTTPS://B"},
    ]
    assert of("aresponses", input=[{"role": "user", "content": parts}]) == ("link:a.example", "link:b")


def test_what_a_provider_keeps_and_looks_up_is_a_fact() -> None:
    tools = [
        SERVER,
        MAIL,
        {"type": "file_search", "vector_store_ids": ["vs_1"]},
        {"type": "web_search_preview"},
        {"type": "function", "name": "f", "parameters": {}},
    ]
    assert of("aresponses", input="hello", tools=tools, prompt={"id": "pmpt_1"}) == (
        "connector:connector_gmail",
        "mcp:mcp.example.com",
        "prompt",
        "vector_store",
        "web",
    )
    assert of("atext_completion", prompt="hello") == ()
    assert of("acompletion", messages=says(), web_search_options={}) == ("web",)
