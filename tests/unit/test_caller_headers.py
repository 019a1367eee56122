"""LiteLLM sees the headers of an allow-list, and one credential."""

from __future__ import annotations

import pytest
from gatehouse.dialects.caller_fields import CallerBounds
from gatehouse.dialects.caller_headers import CREDENTIALS, ConfiguredHeaders, passed_on
from gatehouse.errors import InvalidRequest

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
        ("user-agent", "codex_cli_rs/0.171.0"),
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
        ("anthropic-beta", "Ada Lovelace"),
        ("traceparent", "ada@example.com"),
    ],
)
def test_what_nobody_needs_is_left_out(name: str, value: str) -> None:
    assert passed((name, value)) == []


def test_of_a_user_agent_its_first_product_is_kept() -> None:
    assert passed(("user-agent", "OpenAI/1.2 (ada@example.com) x")) == [("user-agent", "OpenAI/1.2")]


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
