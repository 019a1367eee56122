"""Every route is governed, known to be harmless, or refused; none slips through by accident."""

from __future__ import annotations

import pytest
from gatehouse.dialects.call_types import call_type_of
from gatehouse.gateway.routes import RouteKind, _Table, classify, entries, is_management, model_in, template_of
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/chat/completions",
        "/openai/v1/responses",
        "/engines/any-model/completions",
        "/openai/deployments/any-model/embeddings",
        "/v1/messages",
        "/v1/moderations",
        "/v1/images/generations",
        "/v1/audio/speech",
        "/v1/audio/transcriptions",
    ],
)
def test_routes_that_call_a_model_are_governed(path: str) -> None:
    assert classify("POST", path) is RouteKind.GOVERNED


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("POST", "/key/generate"),
        ("GET", "/ui/"),
        ("GET", "/health/readiness"),
        ("POST", "/v2/login"),
    ],
)
def test_routes_that_manage_the_proxy_are_open(method: str, path: str) -> None:
    assert classify(method, path) is RouteKind.OPEN


@pytest.mark.parametrize(
    "path",
    [
        "/unheard-of",
        "/vertex_ai/x",
        "/anthropic/v1/messages",
        "/key/health",
        "/v1/models/m:generateContent",
        "/config/pass_through_endpoint",
        "/guardrails/apply_guardrail",
        "/policies/test-pipeline",
    ],
)
def test_what_nobody_vouches_for_is_refused_unless_policy_names_it(path: str) -> None:
    assert classify("POST", path) is RouteKind.UNGOVERNED
    assert classify("POST", path, (path,)) is RouteKind.OPEN
    assert classify("POST", path, (path[:-1] + "*",)) is RouteKind.OPEN


# Each was open on 0.1.0, since its path begins like one that manages the proxy.
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/models/up-chat:countTokens"),
        ("POST", "/models/org/name:countTokens"),
        ("POST", "/models/org/name:streamGenerateContent"),
        ("POST", "/v1/models/org/name:generateContent"),
        ("GET", "/models/up-chat:countTokens"),
        ("PATCH", "/model/x:generateContent/update"),
        ("POST", "/key/v1/files"),
        ("POST", "/user/v1/batches"),
        ("GET", "/models/v1/files/id/content"),
        ("POST", "/key/mcp"),
        ("POST", "/team/token"),
        ("POST", "/config/update"),
        ("POST", "/config/field/update"),
        ("POST", "/config/field/delete"),
        ("POST", "/config/callback/delete"),
        ("POST", "/config_overrides/hashicorp_vault"),
        ("POST", "/team/t/callback"),
        ("POST", "/team/a/b/callback"),
        ("DELETE", "/team/t/callback/langfuse"),
        ("POST", "/team/t/disable_logging"),
        ("POST", "/guardrails"),
        ("PUT", "/guardrails/g"),
        ("POST", "/policies"),
        ("POST", "/cache/settings"),
        ("POST", "/cache/flushall"),
        ("PATCH", "/update/ui_settings"),
        ("PATCH", "/update/websearch_interception_settings"),
        ("POST", "/key/of-the-next-release"),
        ("PROPFIND", "/key/info"),
    ],
)
def test_an_open_beginning_opens_nothing_else(method: str, path: str) -> None:
    assert classify(method, path) is RouteKind.UNGOVERNED


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models/demo"),
        ("GET", "/v1/models/llama3:8b"),
        ("HEAD", "/v1/models"),
        ("GET", "/key/info/"),
        ("GET", "/guardrails/list"),
        ("POST", "/key/some-hash/regenerate"),
        ("PATCH", "/model/some-id/update"),
        ("GET", "/ui/assets/index.js"),
        ("GET", "/governance/v1/health"),
        ("OPTIONS", "/key/generate"),
    ],
)
def test_what_the_ui_and_agents_need_stays_open(method: str, path: str) -> None:
    assert classify(method, path) is RouteKind.OPEN


def test_a_websocket_is_open_only_where_policy_names_it_in_full() -> None:
    for path in ("/key/info", "/models/x", "/ui/socket", "/governance/v1/health", "/config/update"):
        assert classify("WEBSOCKET", path) is RouteKind.UNGOVERNED
        assert classify("WEBSOCKET", path, ("/*", path[:-1] + "*")) is RouteKind.UNGOVERNED
    assert classify("WEBSOCKET", "/v1/realtime", ("/v1/realtime",)) is RouteKind.OPEN


@given(st.text(st.characters(blacklist_characters="\n"), min_size=1), st.sampled_from(["/models/", "/v1/models/"]))
def test_no_model_name_leads_to_googles_verbs(name: str, before: str) -> None:
    for verb in ("generateContent", "streamGenerateContent", "countTokens"):
        for method in ("POST", "PUT", "PATCH"):
            assert classify(method, f"{before}{name}:{verb}") is RouteKind.UNGOVERNED


