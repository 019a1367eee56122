"""The check before bytes leave passes ordinary traffic of every route and bridge, and stops all else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.gateway import REPOSITORY, Gateway, config_with_upstream
from tests.support.postgres import Postgres
from tests.support.redis_server import Redis
from tests.support.upstream import Upstream

MAIL = "ada.lovelace@example.com"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "description": "Where, in the town's own words"}}}
LONG_NAME = "look_up_the_weather_of_a_town_by_its_name_in_the_language_of_its_people"
PATCH = {"syntax": "lark", "definition": 'start: "*** Begin Patch" /.+/'}
# The models that LiteLLM reaches in other APIs' words: by /responses alone, and by /chat/completions alone.
BRIDGED = {"up-responses": "openai/responses/gpt-4o", "up-codex": "openai/gpt-5-codex", "up-vllm": "hosted_vllm/llama"}
# And through a pattern, another name, and a stored credential.
NAMED = ("wild/gpt-4o", "up-alias", "up-stored", "up-home")
MODELS = ("up-chat", "up-claude", *BRIDGED, *NAMED)
HOME_KEY = "key-of-the-provider-at-home"
# What an operator may have a deployment add.
OWN: dict[str, Any] = {
    "model": "openai/gpt-4o",
    "tools": [{"type": "function", "function": {"name": "house_rules", "description": "As the house has it"}}],
    "extra_body": {"chat_template_kwargs": {"style": "of the house"}},
    "extra_headers": {"x-house": "ours"},
    "max_tokens": 900,
    "drop_params": True,
    "additional_drop_params": ["logit_bias"],
}


def chat(**fields: Any) -> dict[str, Any]:
    function = {"name": "get_weather", "description": "Says how it is", "parameters": SCHEMA, "strict": False}
    arguments = '{ "city" :  "Z\\u00fcrich" , "days": 1.0, "of": [null, {"a": "b c"}] }'
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    other = {"id": "call_2", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    parts = [
        {"type": "text", "text": "The first part, "},
        {"type": "text", "text": "and the second."},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    return {
        "max_tokens": 5,
        "temperature": 0.5,
        "user": "user-1",
        "metadata": {"project": "weather station"},
        "tools": [{"type": "function", "function": function}],
        "tool_choice": "auto",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": f"Write to {MAIL} über 😀, twice: {MAIL}"},
            {"role": "assistant", "content": "", "tool_calls": [call, other]},
            {"role": "tool", "tool_call_id": "call_1", "content": '{"deg":  21, "note": "a \\"warm\\" day"}'},
            {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "one"}]},
            {"role": "user", "content": parts},
            {"role": "assistant", "content": " It is\n\nwarm. "},
            {"role": "system", "content": "Now in French."},
            {"role": "user", "name": "Ada", "content": "And now?"},
        ],
        **fields,
    }


def messages(**fields: Any) -> dict[str, Any]:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    use = {
        "type": "tool_use",
        "id": "toolu_1",
        "name": LONG_NAME,
        "input": {"city": "Zürich", "of": [1.0, None, "x y"]},
    }
    other = {"type": "tool_use", "id": "toolu_2", "name": LONG_NAME, "input": {}}
    result = [{"type": "text", "text": "It is warm,"}, {"type": "text", "text": "they say."}, image]
    return {
        "max_tokens": 5,
        "metadata": {"user_id": "user-1"},
        "system": [{"type": "text", "text": "Be kind."}, {"type": "text", "text": "Be short."}],
        "tools": [{"name": LONG_NAME, "description": "Says how it is", "input_schema": SCHEMA}],
        "tool_choice": {"type": "auto"},
        "messages": [
            {"role": "user", "content": f"Write to {MAIL} über 😀"},
            {"role": "assistant", "content": [{"type": "text", "text": "I look. "}, {"type": "text", "text": "Now."}]},
            {"role": "user", "content": [{"type": "text", "text": "Do"}]},
            {"role": "assistant", "content": [use, other]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": result},
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_2",
                        "content": '{"a": "b \\"c\\""}',
                        "is_error": True,
                    },
                    {"type": "text", "text": "Go on"},
                    image,
                ],
            },
        ],
        **fields,
    }


def responses(**fields: Any) -> dict[str, Any]:
    format_ = {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": False}
    patch = {
        "type": "custom",
        "name": "apply_patch",
        "description": "Changes files",
        "format": {"type": "grammar", **PATCH},
    }
    look = {"type": "function", "name": "get_weather", "description": "Says how it is", "parameters": SCHEMA}
    texts = [{"type": "input_text", "text": "It is warm, "}, {"type": "input_text", "text": "they say."}]
    return {
        "max_output_tokens": 20,
        "instructions": "Be kind.",
        "user": "user-1",
        "metadata": {"project": "weather station"},
        "tools": [look, patch],
        "text": {"format": format_},
        "input": [
            {"role": "developer", "content": "Be short."},
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": f"Write to {MAIL} über 😀"},
                    {"type": "input_text", "text": "and then"},
                    {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
                ],
            },
            {
                "type": "function_call",
                "call_id": "call_1",
                "name": "get_weather",
                "arguments": '{ "city" :"Z\\u00fcrich"}',
            },
            {"type": "function_call_output", "call_id": "call_1", "output": '{"deg":  21, "note": "a \\"warm\\" day"}'},
            {"type": "function_call", "call_id": "call_2", "name": "get_weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_2", "output": texts},
            {"type": "custom_tool_call", "call_id": "call_3", "name": "apply_patch", "input": "*** Begin Patch\n+a"},
            {"type": "custom_tool_call_output", "call_id": "call_3", "output": "Done."},
            {"role": "assistant", "content": [{"type": "output_text", "text": "It is done."}]},
            {"role": "user", "content": "And now?"},
        ],
        **fields,
    }


ROUTES = {"/v1/chat/completions": chat, "/v1/messages": messages, "/v1/responses": responses}
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", {"model": "up-text", "prompt": f"Write to {MAIL}", "suffix": "and so on", "max_tokens": 5}),
    ("/v1/completions", {"model": "up-text", "prompt": ["Hello", "you there"], "n": 2, "best_of": 2, "max_tokens": 5}),
    ("/v1/completions", {"model": "up-chat", "prompt": "Hello", "max_tokens": 5, "stream": True}),
    ("/v1/completions", {"model": "up-claude", "prompt": "Hello you", "max_tokens": 5}),
    ("/v1/embeddings", {"model": "up-embedding", "input": ["a b", MAIL]}),
    ("/v1/moderations", {"model": "up-moderation", "input": f"Write to {MAIL}"}),
    ("/v1/images/generations", {"model": "up-image", "prompt": f"A letter to {MAIL}", "n": 2}),
    ("/v1/audio/speech", {"model": "up-speech", "input": f"Hi {MAIL}", "voice": "alloy", "instructions": "Slowly"}),
    ("/v1/chat/completions", {"model": "up-chat", "messages": [{"role": "user", "content": ""}], "n": 3}),
    ("/v1/chat/completions", {"model": "up-chat", "messages": [], "tools": [], "a_new_field": {"says": "new words"}}),
    ("/v1/chat/completions", {"model": "up-vllm", "messages": [{"role": "user", "content": "x"}], "new": ["a b"]}),
    ("/v1/chat/completions", {"model": "up-chat", "messages": [{"role": "user", "content": "x"}], "num_retries": 0}),
    ("/v1/chat/completions", {"model": "up-first", "messages": [{"role": "user", "content": "x"}], "timeout": 9}),
    ("/v1/chat/completions", {"model": "up-own", "messages": [{"role": "user", "content": "x"}]}),
    ("/v1/chat/completions", chat(model="up-own")),
    ("/v1/responses", {"model": "up-chat", "input": f"Write to {MAIL}", "stream": True}),
    ("/v1/responses", {"model": "up-claude", "input": "Hello you"}),
    ("/v1/chat/completions", {"model": "up-aiohttp", "messages": [{"role": "user", "content": f"Write to {MAIL}"}]}),
    ("/v1/embeddings", {"model": "up-sagemaker", "input": ["a b", MAIL]}),
]  # fmt: skip
_POLICY = """
version: 1
limits: {max_tokens_per_request: 500000, allow_unpriced_models: ["*"]}
pii: {mode: mask, entities: {EMAIL_ADDRESS: mask}}
"""


def started(
    postgres: Postgres,
    redis_server: Redis,
    upstream: Upstream,
    folder: Path,
    *,
    program: tuple[str, ...] = (),
    elsewhere: dict[str, str] | None = None,
) -> Gateway:
    path = config_with_upstream(upstream.url, folder)
    signs = {"aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": "an-example", "aws_region_name": "us-east-1"}
    signs["model"] = "sagemaker/endpoint"
    # It is nowhere, for what shares an address with a provider of this kind may have another key.
    from_thread: dict[str, Any] = {"model": "nlp_cloud/x", "api_key": HOME_KEY[::-1], "api_base": "http://127.0.0.1:9"}
    from_thread["drop_params"] = True
    config = yaml.safe_load(path.read_text())
    for name, model in BRIDGED.items():
        provider = {"model": model, "api_base": upstream.url, "api_key": "sk-upstream"}
        config["model_list"].append({"model_name": name, "litellm_params": provider})
    provider = {"api_base": upstream.url, "api_key": "sk-upstream"}
    config["model_list"] += [
        {"model_name": "wild/*", "litellm_params": {**provider, "model": "openai/*"}},
        {"model_name": "up-own", "litellm_params": {**provider, **OWN}},
        # Its address is the provider's own.
        {"model_name": "up-home", "litellm_params": {"model": "openai/gpt-4o", "api_key": HOME_KEY}},
        # LiteLLM does not send these with its own HTTP clients, and the last ones from other threads.
        {"model_name": "up-aiohttp", "litellm_params": {**provider, "model": "aiohttp_openai/gpt-4o"}},
        {"model_name": "up-sagemaker", "litellm_params": signs},
        {"model_name": "up-thread", "litellm_params": from_thread},
        {"model_name": "up-stored", "litellm_params": {"model": "openai/gpt-4o", "litellm_credential_name": "stored"}},
    ]
    config["credential_list"] = [{"credential_name": "stored", "credential_values": provider, "credential_info": {}}]
    config["router_settings"]["model_group_alias"] = {"up-alias": "up-chat"}
    if program:  # so that LiteLLM does not refuse what the edge would
        config["general_settings"]["allow_client_side_credentials"] = True
    path.write_text(yaml.safe_dump(config))
    policy = folder / "policy.yaml"
    policy.write_text(_POLICY)
    environ = {
        "GATEHOUSE_SETTLE_GRACE_SECONDS": "1",
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": HOME_KEY,
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": upstream.url,
        **(elsewhere or {}),
    }
    server = Gateway(postgres.create_database(), redis_server.port, config=path, policy=policy, environ=environ)
    if program:
        assert server.server.env is not None
        server.server.env["PYTHONPATH"] = str(REPOSITORY)
        server.server.command = [sys.executable, *program, *server.server.command[1:]]
    return server.start()


@pytest.fixture(scope="module")
def guarded(
    postgres: Postgres, redis_server: Redis, recording_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Start a gateway whose models LiteLLM reaches through every API."""
    server = started(postgres, redis_server, recording_upstream, tmp_path_factory.mktemp("guarded"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Upstream]:
    """Start a provider that no deployment names."""
    server = Upstream()
    yield server
    server.close()


@pytest.fixture(scope="module")
def unguarded(
    postgres: Postgres,
    redis_server: Redis,
    recording_upstream: Upstream,
    elsewhere: Upstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    """Start the same gateway without the edge's refusals."""
    folder = tmp_path_factory.mktemp("unguarded")
    program = ("-m", "tests.support.unguarded_gateway")
    environ = {"DEEPSEEK_API_BASE": elsewhere.url, "GATEHOUSE_TEST_BLIND": str(folder / "blind")}
    server = started(postgres, redis_server, recording_upstream, folder, program=program, elsewhere=environ)
    yield server
    server.close()


def stops(gateway: Gateway) -> list[str]:
    """Return what the log says of the last calls that were stopped."""
    return [
        line.split("was stopped", 1)[1] for line in gateway.output.read_text().splitlines() if "was stopped" in line
    ][-2:]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("route", ROUTES)
def test_ordinary_calls_pass_on_every_bridge(
    guarded: Gateway, upstream: Upstream, route: str, model: str, stream: bool
) -> None:
    with guarded.client() as client:
        answer = client.post(route, json=ROUTES[route](model=model, stream=stream))
    assert answer.status_code == 200, (stops(guarded), answer.text)
    assert len(upstream.requests) == 1
    assert MAIL not in upstream.received


@pytest.mark.parametrize(("route", "body"), OTHERS)
def test_ordinary_calls_pass_on_every_route(
    guarded: Gateway, upstream: Upstream, route: str, body: dict[str, Any]
) -> None:
    with guarded.client() as client:
        answer = client.post(route, json=body)
    assert answer.status_code == 200, (stops(guarded), answer.text)
    assert MAIL not in upstream.received


def test_a_file_to_be_transcribed_passes(guarded: Gateway, upstream: Upstream) -> None:
    form = {"model": "up-transcription", "prompt": "Names: Ada", "timestamp_granularities[]": "word"}
    with guarded.client() as client:
        answer = client.post("/v1/audio/transcriptions", data=form, files={"file": ("a.wav", b"RIFF")})
    assert answer.status_code == 200, answer.text
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_fallback_that_the_operator_configured_passes(
    guarded: Gateway, upstream: Upstream, route: str, stream: bool
) -> None:
    def well_from_the_second_on() -> None:
        upstream.status = 200 if len(upstream.requests) > 1 else 500

    upstream.status = 500
    upstream.on_request = well_from_the_second_on
    with guarded.client() as client:
        answer = client.post(route, json=ROUTES[route](model="up-first", stream=stream))
    assert answer.status_code == 200, answer.text
    assert len(upstream.requests) == 2


def test_the_command_line_of_the_unguarded_gateway_is_the_same(unguarded: Gateway, upstream: Upstream) -> None:
    """Without this its stops would prove nothing."""
    with unguarded.client() as client:
        assert client.post("/v1/chat/completions", json=chat(model="up-chat")).status_code == 200
    assert len(upstream.requests) == 1


SECRET = "the xylophone is in the cellar"
TELLS = [{"role": "user", "content": SECRET}]
HELLO = [{"role": "user", "content": "hello"}]
EXTRA_TOOL = {"type": "function", "function": {"name": "wire_money", "parameters": {"type": "object"}}}


def falls_back(**fields: Any) -> dict[str, Any]:
    """Return a request whose first model fails, so that LiteLLM calls another one with fields of the caller's."""
    return {"router_settings_override": {"fallbacks": [{"up-first": [{"model": "up-chat", **fields}]}]}}


# Each passes LiteLLM's own checks and the stages, and changes what is sent.
BREAKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a fallback's messages": ("text", "up-first", falls_back(messages=TELLS)),
    "a fallback's length": ("limits", "up-first", falls_back(max_tokens=90_000) | {"max_tokens": 5}),
    "a fallback's other length": ("limits", "up-first", falls_back(max_completion_tokens=90_000) | {"max_tokens": 5}),
    "a fallback's choices": ("limits", "up-first", falls_back(n=90)),
    "a fallback's tools": ("tools", "up-first", falls_back(tools=[EXTRA_TOOL])),
    "a fallback's headers": ("deployment", "up-first", falls_back(extra_headers={"x": SECRET})),
    "a fallback's body": ("extra_body", "up-first", falls_back(extra_body={"messages": TELLS})),
    "a fallback's new field": ("text", "up-first", falls_back(extra_body={"a_new_field": SECRET})),
    "a fallback's provider": ("deployment", "up-first", falls_back(custom_llm_provider="deepseek")),
    "another provider": ("controls", "up-chat", {"custom_llm_provider": "deepseek"}),
    "messages in extra_body": ("extra_body", "up-chat", {"extra_body": {"messages": TELLS}}),
    "tools in extra_body": ("extra_body", "up-chat", {"extra_body": {"tools": [EXTRA_TOOL]}}),
    "length in extra_body": ("extra_body", "up-chat", {"extra_body": {"max_tokens": 90_000}, "max_tokens": 5}),
    "temperature in extra_body": ("extra_body", "up-chat", {"extra_body": {"temperature": 2}}),
    "no bound": ("controls", "up-chat", {"additional_drop_params": ["max_tokens"], "max_tokens": 5}),
    "headers": ("controls", "up-chat", {"headers": {"authorization": f"Bearer {SECRET}"}}),
    "a provider's headers": ("controls",
        "up-chat",
        {"provider_specific_header": {"custom_llm_provider": "openai", "extra_headers": {"x": SECRET}}},
    ),
    "another key": ("controls", "up-chat", {"api_key": SECRET}),
    "an organization": ("controls", "up-chat", {"organization": SECRET}),
    "a session": ("controls", "up-chat", {"session_id": SECRET}),
}  # fmt: skip


@pytest.mark.parametrize("case", BREAKS)
def test_what_was_not_admitted_is_stopped(unguarded: Gateway, upstream: Upstream, case: str) -> None:
    place, model, fields = BREAKS[case]
    if model == "up-first":
        upstream.status = 500
    with unguarded.client() as client:
        answer = client.post("/v1/chat/completions", json={"model": model, "messages": HELLO, **fields})
    assert SECRET not in upstream.received
    assert "wire_money" not in upstream.received
    sent = [json.loads(body) for _, body in upstream.requests]
    assert all(body.get("max_tokens", 0) <= 5 and body.get("n", 1) == 1 for body in sent)
    assert len(sent) == (1 if model == "up-first" else 0), answer.text
    assert (answer.status_code, answer.headers.get("x-should-retry")) == (500, "false"), answer.text
    assert answer.json()["error"]["code"] == "egress_mismatch"
    unguarded.wait_settled()
    [line] = unguarded.lines_of(answer.headers["x-gatehouse-call-id"])
    assert line["data"]["error"] == "egress_mismatch"
    assert f"({place})" in stops(unguarded)[-1]
    assert SECRET not in unguarded.output.read_text()


def test_a_form_says_no_more_than_was_admitted(unguarded: Gateway, upstream: Upstream) -> None:
    for fields in ({}, {"custom_llm_provider": "deepseek"}, {"organization": SECRET}, {"max_retries": "9"}):
        upstream.requests.clear()
        with unguarded.client() as client:
            form = {"model": "up-transcription", **fields}
            answer = client.post("/v1/audio/transcriptions", data=form, files={"file": ("a.wav", b"RIFF")})
        assert (answer.status_code, len(upstream.requests)) == ((500, 0) if fields else (200, 1)), answer.text
        assert ("egress_mismatch" in answer.text) is bool(fields)


@pytest.fixture
def blind(unguarded: Gateway) -> Iterator[Gateway]:
    """Switch off the check in LiteLLM's hook too, so that only the HTTP transport checks."""
    marker = Path(unguarded.server.env["GATEHOUSE_TEST_BLIND"])
    marker.touch()
    yield unguarded
    marker.unlink()


# Each has LiteLLM send a call to another host, or with another credential; LiteLLM's own defence is off too.
MISDIRECTED: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "another provider": ("credential", "/v1/chat/completions", "up-home", {"custom_llm_provider": "deepseek"}),
    "another key": (
        "credential",
        "/v1/chat/completions",
        "up-chat",
        {"headers": {"authorization": f"Bearer {SECRET}"}},
    ),
    "another host": ("credential", "/v1/chat/completions", "up-chat", {"api_base": ""}),
    "its bridge": ("credential", "/v1/messages", "up-chat", {"api_base": ""}),
    "another host, its own key": ("host", "/v1/chat/completions", "up-chat", {"api_base": "", "api_key": SECRET}),
    "in Anthropic's words": ("host", "/v1/messages", "up-claude", {"api_base": "", "api_key": SECRET}),
    "by another library": ("host", "/v1/chat/completions", "up-aiohttp", {"api_base": "", "api_key": SECRET}),
    "from another thread": ("credential", "/v1/chat/completions", "up-thread", {"api_base": "", "messages": HELLO}),
}


