"""LiteLLM sees the headers of an allow-list, and one credential."""

from __future__ import annotations

import pytest
from gatehouse.approvals.caller_options import APPROVAL_HEADER, HOLD_HEADER, OVER_HEADER
from gatehouse.core.errors import InvalidRequest
from gatehouse.dialects.caller_fields import CallerBounds
from gatehouse.dialects.caller_headers import (
    CREDENTIALS,
    OUR_NAMES,
    OURS,
    ConfiguredHeaders,
    names_in_headers,
    passed_on,
    renamed_headers,
)
from gatehouse.guards.screens.categories import HEADER
from gatehouse.policy.limits import MAX_COST_HEADER, MAX_TOKENS_HEADER

NONE = ConfiguredHeaders()
BOUNDS = CallerBounds(timeout_s=60, num_retries=2)


def passed(*headers: tuple[str, str], configured: ConfiguredHeaders = NONE) -> list[tuple[str, str]]:
    given = [(name.encode(), value.encode()) for name, value in headers]
    return [(name.decode(), value.decode()) for name, value in passed_on(given, BOUNDS, configured)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("content-type", "application/json"),
        ("host", "gateway"),
        ("user-agent", "codex_cli_rs/0"),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "interleaved-thinking-2025-05-14,context-management-2025-06-27"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("x-gatehouse-approval", "request"),
        ("x-gatehouse-session", "s-1"),
        ("x-litellm-timeout", "30"),
        ("x-litellm-stream-timeout", "1.5"),
        ("x-litellm-num-retries", "0"),
    ],
)
def test_what_agents_need_passes(name: str, value: str) -> None:
    assert passed((name, value)) == [(name, value)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-my-session-id", "ada@example.com"),
        ("session_id", "s-1234567890"),
        ("conversation_id", "s-1234567890"),
        ("baggage", "session.id=ada@example.com"),
        ("cache-control", "no-cache"),
        ("cookie", "token=x"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-mcp-servers", "x"),
        ("openai-organization", "org-1"),
        ("x-stainless-lang", "python"),
        ("accept-encoding", "gzip"),
        ("litellm_user_api_key", "sk-x"),
        ("user-agent", "(ada@example.com)"),
        ("user-agent", "ada.lovelace/1.0"),
        ("user-agent", "4532015112830366"),
        ("user-agent", "curl.ada"),
        ("x-gatehouse-other", "ada@example.com"),
        ("anthropic-beta", "Ada Lovelace"),
        ("anthropic-beta", "4532015112830366"),
        ("traceparent", "00-000000000000000a4532015112830366-00f067aa0ba902b7-01"),
        ("traceparent", "ada@example.com"),
    ],
)
def test_what_nobody_needs_is_left_out(name: str, value: str) -> None:
    assert passed((name, value)) == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("OpenAI/Python 1.99.9", "OpenAI"),
        ("AsyncOpenAI/1.2 (ada@example.com) x", "AsyncOpenAI/1"),
        ("claude-cli/2.0.14 (external, cli)", "claude-cli/2"),
        ("codex_cli_rs/0.171.0 (Linux) ada", "codex_cli_rs/0"),
        ("python-httpx/0.28.1", "python-httpx/0"),
        ("curl/4532015112830366", "curl"),
        ("Mozilla/5.0 (X11) ada", "Mozilla/5"),
    ],
)
def test_of_a_user_agent_the_product_is_kept_where_it_is_known(given: str, kept: str) -> None:
    assert passed(("user-agent", given)) == [("user-agent", kept)]


def test_an_address_is_passed_on_where_litellm_reads_it_and_nothing_else_is() -> None:
    configured = ConfiguredHeaders(others=frozenset((b"x-forwarded-for",)))
    assert passed(("x-forwarded-for", "10.0.0.1, ::1"), configured=configured) == [("x-forwarded-for", "10.0.0.1, ::1")]
    assert passed(("x-forwarded-for", "4532015112830366"), configured=configured) == []
    assert passed(("x-forwarded-for", "10.0.0.1, ada@example.com"), configured=configured) == []


def test_names_in_headers_are_those_that_are_kept() -> None:
    configured = ConfiguredHeaders(others=frozenset((b"x-corp-user", b"x-forwarded-for")))
    headers = [
        (b"x-gatehouse-agent", b"123456789"),
        (b"x-gatehouse-session", b" ada@example.com "),
        (b"x-gatehouse-max-tokens", b"123456789"),
        (b"x-gatehouse-hold", b"ada"),
        (b"x-corp-user", b"eve@example.com"),
        (b"x-forwarded-for", b"10.0.0.1"),
        (b"authorization", b"Bearer eve@example.com"),
    ]
    names = names_in_headers(headers, configured)
    assert names == ["123456789", "ada@example.com", "ada", "eve@example.com"]
    changed = renamed_headers(headers, configured, {"eve@example.com": "hash", "Bearer eve@example.com": "no"})
    assert changed == [(header, b"hash" if header == b"x-corp-user" else value) for header, value in headers]


def test_our_own_headers_are_those_that_are_read() -> None:
    read = {
        APPROVAL_HEADER,
        OVER_HEADER,
        HOLD_HEADER,
        MAX_TOKENS_HEADER.lower(),
        MAX_COST_HEADER.lower(),
        HEADER.lower(),
    }
    assert {name.encode() for name in read} | OUR_NAMES == OURS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-litellm-timeout", "61"),
        ("x-litellm-timeout", "0"),
        ("x-litellm-timeout", "-1"),
        ("x-litellm-timeout", "inf"),
        ("x-litellm-timeout", "1e1"),
        ("x-litellm-num-retries", "3"),
        ("x-litellm-num-retries", "-1"),
        ("x-litellm-tags", "a"),
        ("x-litellm-session-id", "s"),
        ("x-litellm-trace-id", "s"),
        ("x-litellm-call-id", "s"),
        ("x-litellm-agent-id", "s"),
        ("x-litellm-disable-callbacks", "governance"),
        ("x-litellm-spend-logs-metadata", "{}"),
        ("x-litellm-of-next-year", "x"),
    ],
)
def test_litellms_own_headers_are_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match=name):
        passed((name, value))


def test_one_credential_passes_the_one_that_litellm_looks_for_first() -> None:
    given = [(name.decode(), f"sk-{n}") for n, name in enumerate(CREDENTIALS)]
    assert passed(*given) == [("x-litellm-api-key", "sk-0")]
    # Claude's own login beside the gateway's key would go to the provider in the place of the operator's.
    assert passed(("authorization", "Bearer sk-ant-oat01-x"), ("x-litellm-api-key", "sk-1")) == [
        ("x-litellm-api-key", "sk-1")
    ]
    assert passed(("x-api-key", "sk-1")) == [("x-api-key", "sk-1")]
    assert passed(("x-api-key", "sk-1"), ("authorization", "Bearer sk-2")) == [("authorization", "Bearer sk-2")]


def test_what_the_operator_has_litellm_read_passes() -> None:
    configured = ConfiguredHeaders(b"x-corp-key", frozenset((b"x-corp-user",)))
    headers = [("x-corp-key", "sk-1"), ("authorization", "Bearer sk-2"), ("x-corp-user", "ada"), ("x-corp-other", "b")]
    assert passed(*headers, configured=configured) == [("x-corp-key", "sk-1"), ("x-corp-user", "ada")]
    assert passed(("authorization", "Bearer sk-2"), ("x-corp-user", "a"), configured=configured) == [
        ("authorization", "Bearer sk-2"),
        ("x-corp-user", "a"),
    ]