def test_a_name_with_a_star_opens_only_what_begins_with_all_of_it() -> None:
    assert classify("POST", "/vertex_ai/x", ("/vertex_ai/*",)) is RouteKind.OPEN
    for name in ("/vertex_ai/y*", "/v1/*", "/vertex_ai", "*/vertex_ai/x", "/vertex_ai/x/*"):
        assert classify("POST", "/vertex_ai/x", (name,)) is RouteKind.UNGOVERNED


def test_policy_cannot_open_a_governed_route() -> None:
    assert classify("POST", "/v1/chat/completions", ("/v1/*", "/v1/chat/completions")) is RouteKind.GOVERNED


def test_a_websocket_is_refused_even_on_a_governed_path() -> None:
    assert classify("WEBSOCKET", "/v1/responses") is RouteKind.UNGOVERNED
    assert classify("WEBSOCKET", "/v1/realtime") is RouteKind.UNGOVERNED


def test_what_the_ui_lists_can_be_read_and_not_changed() -> None:
    for path in ("/v1/mcp/server", "/v1/agents", "/prompts/list"):
        assert classify("GET", path) is RouteKind.OPEN
        assert classify("POST", path) is RouteKind.UNGOVERNED


@given(st.text(min_size=1))
def test_no_suffix_turns_a_governed_route_into_an_open_one(suffix: str) -> None:
    assert classify("POST", "/v1/chat/completions" + suffix) is RouteKind.UNGOVERNED
    # Behind `/openai` it is LiteLLM's other spelling of it, and below /governance a route of ours.
    if not suffix.startswith("/governance"):
        assert classify("POST", suffix + "/v1/chat/completions") is not RouteKind.OPEN


@pytest.mark.parametrize(
    ("path", "call_type"),
    [
        ("/v1/chat/completions", "acompletion"),
        ("/chat/completions", "acompletion"),
        ("/openai/v1/responses", "aresponses"),
        ("/responses", "aresponses"),
        ("/engines/gpt-4o/chat/completions", "acompletion"),
        ("/openai/deployments/gpt-4o/completions", "atext_completion"),
        ("/openai/deployments/gpt-4o/embeddings", "aembedding"),
        ("/v1/messages", "anthropic_messages"),
        ("/v1/audio/transcriptions", None),
        ("/v1/v1/chat/completions", None),
        ("/x/v1/chat/completions", None),
    ],
)
def test_a_route_says_what_its_json_is(path: str, call_type: str | None) -> None:
    assert call_type_of(path) == call_type


SMALL = """
    GET,POST /things
    ANY /things/{id}/call
    GET /files/{where:path}/content
    PUT /a.b/{id}
    GET /a/{x}/b/{y:path}/c/{z}

    no-path
"""


def test_a_line_of_the_table_is_a_route_for_each_of_its_methods() -> None:
    assert list(entries(SMALL)) == [
        ("GET", "/things"),
        ("POST", "/things"),
        ("ANY", "/things/{id}/call"),
        ("GET", "/files/{where:path}/content"),
        ("PUT", "/a.b/{id}"),
        ("GET", "/a/{x}/b/{y:path}/c/{z}"),
    ]


def test_alternatives_in_a_line_of_the_table_are_a_route_each() -> None:
    assert list(entries("GET [/v1|]/files/{id}[/content|]\nANY /[a|b|c]")) == [
        ("GET", "/v1/files/{id}/content"),
        ("GET", "/v1/files/{id}"),
        ("GET", "/files/{id}/content"),
        ("GET", "/files/{id}"),
        ("ANY", "/a"),
        ("ANY", "/b"),
        ("ANY", "/c"),
    ]


def test_a_route_without_parameters_is_this_one_path_and_method() -> None:
    table = _Table(SMALL)
    assert table.names("GET", "/things")
    assert table.names("POST", "/things")
    assert not table.names("PUT", "/things")
    assert not table.names("DELETE", "/things")
    assert not table.names("GET", "/things/")
    assert table.has("/things")
    assert not table.has("/things/{id}/call")


@pytest.mark.parametrize(
    ("method", "path", "matches"),
    [
        ("GET", "/things/1/call", True),
        ("WHATEVER", "/things/1/call", True),
        ("GET", "/things//call", False),
        ("GET", "/things/1/2/call", False),
        ("GET", "/things/1/callx", False),
        ("GET", "/x/things/1/call", False),
        ("GET", "/things", False),
        ("GET", "/files/a/b/content", True),
        ("GET", "/files//content", True),
        ("GET", "/files/a\nb/content", True),
        ("GET", "/things/a\nb/call", True),
        ("POST", "/files/a/content", False),
        ("GET", "/a/1/b/2/3/c/4", True),
        ("GET", "/a/1/b/2/3/c/4/5", False),
        ("GET", "/a/1/1/b/2/c/4", False),
        ("PUT", "/a.b/1", True),
        ("PUT", "/axb/1", False),
        ("PUT", "/a.b/1/2", False),
    ],
)
def test_a_parameter_stands_for_one_part_of_a_path_and_a_path_for_any(method: str, path: str, matches: bool) -> None:
    assert _Table(SMALL).matches(method, path) is matches