@pytest.mark.parametrize("case", MISDIRECTED)
def test_nothing_goes_to_another_host_or_with_another_credential(
    blind: Gateway, upstream: Upstream, elsewhere: Upstream, case: str
) -> None:
    place, route, model, fields = MISDIRECTED[case]
    elsewhere.reset()
    if "api_base" in fields:
        fields = fields | {"api_base": elsewhere.url}
    with blind.client() as client:
        answer = client.post(route, json=ROUTES[route](model=model, **fields))
    assert (elsewhere.requests, upstream.requests) == ([], []), answer.text
    assert (answer.status_code, answer.headers.get("x-should-retry")) == (500, "false"), answer.text
    assert "egress_mismatch" in answer.text
    assert f"({place})" in stops(blind)[-1]
    assert SECRET not in blind.output.read_text()


@pytest.mark.parametrize("status", [302, 307, 308])
@pytest.mark.parametrize("model", ["up-chat", "up-claude", "up-aiohttp"])
def test_a_provider_cannot_send_a_call_elsewhere(
    guarded: Gateway, upstream: Upstream, elsewhere: Upstream, model: str, status: int
) -> None:
    elsewhere.reset()
    upstream.status, upstream.location = status, f"{elsewhere.url}/anywhere"
    with guarded.client() as client:
        answer = client.post("/v1/chat/completions", json={"model": model, "messages": HELLO})
    assert answer.status_code >= 500, answer.text
    assert elsewhere.requests == []


@pytest.mark.parametrize("breaks", ["cut", "ends"])
@pytest.mark.parametrize("route", ROUTES)
def test_a_stream_that_breaks_goes_on_with_another_model_as_it_did(
    guarded: Gateway, upstream: Upstream, route: str, breaks: str
) -> None:
    def whole_from_the_second_on() -> None:
        upstream.breaks = None if len(upstream.requests) > 1 else breaks

    upstream.on_request = whole_from_the_second_on
    with guarded.client() as client:
        answer = client.post(route, json=ROUTES[route](model="up-first", stream=True))
    assert "egress_mismatch" not in answer.text