def test_a_path_is_told_by_the_first_route_that_stands_for_it() -> None:
    templates = _Table(SMALL).templates
    assert [path for _, path in templates] == [
        "/things/{id}/call",
        "/files/{where:path}/content",
        "/a.b/{id}",
        "/a/{x}/b/{y:path}/c/{z}",
    ]
    for path, place in (("/things/x\ny/call", 0), ("/files/x\ny/z/content", 1), ("/a.b/c", 2)):
        assert [at for at, (pattern, _) in enumerate(templates) if pattern.fullmatch(path)] == [place]


@pytest.mark.parametrize(
    ("path", "template", "model"),
    [
        ("/v1/chat/completions", "/v1/chat/completions", None),
        ("/engines/gpt-4o/chat/completions", "/engines/{model}/chat/completions", "gpt-4o"),
        ("/openai/deployments/chat/chat/completions", "/openai/deployments/{model}/chat/completions", "chat"),
        ("/engines/engines/completions", "/engines/{model}/completions", "engines"),
        ("/openai/deployments/deployments/embeddings", "/openai/deployments/{model}/embeddings", "deployments"),
        ("/key/generate", "/key/generate", None),
        ("/config/update", "/config/update", None),
        ("/v1/models/x", "/v1/models/{model_id}", None),
        ("/team/t/callback", "/team/{team_id:path}/callback", None),
        ("/unheard-of", None, None),
    ],
)
def test_a_path_is_recorded_without_the_names_in_it(path: str, template: str | None, model: str | None) -> None:
    assert template_of(path) == template
    assert model_in(path) == model


@pytest.mark.parametrize(
    ("method", "path", "changes"),
    [
        ("POST", "/key/generate", True),
        ("PUT", "/access_group/a/budget", True),
        ("PATCH", "/model/some-id/update", True),
        ("GET", "/key/info", False),
        ("OPTIONS", "/key/generate", False),
        ("DELETE", "/access_group/a/delete", False),
        ("POST", "/governance/v1/decide", False),
        ("POST", "/config/update", False),
        ("POST", "/v1/messages/count_tokens", False),
        ("POST", "/v1/chat/completions", False),
    ],
)
def test_what_changes_litellms_state_is_known_by_its_method_and_route(method: str, path: str, changes: bool) -> None:
    assert is_management(method, path) is changes


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("OPTIONS", "/v1/chat/completions", RouteKind.OPEN),
        ("OPTIONS", "/unheard-of", RouteKind.OPEN),
        ("OPTIONS", "/config/update", RouteKind.OPEN),
        ("OPTIONS", "/plugin-proxy/a/b", RouteKind.UNGOVERNED),
        ("OPTIONS", "/mcp", RouteKind.UNGOVERNED),
        ("OPTIONS", "/mcp/", RouteKind.UNGOVERNED),
        ("GET", "/v1/chat/completions", RouteKind.UNGOVERNED),
        ("GET", "/", RouteKind.OPEN),
        ("POST", "/ui/x", RouteKind.UNGOVERNED),
        ("HEAD", "/ui/x", RouteKind.OPEN),
        ("GET", "/key/info//", RouteKind.UNGOVERNED),
        ("POST", "/governance", RouteKind.OPEN),
        ("POST", "/governances", RouteKind.UNGOVERNED),
        ("POST", "/v1/messages/count_tokens", RouteKind.OPEN),
        ("GET", "/v1/messages/count_tokens", RouteKind.UNGOVERNED),
    ],
)
def test_a_method_opens_no_more_than_it_has_to(method: str, path: str, kind: RouteKind) -> None:
    assert classify(method, path) is kind


@pytest.mark.parametrize("before", ["", "/v1", "/openai/v1"])
def test_stored_responses_are_governed_by_what_is_done_with_them(before: str) -> None:
    path = f"{before}/responses/resp_1"
    governed = {("GET", path), ("DELETE", path), ("POST", f"{path}/cancel"), ("GET", f"{path}/input_items")}
    for method in ("GET", "DELETE", "POST", "PUT", "PATCH", "HEAD"):
        for each in (path, f"{path}/cancel", f"{path}/input_items", f"{path}/other"):
            wanted = RouteKind.GOVERNED if (method, each) in governed else RouteKind.UNGOVERNED
            assert classify(method, each) is wanted, (method, each)
    assert template_of(path) == f"{before}/responses/{{response_id}}"
    assert template_of(f"{path}/input_items") == f"{before}/responses/{{response_id}}/input_items"
